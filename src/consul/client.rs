//! Transport to Consul's HTTP API: address, authentication, time-outs, bounded bodies, error classes.
//!
//! One HTTP/1.1 client for everything. A blocking query keeps its own connection there, so a write never waits behind one
//! (that is only so with HTTP/2, whose streams share a connection and are limited).

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Response, StatusCode, Url};

use super::classify::{classify, clean};
use super::error::ConsulError;
use super::tls;
use super::token::TokenSource;
use crate::config::{self, ConfigError, ConsulAddress};

/// Connecting on a node or within a site takes milliseconds; after this long nobody is there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Consul itself holds a call for up to 7 s while it has no leader (`rpc_hold_timeout`).
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// Notices a peer that vanished without a word under a blocking query.
const KEEPALIVE: Duration = Duration::from_secs(20);
/// Longer than the few seconds between two looks, so that these reuse their connection.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// More than the bounded concurrency of the writes would only hold memory: Consul allows 200 connections per address.
const IDLE_CONNECTIONS: usize = 8;
/// Two hundred times the list of 300 services.
const BODY_LIMIT: usize = 32 << 20;
/// Of an error only the first words are kept.
const ERROR_LIMIT: usize = 64 << 10;

const TOKEN_HEADER: HeaderName = HeaderName::from_static("x-consul-token");

/// Why no client can be made of the configuration. Never holds a secret.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum ClientError {
    /// A file or folder of the configuration cannot be used.
    #[error("{name}={}: expected {expected}, but it {reason}", path.display())]
    File {
        /// The variable.
        name: &'static str,
        /// Its value.
        path: PathBuf,
        /// What would be right.
        expected: &'static str,
        /// What is wrong: `cannot be read: …`, `holds no certificate`.
        reason: String,
    },
    /// The token has characters that no header can carry.
    #[error("CONSUL_HTTP_TOKEN: has control characters or line breaks; expected an ACL token")]
    Token,
    /// The server name is none.
    #[error("CONSUL_TLS_SERVER_NAME={0}: expected {SERVER_NAME}")]
    ServerName(String),
    /// The address cannot be part of a URL.
    #[error("CONSUL_HTTP_ADDR={0}: expected {ADDRESS}")]
    Address(String),
    /// The TLS set-up as a whole is not usable.
    #[error("no connection to {address} can be set up: {reason}")]
    Setup {
        /// The address from the configuration.
        address: String,
        /// The innermost causes.
        reason: String,
    },
}

impl From<ClientError> for ConfigError {
    fn from(error: ClientError) -> Self {
        let (name, value, expected) = match error {
            ClientError::File { name, path, expected, reason } => {
                (name, path.display().to_string(), format!("{expected}, but it {reason}"))
            }
            ClientError::Token => (
                "CONSUL_HTTP_TOKEN",
                "(secret)".to_owned(),
                "an ACL token, without control characters and line breaks".to_owned(),
            ),
            ClientError::ServerName(name) => ("CONSUL_TLS_SERVER_NAME", name, SERVER_NAME.to_owned()),
            ClientError::Address(address) => ("CONSUL_HTTP_ADDR", address, ADDRESS.to_owned()),
            ClientError::Setup { address, reason } => {
                ("CONSUL_HTTP_ADDR", address, format!("settings of TLS that can be used, but: {reason}"))
            }
        };
        Self { name: name.to_owned(), value, expected }
    }
}

const SERVER_NAME: &str = "a DNS name, for example server.dc1.consul";
const ADDRESS: &str = "http://host:port, https://host:port or unix:///path";

/// A way to one Consul. Clones share connections and token.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
    timeout: Duration,
}

