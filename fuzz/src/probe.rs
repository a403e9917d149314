//! What a service answers to a probe, byte by byte: the first line of an input says how it is asked (`http`, `head`, `grpc`, `tcp`),
//! the rest is what comes back before the connection ends.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use remora::config::ConsulTls;
use remora::consul::registry::OUTPUT_LIMIT;
use remora::consul::{Check, CheckKind, Probe, Status};
use remora::probe::{Answer, Ask as _, Asker};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

/// Far more than it takes; what needs it waits for something that does not come.
const TIMEOUT: Duration = Duration::from_secs(8);

struct Bed {
    runtime: Runtime,
    address: SocketAddr,
    says: Arc<Mutex<Vec<u8>>>,
    asker: Asker,
}

thread_local! {
    static BED: Bed = bed();
}

fn bed() -> Bed {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let listener = runtime.block_on(async { TcpListener::bind("127.0.0.1:0").await }).unwrap();
    let address = listener.local_addr().unwrap();
    let says = Arc::new(Mutex::new(Vec::new()));
    let answer = Arc::clone(&says);
    runtime.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let answer = answer.lock().unwrap().clone();
            tokio::spawn(serve(stream, answer));
        }
    });
    Bed { runtime, address, says, asker: Asker::new(ConsulTls::default()) }
}

async fn serve(mut stream: TcpStream, answer: Vec<u8>) {
    let mut request = [0; 4096];
    let _asked = stream.read(&mut request).await;
    let _said = stream.write_all(&answer).await;
    let _over = stream.shutdown().await;
    while stream.read(&mut request).await.is_ok_and(|count| count > 0) {}
}

pub fn run(data: &[u8]) {
    let at = data.iter().position(|&byte| byte == b'\n').unwrap_or(data.len());
    let (way, says) = (&data[..at], data.get(at + 1..).unwrap_or_default());
    BED.with(|bed| {
        let Some(kind) = kind(way, bed.address) else { return };
        says.clone_into(&mut bed.says.lock().unwrap());
        let check = check(kind);
        let first = bed.runtime.block_on(bed.asker.ask(&check));
        judge(way, says, &first);
    });
}

fn kind(way: &[u8], address: SocketAddr) -> Option<CheckKind> {
    let (probe, tls) = (Probe { interval: TIMEOUT, timeout: Some(TIMEOUT) }, Default::default());
    let http = |method: Option<&str>| CheckKind::Http {
        url: format!("http://{address}/health?x=1"),
        method: method.map(str::to_owned),
        headers: BTreeMap::new(),
        body: None,
        probe,
        tls,
    };
    Some(match way {
        b"http" => http(None),
        b"head" => http(Some("HEAD")),
        b"tcp" => CheckKind::Tcp { address: address.to_string(), probe },
        b"grpc" => {
            CheckKind::Grpc { target: format!("{address}/a.Service"), use_tls: false, probe, tls: Default::default() }
        }
        _ => return None,
    })
}

fn check(kind: CheckKind) -> Check {
    Check {
        id: "n1:web:80:http".into(),
        name: "http".into(),
        notes: "".into(),
        kind: Arc::new(kind),
        status: Status::Critical,
        output: "".into(),
        deregister_after: None,
        success_before_passing: 0,
        failures_before_critical: 0,
    }
}

fn judge(way: &[u8], says: &[u8], answer: &Answer) {
    assert!(!answer.timed_out, "an answer that has ended is waited for: {answer:?}");
    assert!(!answer.output.is_empty() && answer.output.len() <= OUTPUT_LIMIT, "{} bytes", answer.output.len());
    let holds = |needle: &[u8]| says.windows(needle.len()).any(|window| window == needle);
    match way {
        b"tcp" => assert_eq!(answer.status, Status::Passing, "{answer:?}"),
        b"grpc" => {
            // Nothing passes without a message that says so: field 1, a number, SERVING.
            assert!(answer.status != Status::Passing || holds(&[1]), "{answer:?}");
            assert!(answer.status != Status::Warning, "{answer:?}");
        }
        _ => {
            let good = [b" 2".as_slice()].iter().any(|needle| holds(needle)) && holds(b"HTTP/1.");
            assert!(answer.status != Status::Passing || good, "{answer:?}");
            assert!(answer.status != Status::Warning || holds(b" 429"), "{answer:?}");
        }
    }
}
