//! The tolerant door to the engine: ask for a path, read the answer with types of our own.
//!
//! Why not bollard for these: its models are closed. One container with a state that this version does not know makes
//! the whole list unreadable, and typed inspect documents hold the container's environment. Here each container stands
//! for itself, unknown words are values, and nothing but what [`super::container`] names is kept. Connections are kept
//! alive between calls, which also saves a connect per inspect.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::port::DockerError;
use crate::config::{self, ConfigError};
use crate::scrub::scrub;

/// An engine answers a list of thousands of containers within a second or two; what takes longer is stuck.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// A ping is answered by a goroutine that touches nothing.
pub const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// 10,000 containers are about 12 MB of list.
const BODY_LIMIT: usize = 64 << 20;

/// What the folder of the certificates has to hold.
const FOLDER: &str = "a folder with ca.pem, cert.pem and key.pem";

/// Why no client can be made of the configuration.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum SetupError {
    /// The files of `DOCKER_CERT_PATH` cannot be used.
    #[error("DOCKER_CERT_PATH={}: expected {FOLDER}, but {}", folder.display(), reasons.join("; "))]
    Certificates {
        /// The folder.
        folder: PathBuf,
        /// What is wrong with which file.
        reasons: Vec<String>,
    },
    /// The settings as a whole.
    #[error("DOCKER_HOST={address}: expected settings that a client can be made of, but: {reason}")]
    Client {
        /// The address.
        address: String,
        /// The causes.
        reason: String,
    },
}

impl From<SetupError> for ConfigError {
    fn from(error: SetupError) -> Self {
        match error {
            SetupError::Certificates { folder, reasons } => Self {
                name: "DOCKER_CERT_PATH".to_owned(),
                value: folder.display().to_string(),
                expected: format!("{FOLDER}, but {}", reasons.join("; ")),
            },
            SetupError::Client { address, reason } => Self {
                name: "DOCKER_HOST".to_owned(),
                value: address,
                expected: format!("settings that a client can be made of, but: {reason}"),
            },
        }
    }
}

/// Takes an answer piece by piece, until it says `false`.
pub type Sink<'a> = dyn FnMut(&[u8]) -> bool + Send + 'a;

/// A client for plain requests to one engine.
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
    /// When the TLS files cannot be used: all that is wrong with them.
    pub fn new(docker: &config::Docker) -> Result<Self, SetupError> {
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
                let (authorities, identity) = read(certificates)
                    .map_err(|reasons| SetupError::Certificates { folder: certificates.clone(), reasons })?;
                (
                    builder.tls_certs_only(authorities).identity(identity),
                    format!("https://{address}"),
                    format!("tcp://{address}"),
                )
            }
        };
        let client =
            builder.build().map_err(|error| SetupError::Client { address: address.clone(), reason: chain(&error) })?;
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
        self.ask(call, self.client.get(self.url(path)), within, None, None).await
    }

    /// As [`Door::get`], but a successful answer is poured into `sink`, piece by piece, until that says `false`.
    pub async fn pour(
        &self,
        call: &'static str,
        path: &str,
        within: Duration,
        sink: &mut Sink<'_>,
    ) -> Result<(), DockerError> {
        self.ask(call, self.client.get(self.url(path)), within, Some(sink), None).await.map(drop)
    }

    /// POSTs a JSON body, or none.
    ///
    /// # Errors
    /// As [`Door::get`]. After [`DockerError::TimedOut`], [`DockerError::Unreachable`] and [`DockerError::Unreadable`] the
    /// engine may have done it all the same.
    pub async fn post(
        &self,
        call: &'static str,
        path: &str,
        body: Option<&serde_json::Value>,
        within: Duration,
    ) -> Result<Vec<u8>, DockerError> {
        let request = self.client.post(self.url(path));
        let request = match body {
            Some(body) => request.json(body),
            None => request,
        };
        self.ask(call, request, within, None, body).await
    }

    /// DELETEs a path; errors as for [`Door::post`].
    pub async fn delete(&self, call: &'static str, path: &str, within: Duration) -> Result<Vec<u8>, DockerError> {
        self.ask(call, self.client.delete(self.url(path)), within, None, None).await
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    async fn ask(
        &self,
        call: &'static str,
        request: reqwest::RequestBuilder,
        within: Duration,
        mut sink: Option<&mut Sink<'_>>,
        sent: Option<&serde_json::Value>,
    ) -> Result<Vec<u8>, DockerError> {
        let whole = async {
            let mut response = request.send().await?;
            let status = response.status();
            let mut body = Vec::new();
            while let Some(chunk) = response.chunk().await? {
                if let Some(sink) = sink.as_deref_mut().filter(|_| status.is_success()) {
                    if !sink(&chunk) {
                        break;
                    }
                    continue;
                }
                if body.len() + chunk.len() > BODY_LIMIT {
                    return Ok((status.as_u16(), None));
                }
                body.extend_from_slice(&chunk);
            }
            Ok::<_, reqwest::Error>((status.as_u16(), Some(body)))
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
            404 => match words(&body, sent) {
                // A proxy or a wrong server has a 404 of its own; only the engine's own words mean "it is gone".
                Some(message) if message.to_lowercase().contains("no such container") => {
                    Err(DockerError::NotFound(message))
                }
                message => Err(DockerError::Refused { call, status, message: message.unwrap_or_default() }),
            },
            _ => Err(DockerError::Refused { call, status, message: words(&body, sent).unwrap_or_default() }),
        }
    }
}

