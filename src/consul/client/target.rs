//! One address of Consul's, and the connections to it.

use std::net::IpAddr;
use std::time::Duration;

use reqwest::{ClientBuilder, Url};

use super::causes;
use super::setup::ClientError;
use crate::config::{ConsulAddress, ConsulTls};
use crate::consul::tls;

/// Connecting on a node or within a site takes milliseconds; after this long nobody is there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Notices a peer that vanished without a word under a blocking query.
const KEEPALIVE: Duration = Duration::from_secs(20);
/// Longer than the few seconds between two looks, so that these reuse their connection.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// More than the bounded concurrency of the writes would only hold memory: Consul allows 200 connections per address.
const IDLE_CONNECTIONS: usize = 8;

/// One address, and a pool of connections. Names are resolved for each new connection, so that a changed DNS entry is followed:
/// reqwest keeps no answers of the resolver's.
pub(super) struct Target {
    pub(super) http: reqwest::Client,
    base: Url,
    /// As the operator wrote it, for errors.
    pub(super) address: String,
}

impl Target {
    /// `http`: connections of another address that can be used for this one, since the pool tells hosts apart. Everything that is
    /// wrong is written down.
    pub(super) fn new(
        at: &ConsulAddress,
        tls: &ConsulTls,
        http: Option<reqwest::Client>,
        errors: &mut Vec<ClientError>,
    ) -> Option<Self> {
        let mut wrong = Vec::new();
        let address = at.to_string();
        let (builder, base) = match at {
            ConsulAddress::Unix(path) => {
                (tls::without_tls(builder()).unix_socket(path.as_path()), "http://localhost".to_owned())
            }
            ConsulAddress::Url { tls: false, .. } => (tls::without_tls(builder()), address.clone()),
            // What was wrong with its settings has been told.
            ConsulAddress::Url { .. } if http.is_some() => (builder(), address.clone()),
            ConsulAddress::Url { tls: true, host, port, prefix } => {
                let builder = tls::with_tls(builder(), tls, &mut wrong);
                match &tls.server_name {
                    None => (builder, address.clone()),
                    Some(name) if is_dns_name(name) => {
                        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
                        (builder.dns_resolver(tls::Towards { host }), format!("https://{name}:{port}{prefix}"))
                    }
                    Some(name) => {
                        wrong.push(ClientError::ServerName(name.clone()));
                        (builder, address.clone())
                    }
                }
            }
        };
        let base = Url::parse(&base).ok().filter(Url::has_host);
        if base.is_none() {
            wrong.push(ClientError::Address(address.clone()));
        }
        // What is left out of it because it is wrong would only be told once more, in other words.
        let http = match http {
            _ if !wrong.is_empty() => None,
            Some(http) => Some(http),
            None => builder.build().map_err(|error| wrong.push(setup(at, tls, error))).ok(),
        };
        errors.extend(wrong);
        Some(Self { http: http?, base: base?, address })
    }

    /// The URL of a call.
    pub(super) fn url(&self, path: &[&str], query: &[(&str, &str)], scope: &[(&'static str, String)]) -> Url {
        let mut url = self.base.clone();
        // A URL with a host, which `base` is, can always be a base.
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        if !(query.is_empty() && scope.is_empty()) {
            url.query_pairs_mut().extend_pairs(query).extend_pairs(scope);
        }
        url
    }
}

fn builder() -> ClientBuilder {
    reqwest::Client::builder()
        .user_agent(concat!("remora/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_max_idle_per_host(IDLE_CONNECTIONS)
        .tcp_keepalive(KEEPALIVE)
        // `http_proxy` of the environment is for the world outside; reqwest would use it even for the loopback.
        .no_proxy()
        // A redirect would carry the token to another host.
        .redirect(reqwest::redirect::Policy::none())
}

/// A name that can be asked for in TLS (an address cannot) and stand in a URL.
fn is_dns_name(name: &str) -> bool {
    !(name.is_empty() || name.parse::<IpAddr>().is_ok() || name.contains(['/', ':', '@', '[', ' ']))
}

fn setup(at: &ConsulAddress, tls: &ConsulTls, error: reqwest::Error) -> ClientError {
    let mut reason = causes(error);
    // An image from scratch has no authorities, and nobody would guess that from the words above.
    if matches!(at, ConsulAddress::Url { tls: true, .. }) && tls::needs_system_authorities(tls) {
        reason.push_str(" (CONSUL_CACERT or CONSUL_CAPATH name the authority of Consul's certificate)");
    }
    ClientError::Setup { address: at.to_string(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(prefix: &str, path: &[&str], query: &[(&str, &str)], scope: &[(&'static str, String)]) -> String {
        tls::install_provider();
        let at = ConsulAddress::Url { tls: false, host: "[::1]".to_owned(), port: 8500, prefix: prefix.to_owned() };
        let target = Target::new(&at, &ConsulTls::default(), None, &mut Vec::new()).unwrap();
        target.url(path, query, scope).to_string()
    }

    #[test]
    fn an_id_is_one_segment_of_the_path_whatever_it_holds() {
        assert_eq!(
            url("/consul", &["v1", "agent", "service", "deregister", "n:a/b?c#d%e ü:80"], &[], &[]),
            "http://[::1]:8500/consul/v1/agent/service/deregister/n:a%2Fb%3Fc%23d%25e%20%C3%BC:80"
        );
    }

    #[test]
    fn namespace_and_partition_go_with_every_request() {
        let scope = [("ns", "team a".to_owned()), ("partition", "p".to_owned())];
        let path = ["v1", "agent", "services"];
        assert_eq!(url("", &path, &[], &scope), "http://[::1]:8500/v1/agent/services?ns=team+a&partition=p");
        assert_eq!(
            url("", &path, &[("wait", "10s")], &scope),
            "http://[::1]:8500/v1/agent/services?wait=10s&ns=team+a&partition=p"
        );
    }
}
