//! The tolerant door to the engine: GET a path, read the answer with types of our own.
//!
//! Why not bollard for these: its models are closed. One container with a state that this version does not know makes
//! the whole list unreadable, and typed inspect documents hold the container's environment. Here each container stands
//! for itself, unknown words are values, and nothing but what [`super::container`] names is kept. Connections are kept
//! alive between calls, which also saves a connect per inspect.

use std::time::Duration;

use serde::Deserialize;

use super::port::DockerError;
use crate::config;

/// An engine answers a list of thousands of containers within a second or two; what takes longer is stuck.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// A ping is answered by a goroutine that touches nothing.
pub const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// 10,000 containers are about 12 MB of list.
const BODY_LIMIT: usize = 64 << 20;

/// A client for plain GET requests to one engine.
#[derive(Debug, Clone)]
pub struct Door {
    client: reqwest::Client,
    base: String,
    address: String,
}

impl Door {
    /// Opens the door; nothing is connected yet.
    ///
    /// # Errors
    /// When the TLS files cannot be read.
    pub fn new(docker: &config::Docker) -> Result<Self, DockerError> {
        let builder = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(Duration::from_secs(3))
            .tcp_keepalive(Duration::from_secs(20))
            // The engine itself never closes an idle connection; ten seconds bridge a burst and hold nothing at rest.
            .pool_idle_timeout(Duration::from_secs(10))
            .pool_max_idle_per_host(4);
        let (builder, base, address) = match docker {
            config::Docker::Unix(path) => (
                // No certificates: the client must be buildable in an image without any.
                builder.tls_certs_only(std::iter::empty()).unix_socket(path.clone()),
                "http://localhost".to_owned(),
                format!("unix://{}", path.display()),
            ),
            config::Docker::Tcp(host) => {
                (builder.tls_certs_only(std::iter::empty()), format!("http://{host}"), format!("tcp://{host}"))
            }
            config::Docker::Tls { address, certificates } => {
                let read = |name: &str| {
                    let path = certificates.join(name);
                    std::fs::read(&path).map_err(|error| unusable(format!("{}: {error}", path.display())))
                };
                let authorities = reqwest::Certificate::from_pem_bundle(&read("ca.pem")?)
                    .map_err(|error| unusable(format!("ca.pem: {error}")))?;
                let mut identity = read("cert.pem")?;
                identity.extend_from_slice(&read("key.pem")?);
                let identity = reqwest::Identity::from_pem(&identity)
                    .map_err(|error| unusable(format!("cert.pem and key.pem: {error}")))?;
                (
                    builder.tls_certs_only(authorities).identity(identity),
                    format!("https://{address}"),
                    format!("tcp://{address}"),
                )
            }
        };
        let client = builder.build().map_err(|error| unusable(chain(&error)))?;
        Ok(Self { client, base, address })
    }

    /// The address, for messages.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The body of a successful answer.
    ///
    /// # Errors
    /// [`DockerError::NotFound`] only for a 404 that the engine itself worded.
    pub async fn get(&self, call: &'static str, path: &str, within: Duration) -> Result<Vec<u8>, DockerError> {
        let whole = async {
            let mut response = self.client.get(format!("{}{path}", self.base)).send().await?;
            let status = response.status().as_u16();
            let mut body = Vec::new();
            while let Some(chunk) = response.chunk().await? {
                if body.len() + chunk.len() > BODY_LIMIT {
                    return Ok((status, None));
                }
                body.extend_from_slice(&chunk);
            }
            Ok::<_, reqwest::Error>((status, Some(body)))
        };
        let (status, body) = match tokio::time::timeout(within, whole).await {
            Err(_) => return Err(DockerError::TimedOut { call, after: within }),
            Ok(Err(error)) => {
                return Err(DockerError::Unreachable {
                    address: self.address.clone(),
                    reason: chain(&error.without_url()),
                });
            }
            Ok(Ok((_, None))) => {
                return Err(DockerError::Unreadable { call, reason: format!("longer than {BODY_LIMIT} bytes") });
            }
            Ok(Ok((status, Some(body)))) => (status, body),
        };
        match status {
            200..=299 => Ok(body),
            404 => match words(&body) {
                // A proxy or a wrong server has a 404 of its own; only the engine's own words mean "it is gone".
                Some(message) if message.to_lowercase().contains("no such container") => {
                    Err(DockerError::NotFound(message))
                }
                message => Err(DockerError::Refused { call, status, message: message.unwrap_or_default() }),
            },
            _ => Err(DockerError::Refused { call, status, message: words(&body).unwrap_or_default() }),
        }
    }
}

/// The engine's own words in an error answer, bounded.
fn words(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Words {
        message: String,
    }
    let words: Words = serde_json::from_slice(body).ok()?;
    Some(words.message.chars().filter(|c| !c.is_control()).take(300).collect())
}

fn unusable(reason: String) -> DockerError {
    DockerError::Unreadable { call: "DOCKER_CERT_PATH", reason }
}

/// The causes of an error, outermost first; the outermost of reqwest alone says next to nothing.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let words = cause.to_string();
        if !text.ends_with(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        source = cause.source();
    }
    text
}
