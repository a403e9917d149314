//! Transport to Consul's HTTP API: addresses, authentication, time-outs, bounded bodies, error classes.
//!
//! One HTTP/1.1 client for everything. A blocking query keeps its own connection there, so a write never waits behind one
//! (that is only so with HTTP/2, whose streams share a connection and are limited).
//!
//! * `setup`: why no client can be made of a configuration.
//! * `target`: one address, and the connections to it; `targets`: all of them, made anew when a file of TLS changes (`stamp`).
//! * `in_use`: which of several addresses is used.
//! * `exchange`: one request and its answer.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use reqwest::Method;
use reqwest::header::{CONNECTION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};

mod exchange;
mod in_use;
mod setup;
mod stamp;
mod target;
mod targets;

pub(crate) use exchange::causes;
use exchange::{Failed, exchange};
use in_use::InUse;
pub use setup::ClientError;
use targets::{Plan, Set, Targets};

use super::error::ConsulError;
use super::tls;
use super::token::TokenSource;
use crate::config;

/// Consul itself holds a call for up to 7 s while it has no leader (`rpc_hold_timeout`).
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
const TOKEN_HEADER: HeaderName = HeaderName::from_static("x-consul-token");

/// A way to one Consul, by one address or several. Clones share connections and token.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
    timeout: Duration,
}

struct Shared {
    targets: Arc<Targets>,
    in_use: InUse,
    /// The addresses as the operator wrote them.
    told: String,
    token: TokenSource,
    auth: Option<(String, config::Secret)>,
    /// `ns` and `partition`.
    scope: Vec<(&'static str, String)>,
    /// Calls whose last answer was longer than [`LONG`].
    long: Mutex<HashSet<&'static str>>,
}

/// A connection keeps the buffers that its longest answer needed, of a thousand services nearly a megabyte. One that carries an
/// answer of more than two hundred services is closed after it; another one costs less than such an answer.
const LONG: usize = 256 << 10;

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
    /// To do it twice is not the same as once: it is repeated only when it was certainly not done.
    pub(super) once: bool,
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
            once: false,
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
        f.debug_struct("Client").field("address", &self.shared.told).finish_non_exhaustive()
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
            errors.into_iter().next().unwrap_or_else(|| ClientError::Address(config.told_addresses()))
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
        let targets = Targets::new(Plan::of(config)).map_err(|wrong| errors.extend(wrong)).ok();
        let (Some(targets), Some(token)) = (targets, token) else { return Err(errors) };
        let scope = [("ns", &config.namespace), ("partition", &config.partition)]
            .into_iter()
            .filter_map(|(key, value)| Some((key, value.clone()?)))
            .collect();
        let (in_use, told) = (InUse::new(1 + config.others.len()), config.told_addresses());
        let shared = Shared {
            targets: Arc::new(targets),
            in_use,
            told,
            token,
            auth: config.auth.clone(),
            scope,
            long: Mutex::default(),
        };
        Ok(Self { shared: Arc::new(shared), timeout: CALL_TIMEOUT })
    }

    /// The same client with another patience for ordinary calls (10 s); the connections are shared.
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        Self { shared: Arc::clone(&self.shared), timeout }
    }

    /// The address as the operator wrote it; several with commas between them.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.shared.told
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

    /// [`Client::call`] for a call whose refusals are answers: the status (2xx, 409 or 413) and the body, since each of its
    /// operations may have a reason of its own.
    pub(super) async fn decided(&self, call: Call<'_>) -> Result<(u16, Vec<u8>), ConsulError> {
        let answer = self.call(Call { may_be_refused: true, ..call }).await?;
        Ok((answer.status, answer.body))
    }

    /// Asks the address in use, and when that one is at fault each of the others, once.
    ///
    /// What only reads is repeated at once, and so is what is written, because writing it twice leaves the same behind (a `cas`
    /// is then lost to itself, and its caller reads again); what is not so says [`Call::once`]. A question that Consul holds
    /// back is not: its caller has an index or a hash of the server that it asked, and asks again anyway.
    async fn send(&self, call: &Call<'_>, token: Option<&HeaderValue>) -> Result<Answer, ConsulError> {
        let Shared { targets, in_use, .. } = &*self.shared;
        let mut set = targets.current(Instant::now()).await;
        let mut at = in_use.now();
        for others_left in (0..in_use.count()).rev() {
            let mut outcome = self.ask(&set, at, call, token).await;
            if matches!(&outcome, Err(failed) if failed.handshake)
                && let Some(newer) = targets.instead_of(&set).await
            {
                set = newer;
                outcome = self.ask(&set, at, call, token).await;
            }
            let failed = match outcome {
                Err(failed) if failed.error.is_of_the_server() => failed,
                decided => {
                    if let Some((from, why)) = in_use.answered(at) {
                        let (from, to) = (&set.target(from).address, &set.target(at).address);
                        tracing::warn!(event = "consul_failover", %from, %to, %why, "Consul is spoken to at {to} instead of {from}: {why}");
                    }
                    return decided.map_err(|failed| failed.error);
                }
            };
            in_use.failed(at, &failed.error);
            if others_left == 0 || !call.held.is_zero() || (call.once && !failed.unsent) {
                return Err(failed.error);
            }
            at = in_use.after(at);
        }
        // There is always one address.
        Err(ConsulError::Unreachable { address: self.shared.told.clone(), reason: "there is no address".to_owned() })
    }

    async fn ask(&self, set: &Set, at: usize, call: &Call<'_>, token: Option<&HeaderValue>) -> Result<Answer, Failed> {
        let target = set.target(at);
        // Consul adds up to a sixteenth to a blocking query, so that a crowd of them does not return at once.
        let timeout = self.timeout + call.held + call.held / 16;
        let url = target.url(call.path, call.query, &self.shared.scope);
        let mut request = target.http.request(call.method.clone(), url);
        if let Some(token) = token {
            request = request.header(TOKEN_HEADER, token.clone());
        }
        if let Some((user, password)) = &self.shared.auth {
            request = request.basic_auth(user, Some(password.expose()));
        }
        if let Some(body) = &call.body {
            request = request.header(CONTENT_TYPE, "application/json").body(body.clone());
        }
        if self.long().contains(call.name) {
            request = request.header(CONNECTION, "close");
        }
        let outcome = exchange(call, request, &target.address, timeout).await;
        match &outcome {
            Ok(answer) if answer.body.len() > LONG => drop(self.long().insert(call.name)),
            Ok(_) => drop(self.long().remove(call.name)),
            Err(_) => {}
        }
        outcome
    }

    fn long(&self) -> MutexGuard<'_, HashSet<&'static str>> {
        self.shared.long.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ConfigError, Consul, ConsulAddress, ConsulTls, Secret, Token};

    fn config(address: ConsulAddress) -> Consul {
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

    fn http(prefix: &str) -> ConsulAddress {
        ConsulAddress::Url { tls: false, host: "[::1]".to_owned(), port: 8500, prefix: prefix.to_owned() }
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