struct Shared {
    http: reqwest::Client,
    base: Url,
    /// The address as the operator wrote it, for errors.
    address: String,
    token: TokenSource,
    auth: Option<(String, config::Secret)>,
    /// `ns` and `partition`.
    scope: Vec<(&'static str, String)>,
}

/// One request. Paths are given as segments, so that an id with a slash in it stays one segment.
pub(super) struct Call<'a> {
    /// What errors call it: `PUT /v1/agent/service/register`.
    pub(super) name: &'static str,
    pub(super) method: Method,
    pub(super) path: &'a [&'a str],
    pub(super) query: &'a [(&'a str, &'a str)],
    pub(super) body: Option<Vec<u8>>,
    /// How long Consul may hold the answer back on purpose (a blocking query).
    pub(super) held: Duration,
    /// A 404 is an answer like any other, with its headers.
    pub(super) may_be_missing: bool,
    /// So are a 409 and a 413.
    pub(super) may_be_refused: bool,
}

impl<'a> Call<'a> {
    pub(super) fn get(name: &'static str, path: &'a [&'a str]) -> Self {
        Self {
            name,
            method: Method::GET,
            path,
            query: &[],
            body: None,
            held: Duration::ZERO,
            may_be_missing: false,
            may_be_refused: false,
        }
    }

    pub(super) fn put(name: &'static str, path: &'a [&'a str], body: Option<Vec<u8>>) -> Self {
        Self { method: Method::PUT, body, ..Self::get(name, path) }
    }
}

/// A good (2xx) answer, or a 404, 409 or 413 where that is one.
pub(super) struct Answer {
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
    /// It was a 404.
    pub(super) missing: bool,
    /// HTTP status.
    pub(super) status: u16,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("address", &self.shared.address).finish_non_exhaustive()
    }
}

impl Client {
    /// Makes a client. Reads certificates and token file; does not connect.
    ///
    /// # Errors
    /// The first of [`Client::checked`]'s.
    pub fn new(config: &config::Consul) -> Result<Self, ClientError> {
        Self::checked(config).map_err(|errors| {
            // There is always one.
            errors.into_iter().next().unwrap_or_else(|| ClientError::Address(config.address.to_string()))
        })
    }

    /// [`Client::new`] that tells everything that is wrong, at once.
    ///
    /// # Errors
    /// Each names the variable whose value cannot be used. Shows no secret.
    pub fn checked(config: &config::Consul) -> Result<Self, Vec<ClientError>> {
        tls::install_provider();
        let mut errors = Vec::new();
        let token = TokenSource::new(&config.token).map_err(|error| errors.push(error)).ok();
        let address = config.address.to_string();
        let builder = reqwest::Client::builder()
            .user_agent(concat!("remora/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            .tcp_keepalive(KEEPALIVE)
            // `http_proxy` of the environment is for the world outside; reqwest would use it even for the loopback.
            .no_proxy()
            // A redirect would carry the token to another host.
            .redirect(reqwest::redirect::Policy::none());
        let (builder, base) = match &config.address {
            ConsulAddress::Unix(path) => {
                (tls::without_tls(builder).unix_socket(path.as_path()), "http://localhost".to_owned())
            }
            ConsulAddress::Url { tls: false, .. } => (tls::without_tls(builder), address.clone()),
            ConsulAddress::Url { tls: true, host, port, prefix } => {
                let builder = tls::with_tls(builder, &config.tls, &mut errors);
                match &config.tls.server_name {
                    None => (builder, address.clone()),
                    Some(name) if is_dns_name(name) => {
                        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
                        (builder.dns_resolver(tls::Towards { host }), format!("https://{name}:{port}{prefix}"))
                    }
                    Some(name) => {
                        errors.push(ClientError::ServerName(name.clone()));
                        (builder, address.clone())
                    }
                }
            }
        };
        let base = Url::parse(&base).ok().filter(Url::has_host);
        if base.is_none() {
            errors.push(ClientError::Address(address.clone()));
        }
        // What is left out of it because it is wrong would only be told once more, in other words.
        let http = if errors.is_empty() {
            builder.build().map_err(|error| errors.push(setup(config, address.clone(), error))).ok()
        } else {
            None
        };
        let (Some(http), Some(base), Some(token)) = (http, base, token) else { return Err(errors) };
        let scope = [("ns", &config.namespace), ("partition", &config.partition)]
            .into_iter()
            .filter_map(|(key, value)| Some((key, value.clone()?)))
            .collect();
        let shared = Shared { http, base, address, token, auth: config.auth.clone(), scope };
        Ok(Self { shared: Arc::new(shared), timeout: CALL_TIMEOUT })
    }

    /// The same client with another patience for ordinary calls (10 s); the connections are shared.
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        Self { shared: Arc::clone(&self.shared), timeout }
    }

    /// The address as the operator wrote it.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.shared.address
    }

