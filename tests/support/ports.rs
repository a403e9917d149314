//! Ports for what a test starts.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails loudly")]

use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};

/// A port of the loopback interface that is free for TCP and UDP, and that nothing takes until the test does.
///
/// Not one that the system chooses: those come from the same range as the ports of outgoing connections and as the ones that
/// the engine publishes at random, and any of these may have it by the time the program under test listens.
pub fn free_port() -> u16 {
    // Below the systems' ranges of ephemeral ports (Linux 32768, IANA 49152), above what services usually have.
    const RANGE: std::ops::Range<u32> = 12_000..32_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let size = RANGE.end - RANGE.start;
    // Processes that run side by side begin at different places.
    let begin = std::process::id().wrapping_mul(97) % size;
    for _ in 0..size {
        let offset = (begin + NEXT.fetch_add(1, Ordering::Relaxed)) % size;
        let port = u16::try_from(RANGE.start + offset).unwrap();
        let address = (Ipv4Addr::LOCALHOST, port);
        if TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok() {
            return port;
        }
    }
    panic!("no port of the loopback from {} to {} is free for both TCP and UDP", RANGE.start, RANGE.end);
}
