//! Why no client can be made of a configuration.

use std::path::PathBuf;

use crate::config::ConfigError;

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

impl ClientError {
    /// The variable whose value cannot be used, where it is one.
    pub(super) fn variable(&self) -> Option<String> {
        let name = match self {
            Self::File { name, .. } => name,
            Self::Token => "CONSUL_HTTP_TOKEN",
            Self::ServerName(_) => "CONSUL_TLS_SERVER_NAME",
            Self::Address(_) => "CONSUL_HTTP_ADDR",
            Self::Setup { .. } => return None,
        };
        Some(name.to_owned())
    }
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
