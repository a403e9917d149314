//! Three real servers as one cluster: the leader dies.

use std::net::Ipv4Addr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use remora::consul::{KvStore, Store};

use crate::client_of;
use crate::consul_wire::at;
use crate::support::{binary, ports};

struct Server {
    http: u16,
    raft: u16,
    child: Child,
    _data: tempfile::TempDir,
}

impl Server {
    fn start(name: &str, serf: u16, join: u16) -> Self {
        let (http, server) = (ports::free_port(), ports::free_port());
        let data = tempfile::tempdir().unwrap();
        let ports = format!(
            "ports {{ http = {http} https = -1 grpc = -1 dns = -1 serf_lan = {serf} serf_wan = -1 server = {server} }}"
        );
        let child = Command::new(binary())
            .args(["agent", "-server", "-bootstrap-expect", "3", "-node", name, "-bind", "127.0.0.1"])
            .args(["-client", "127.0.0.1", "-data-dir"])
            .arg(data.path())
            .args(["-retry-join", &format!("{}:{join}", Ipv4Addr::LOCALHOST), "-retry-interval", "1s"])
            .args(["-hcl", &ports, "-hcl", "disable_update_check = true performance { raft_multiplier = 1 }"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { http, raft: server, child, _data: data }
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _dead_already = self.child.kill();
        let _reaped_already = self.child.wait();
    }
}

#[tokio::test]
async fn when_the_leader_dies_the_others_are_used() {
    let serf: Vec<u16> = (0..3).map(|_| ports::free_port()).collect();
    let mut servers: Vec<Server> =
        serf.iter().enumerate().map(|(at, port)| Server::start(&format!("s{at}"), *port, serf[0])).collect();
    let any = client_of(servers.iter().map(|server| at(server.http)));
    let store = KvStore::new(any.clone());
    let limit = Instant::now() + Duration::from_secs(60);
    while store.put("probe", b"0").await.is_err() {
        assert!(Instant::now() < limit, "no leader");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let leader = any.leader().await.unwrap().unwrap();
    let place = servers.iter().position(|server| leader.ends_with(&format!(":{}", server.raft))).unwrap();
    // The leader first, so that it is the one in use.
    servers.rotate_left(place);
    let store = KvStore::new(client_of(servers.iter().map(|server| at(server.http))));
    store.put("probe", b"1").await.unwrap();

    servers[0].kill();
    let killed = Instant::now();
    let mut failed = 0;
    while let Err(error) = store.put("probe", b"2").await {
        failed += 1;
        assert!(killed.elapsed() < Duration::from_secs(60), "{error}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let until_written = killed.elapsed();
    assert_eq!(store.get("probe").await.unwrap().unwrap().value, b"2");
    println!("a write succeeded {until_written:?} after the leader's death, {failed} calls failed before");

    // One more: no quorum, and each call says so instead of hanging.
    servers[1].kill();
    let error = store.put("probe", b"3").await.unwrap_err();
    assert!(error.is_of_the_server(), "{error:?}");
}