    /// A number that changes when the token file holds another token.
    #[must_use]
    pub fn credentials(&self) -> u64 {
        self.shared.token.generation()
    }

    /// Sends a request and reads the answer. When Consul refuses the token and the token file holds another one by now, the
    /// call is repeated once with that.
    pub(super) async fn call(&self, call: Call<'_>) -> Result<Answer, ConsulError> {
        let token = self.shared.token.current(Instant::now());
        let outcome = self.send(&call, token.as_ref()).await;
        let Err(ConsulError::Forbidden { .. }) = outcome else { return outcome };
        match self.shared.token.instead_of(token.as_ref(), Instant::now()) {
            Some(newer) => self.send(&call, Some(&newer)).await,
            None => outcome,
        }
    }

    /// [`Client::call`] for a call whose refusals are answers: the status (2xx, 409 or 413) and the body. Of a refusal the
    /// first [`BODY_LIMIT`] bytes, since each of its operations may have a reason of its own.
    pub(super) async fn decided(&self, call: Call<'_>) -> Result<(u16, Vec<u8>), ConsulError> {
        let answer = self.call(Call { may_be_refused: true, ..call }).await?;
        Ok((answer.status, answer.body))
    }

    async fn send(&self, call: &Call<'_>, token: Option<&HeaderValue>) -> Result<Answer, ConsulError> {
        let shared = &self.shared;
        // Consul adds up to a sixteenth to a blocking query, so that a crowd of them does not return at once.
        let timeout = self.timeout + call.held + call.held / 16;
        let mut request = shared.http.request(call.method.clone(), self.url(call)).timeout(timeout);
        if let Some(token) = token {
            request = request.header(TOKEN_HEADER, token.clone());
        }
        if let Some((user, password)) = &shared.auth {
            request = request.basic_auth(user, Some(password.expose()));
        }
        if let Some(body) = &call.body {
            request = request.header(CONTENT_TYPE, "application/json").body(body.clone());
        }
        let lost = |error| self.lost(call.name, timeout, error);
        let response = request.send().await.map_err(lost)?;
        let status = response.status();
        let missing = call.may_be_missing && status == StatusCode::NOT_FOUND;
        let refused = call.may_be_refused && matches!(status, StatusCode::CONFLICT | StatusCode::PAYLOAD_TOO_LARGE);
        if status.is_success() || missing || refused {
            let headers = response.headers().clone();
            let body =
                body(response, BODY_LIMIT).await.map_err(lost)?.map_err(|_beginning| ConsulError::Unreadable {
                    call: call.name,
                    reason: format!("it is longer than {} MiB", BODY_LIMIT >> 20),
                })?;
            return Ok(Answer { headers, body, missing, status: status.as_u16() });
        }
        // The beginning of an error is enough.
        let words = body(response, ERROR_LIMIT).await.map_err(lost)?.unwrap_or_else(|beginning| beginning);
        Err(classify(call.name, status.as_u16(), &words))
    }

