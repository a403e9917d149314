//! Our client, aimed at a server of wiremock's.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails loudly"
)]

use remora::config::{Consul, ConsulAddress, ConsulTls, Token};
use remora::consul::Client;
use wiremock::MockServer;

/// Plain HTTP at a port of the loopback.
pub fn at(port: u16) -> ConsulAddress {
    ConsulAddress::Url { tls: false, host: "127.0.0.1".to_owned(), port, prefix: String::new() }
}

/// The address of a server.
pub fn web(server: &MockServer) -> ConsulAddress {
    at(server.address().port())
}

/// A configuration with nothing but an address.
pub fn config(address: ConsulAddress) -> Consul {
    Consul {
        address,
        others: Vec::new(),
        token: Token::None,
        auth: None,
        tls: ConsulTls::default(),
        namespace: None,
        partition: None,
    }
}

/// A client with nothing but an address.
pub fn client(server: &MockServer) -> Client {
    Client::new(&config(web(server))).expect("a good configuration")
}
