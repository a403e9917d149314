//! The network of the cluster: a switch, and hosts that are connected to it by links that can be cut, slowed and made lossy.
//!
//! All of it is in network namespaces of this test. The one thing in the machine's own is the end of a link to the switch, so that
//! the test can ask the servers; it disappears with the switch.

use std::net::Ipv4Addr;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

use crate::support::netns::Namespace;

/// The switch.
pub struct Net {
    switch: Namespace,
    /// Third number of all addresses.
    third: u8,
}

/// A host: a namespace with one link.
pub struct Host {
    pub namespace: Arc<Namespace>,
    pub address: Ipv4Addr,
    /// The switch's end of its link.
    port: String,
}

impl Net {
    /// A network that no other one on this machine has.
    pub fn new() -> Self {
        // Between the look at what is taken and the taking nobody else may do the same.
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let switch = Namespace::new();
        let third = (0..=u8::MAX)
            .map(|number| number.wrapping_add(std::process::id().to_le_bytes()[0]))
            .find(|third| !routes().contains(&format!("10.213.{third}.")))
            .expect("a network is free");
        switch.sh("ip link add name lan type bridge; ip link set lan up");
        let (own, pid) = (format!("remora{third}"), std::process::id());
        switch.sh(&format!("ip link add own type veth peer name {own} netns {pid}; ip link set own master lan up"));
        let address = format!("ip address add 10.213.{third}.254/24 dev {own} && ip link set {own} up");
        let done = Command::new("sh").args(["-ec", &address]).status().unwrap();
        assert!(done.success(), "{address}");
        Self { switch, third }
    }

    /// The machine's own address in it: whoever listens there is reached by all hosts.
    pub const fn own(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 213, self.third, 254)
    }

    /// One more host, with this last number of its address.
    pub fn host(&self, last: u8) -> Host {
        let namespace = Namespace::new();
        let address = Ipv4Addr::new(10, 213, self.third, last);
        let port = format!("to{last}");
        let pid = namespace.pid();
        self.switch
            .sh(&format!("ip link add {port} type veth peer name eth0 netns {pid}; ip link set {port} master lan up"));
        namespace.sh(&format!("ip address add {address}/24 dev eth0; ip link set eth0 up"));
        Host { namespace: Arc::new(namespace), address, port }
    }

    /// Nothing passes between this host and all others, or everything again.
    pub fn cut(&self, host: &Host, cut: bool) {
        self.switch.sh(&format!("ip link set {} {}", host.port, if cut { "down" } else { "up" }));
    }
}

impl Host {
    /// So many of a hundred packets that come in are lost.
    pub fn lossy(&self, percent: u32) {
        self.namespace.sh(
            "iptables -D INPUT -i eth0 -j LOSS 2>/dev/null || true; iptables -F LOSS 2>/dev/null || iptables -N LOSS",
        );
        if percent > 0 {
            let probability = f64::from(percent) / 100.0;
            self.namespace.sh(&format!(
                "iptables -A LOSS -m statistic --mode random --probability {probability} -j DROP; iptables -I INPUT -i eth0 -j LOSS"
            ));
        }
    }

    /// Its link carries so many kilobits a second, or as many as it likes.
    pub fn slow(&self, kilobits: Option<u32>) {
        self.namespace.sh("tc qdisc del dev eth0 root 2>/dev/null || true");
        if let Some(kilobits) = kilobits {
            self.namespace
                .sh(&format!("tc qdisc add dev eth0 root tbf rate {kilobits}kbit burst 16kbit latency 400ms"));
        }
    }
}

fn routes() -> String {
    let output = Command::new("ip").args(["-4", "route", "show"]).output().expect("ip");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