    fn url(&self, call: &Call<'_>) -> Url {
        let mut url = self.shared.base.clone();
        // A URL with a host, which `base` is, can always be a base.
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(call.path);
        }
        if !(call.query.is_empty() && self.shared.scope.is_empty()) {
            url.query_pairs_mut().extend_pairs(call.query).extend_pairs(&self.shared.scope);
        }
        url
    }

    /// An error of the transport. The URL is taken out: a proxy's address or a query may be told by nobody but us.
    fn lost(&self, call: &'static str, after: Duration, error: reqwest::Error) -> ConsulError {
        // A time-out while connecting is a peer that is not there, not one that is slow.
        if error.is_timeout() && !error.is_connect() {
            return ConsulError::TimedOut { call, after };
        }
        ConsulError::Unreachable { address: self.shared.address.clone(), reason: causes(error) }
    }
}

/// A name that can be asked for in TLS (an address cannot) and stand in a URL.
fn is_dns_name(name: &str) -> bool {
    !(name.is_empty() || name.parse::<IpAddr>().is_ok() || name.contains(['/', ':', '@', '[', ' ']))
}

fn setup(config: &config::Consul, address: String, error: reqwest::Error) -> ClientError {
    let mut reason = causes(error);
    // An image from scratch has no authorities, and nobody would guess that from the words above.
    if matches!(config.address, ConsulAddress::Url { tls: true, .. }) && tls::needs_system_authorities(&config.tls) {
        reason.push_str(" (CONSUL_CACERT or CONSUL_CAPATH name the authority of Consul's certificate)");
    }
    ClientError::Setup { address, reason }
}