/// The engine's own words in an error answer, bounded, and without what may be a secret in what was sent: words that repeat the
/// request are not the engine's, but whoever stands in between writes as he likes.
fn words(body: &[u8], sent: Option<&serde_json::Value>) -> Option<String> {
    #[derive(Deserialize)]
    struct Words {
        message: String,
    }
    let words: Words = serde_json::from_slice(body).ok()?;
    let mut secrets = Vec::new();
    if let Some(sent) = sent {
        secrets_of(sent, false, &mut secrets);
    }
    let message = scrub(&words.message, secrets);
    Some(message.chars().filter(|c| !c.is_control()).take(300).collect())
}

/// Where people put secrets in the body of a call.
const SECRET: [&str; 9] =
    ["Env", "Cmd", "Entrypoint", "Labels", "Healthcheck", "Config", "Annotations", "DriverOpts", "DriverConfig"];

/// Every text in such a place; of a variable only its value.
fn secrets_of<'v>(value: &'v serde_json::Value, secret: bool, found: &mut Vec<&'v str>) {
    use serde_json::Value;
    match value {
        Value::String(text) if secret => {
            found.push(text);
            found.extend(text.split_once('=').map(|(_, value)| value));
        }
        Value::Array(items) => items.iter().for_each(|item| secrets_of(item, secret, found)),
        Value::Object(members) => {
            for (key, value) in members {
                secrets_of(value, secret || SECRET.contains(&key.as_str()), found);
            }
        }
        _ => {}
    }
}

/// The authorities, and the certificate with its key; or all that is wrong with the three files.
fn read(folder: &Path) -> Result<(Vec<reqwest::Certificate>, reqwest::Identity), Vec<String>> {
    let mut reasons = Vec::new();
    let mut file = |name: &str| {
        std::fs::read(folder.join(name)).map_err(|error| reasons.push(format!("{name} cannot be read: {error}"))).ok()
    };
    let (authorities, certificate, key) = (file("ca.pem"), file("cert.pem"), file("key.pem"));
    let authorities = authorities.and_then(|pem| {
        let found = reqwest::Certificate::from_pem_bundle(&pem).ok().filter(|found| !found.is_empty());
        if found.is_none() {
            reasons.push("ca.pem holds no certificate that can be read".to_owned());
        }
        found
    });
    let identity = certificate.zip(key).and_then(|(mut pem, key)| {
        // A file may end without a line break.
        pem.push(b'\n');
        pem.extend_from_slice(&key);
        let pair = reqwest::Identity::from_pem(&pem);
        pair.map_err(|_| reasons.push("cert.pem and key.pem are no certificate with its key".to_owned())).ok()
    });
    match (authorities, identity) {
        (Some(authorities), Some(identity)) => Ok((authorities, identity)),
        _ => Err(reasons),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn openssl(folder: &Path) {
        let made = std::process::Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=x"])
            .args(["-days", "2", "-keyout", "key.pem", "-out", "cert.pem"])
            .current_dir(folder)
            .stderr(std::process::Stdio::null())
            .status()
            .unwrap();
        assert!(made.success());
    }

    #[test]
    fn an_answer_that_repeats_the_request_does_not_tell_its_secrets() {
        let sent = serde_json::json!({
            "Image": "shop/web:1", "Env": ["PASSWORD=hunter2"], "Labels": {"team": "hunter3"},
            "HostConfig": {"LogConfig": {"Config": {"splunk-token": "hunter4"}}, "NetworkMode": "bridge"},
        });
        let body = serde_json::json!({"message": format!("no: {sent}")}).to_string();
        let told = words(body.as_bytes(), Some(&sent)).unwrap();
        assert!(!told.contains("hunter") && told.contains("shop/web:1") && told.contains("bridge"), "{told}");
        assert!(words(body.as_bytes(), None).unwrap().contains("hunter2"), "what was not sent is not known");
    }

    #[test]
    fn files_without_a_line_break_at_their_end_are_good_files() {
        crate::consul::tls::install_provider();
        let folder = tempfile::tempdir().unwrap();
        openssl(folder.path());
        for name in ["cert.pem", "key.pem"] {
            let text = std::fs::read_to_string(folder.path().join(name)).unwrap();
            std::fs::write(folder.path().join(name), text.trim_end()).unwrap();
        }
        std::fs::copy(folder.path().join("cert.pem"), folder.path().join("ca.pem")).unwrap();
        let tls = config::Docker::Tls { address: "h:1".to_owned(), certificates: folder.path().to_owned() };
        Door::new(&tls).unwrap();
    }

    #[test]
    fn everything_that_is_wrong_with_the_files_is_told_at_once() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), "no certificate").unwrap();
        let tls = config::Docker::Tls { address: "h:1".to_owned(), certificates: folder.path().to_owned() };
        let error = Door::new(&tls).unwrap_err();
        let expected = format!(
            "DOCKER_CERT_PATH={}: expected a folder with ca.pem, cert.pem and key.pem, but cert.pem cannot be read: No \
             such file or directory (os error 2); key.pem cannot be read: No such file or directory (os error 2); ca.pem \
             holds no certificate that can be read",
            folder.path().display()
        );
        assert_eq!(error.to_string(), expected);
        assert_eq!(ConfigError::from(error).to_string(), expected);
    }
}