/// Reads a body; `Err` holds its beginning when it is longer than the limit.
async fn body(mut response: Response, limit: usize) -> Result<Result<Vec<u8>, Vec<u8>>, reqwest::Error> {
    let announced = response.content_length().and_then(|length| usize::try_from(length).ok()).unwrap_or(0);
    let mut body = Vec::with_capacity(announced.min(limit));
    while let Some(chunk) = response.chunk().await? {
        let room = limit - body.len();
        if chunk.len() > room {
            body.extend(chunk.iter().take(room));
            return Ok(Err(body));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Ok(body))
}

/// The two innermost causes of an error, without a URL: `tcp connect error: Connection refused (os error 111)`.
pub(crate) fn causes(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut texts = vec![error.to_string()];
    let mut cause = std::error::Error::source(&error);
    while let Some(inner) = cause {
        texts.push(inner.to_string());
        cause = inner.source();
    }
    // Some layers repeat the text of the next one.
    texts.dedup();
    let innermost = texts.get(texts.len().saturating_sub(2)..).unwrap_or_default();
    // The outermost text only says that something went wrong.
    let told = if texts.len() == 2 { innermost.get(1..).unwrap_or_default() } else { innermost };
    clean(&told.join(": "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Consul, ConsulTls, Secret, Token};

    fn config(address: ConsulAddress) -> Consul {
        Consul { address, token: Token::None, auth: None, tls: ConsulTls::default(), namespace: None, partition: None }
    }

    fn http(prefix: &str) -> ConsulAddress {
        ConsulAddress::Url { tls: false, host: "[::1]".to_owned(), port: 8500, prefix: prefix.to_owned() }
    }

    #[test]
    fn an_id_is_one_segment_of_the_path_whatever_it_holds() {
        let client = Client::new(&config(http("/consul"))).unwrap();
        let call = Call::put("PUT", &["v1", "agent", "service", "deregister", "n:a/b?c#d%e ü:80"], None);
        assert_eq!(
            client.url(&call).as_str(),
            "http://[::1]:8500/consul/v1/agent/service/deregister/n:a%2Fb%3Fc%23d%25e%20%C3%BC:80"
        );
    }

    #[test]
    fn namespace_and_partition_go_with_every_request() {
        let mut config = config(http(""));
        config.namespace = Some("team a".to_owned());
        config.partition = Some("p".to_owned());
        let client = Client::new(&config).unwrap();
        let mut call = Call::get("GET", &["v1", "agent", "services"]);
        assert_eq!(client.url(&call).as_str(), "http://[::1]:8500/v1/agent/services?ns=team+a&partition=p");
        call.query = &[("wait", "10s")];
        assert_eq!(client.url(&call).as_str(), "http://[::1]:8500/v1/agent/services?wait=10s&ns=team+a&partition=p");
    }

    #[test]
    fn a_server_name_that_is_no_name_is_told() {
        for name in ["", "10.0.0.1", "::1", "a/b", "a:1"] {
            let mut config = config(ConsulAddress::Url { tls: true, host: "h".into(), port: 1, prefix: String::new() });
            config.tls = ConsulTls { verify: false, server_name: Some(name.to_owned()), ..ConsulTls::default() };
            assert_eq!(Client::new(&config).unwrap_err(), ClientError::ServerName(name.to_owned()));
        }
    }

    #[test]
    fn everything_that_is_wrong_is_told_at_once() {
        let https = ConsulAddress::Url { tls: true, host: "h".into(), port: 1, prefix: String::new() };
        let mut config = config(https);
        let path = |name: &str| std::path::PathBuf::from("/nowhere").join(name);
        config.token = Token::File(path("token"));
        config.tls = ConsulTls {
            ca_file: Some(path("ca")),
            ca_path: Some(path("folder")),
            client: Some((path("cert"), path("key"))),
            server_name: Some("10.0.0.1".to_owned()),
            verify: true,
        };
        let errors: Vec<ConfigError> =
            Client::checked(&config).unwrap_err().into_iter().map(ConfigError::from).collect();
        let names: Vec<&str> = errors.iter().map(|error| error.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "CONSUL_HTTP_TOKEN_FILE",
                "CONSUL_CLIENT_CERT",
                "CONSUL_CLIENT_KEY",
                "CONSUL_CACERT",
                "CONSUL_CAPATH",
                "CONSUL_TLS_SERVER_NAME"
            ]
        );
        assert_eq!(
            errors[0].to_string(),
            "CONSUL_HTTP_TOKEN_FILE=/nowhere/token: expected a file with an ACL token, but it cannot be read: No such \
             file or directory (os error 2)"
        );
    }

    #[test]
    fn files_that_hold_no_certificates_are_told_with_variable_and_path() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        std::fs::write(&path, "not a certificate").unwrap();
        let https = ConsulAddress::Url { tls: true, host: "h".into(), port: 1, prefix: String::new() };
        let cases = [
            ("CONSUL_CACERT", ConsulTls { ca_file: Some(path.clone()), ..ConsulTls::default() }),
            ("CONSUL_CACERT", ConsulTls { ca_file: Some(folder.path().join("nowhere")), ..ConsulTls::default() }),
            ("CONSUL_CAPATH", ConsulTls { ca_path: Some(folder.path().to_owned()), ..ConsulTls::default() }),
            ("CONSUL_CAPATH", ConsulTls { ca_path: Some(path.clone()), ..ConsulTls::default() }),
            ("CONSUL_CLIENT_CERT", ConsulTls { client: Some((path.clone(), path.clone())), ..ConsulTls::default() }),
        ];
        for (variable, tls) in cases {
            let error = Client::new(&Consul { tls, ..config(https.clone()) }).unwrap_err();
            assert!(matches!(error, ClientError::File { name, .. } if name == variable), "{error}");
            assert!(error.to_string().contains(&folder.path().display().to_string()), "{error}");
        }
    }

    #[test]
    fn a_client_never_shows_its_secrets() {
        let mut config = config(http(""));
        config.token = Token::Value(Secret::new("s3cr3t"));
        config.auth = Some(("user".to_owned(), Secret::new("s3cr3t")));
        assert!(!format!("{:?}", Client::new(&config).unwrap()).contains("s3cr3t"));
    }
}
