//! The one TLS provider of the process, and whom to trust when speaking to Consul.

use std::net::SocketAddr;
use std::path::Path;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Certificate, ClientBuilder, Identity};

use super::client::ClientError;
use crate::config::ConsulTls;

/// Makes ring the process's TLS provider. To be called before any client is built, TLS or not; every call after the first
/// does nothing.
pub fn install_provider() {
    // The error is the provider that is installed already: ours, since nothing else in this process installs one.
    let _installed_before = rustls::crypto::ring::default_provider().install_default();
}

/// Trusts nobody: for plain HTTP, so that a client can be built in an image without any certificates.
pub(super) fn without_tls(builder: ClientBuilder) -> ClientBuilder {
    builder.tls_certs_only([])
}

/// Applies the operator's TLS settings.
pub(super) fn with_tls(mut builder: ClientBuilder, tls: &ConsulTls) -> Result<ClientBuilder, ClientError> {
    if let Some((certificate, key)) = &tls.client {
        builder = builder.identity(identity(certificate, key)?);
    }
    if !tls.verify {
        return Ok(without_tls(builder).tls_danger_accept_invalid_certs(true));
    }
    let mut trusted = Vec::new();
    if let Some(path) = &tls.ca_file {
        let name = "CONSUL_CACERT";
        let found = certificates(&read(name, path)?)
            .filter(|found| !found.is_empty())
            .ok_or_else(|| problem(name, path, "holds no certificate that can be read; expected PEM"))?;
        trusted.extend(found);
    }
    if let Some(path) = &tls.ca_path {
        let found = folder("CONSUL_CAPATH", path)?;
        if found.is_empty() {
            return Err(problem(
                "CONSUL_CAPATH",
                path,
                "holds no file with certificates that can be read; expected PEM",
            ));
        }
        trusted.extend(found);
    }
    // Without an own authority the system's decide; reqwest's build fails when there are none at all.
    Ok(if trusted.is_empty() { builder } else { builder.tls_certs_only(trusted) })
}

/// Whether the system's authorities decide about Consul's certificate.
pub(super) const fn needs_system_authorities(tls: &ConsulTls) -> bool {
    tls.verify && tls.ca_file.is_none() && tls.ca_path.is_none()
}

/// Every certificate of every file of a folder. Files that hold none (a README, a key) are passed over, as such folders
/// usually have some.
fn folder(name: &'static str, path: &Path) -> Result<Vec<Certificate>, ClientError> {
    let entries = std::fs::read_dir(path).map_err(|error| problem(name, path, format!("cannot be read: {error}")))?;
    let mut files: Vec<_> = entries.filter_map(Result::ok).map(|entry| entry.path()).filter(|p| p.is_file()).collect();
    files.sort();
    let mut found = Vec::new();
    for file in files {
        match certificates(&read(name, &file)?) {
            Some(some) => found.extend(some),
            None => {
                tracing::warn!(event = "consul_ca_unreadable", path = %file.display(), "not a PEM file; passed over");
            }
        }
    }
    Ok(found)
}

/// `Some(empty)`: the text holds no certificate at all, which reqwest does not call an error.
fn certificates(pem: &[u8]) -> Option<Vec<Certificate>> {
    Certificate::from_pem_bundle(pem).ok()
}

/// The client's certificate with its chain, and its key.
fn identity(certificate: &Path, key: &Path) -> Result<Identity, ClientError> {
    let mut pem = read("CONSUL_CLIENT_CERT", certificate)?;
    pem.push(b'\n');
    pem.extend(read("CONSUL_CLIENT_KEY", key)?);
    Identity::from_pem(&pem).map_err(|_| {
        problem(
            "CONSUL_CLIENT_CERT",
            certificate,
            format!("is no pair with {}; expected PEM with a certificate and its key", key.display()),
        )
    })
}

fn read(name: &'static str, path: &Path) -> Result<Vec<u8>, ClientError> {
    std::fs::read(path).map_err(|error| problem(name, path, format!("cannot be read: {error}")))
}

fn problem(name: &'static str, path: &Path, reason: impl Into<String>) -> ClientError {
    ClientError::File { name, path: path.to_owned(), reason: reason.into() }
}

/// Leads every name to one host. `CONSUL_TLS_SERVER_NAME` is the name in the URL, because that is the one that is asked
/// for (SNI) and verified; this leads the connection to the host of `CONSUL_HTTP_ADDR` all the same. Resolved for each new
/// connection, so that a changed DNS entry is followed.
pub(super) struct Towards {
    /// Name or IP address, without brackets.
    pub(super) host: String,
}

impl Resolve for Towards {
    fn resolve(&self, _server_name: Name) -> Resolving {
        let host = self.host.clone();
        Box::pin(async move {
            // Port 0: reqwest puts the URL's port in.
            let found: Vec<SocketAddr> = tokio::net::lookup_host((host, 0)).await?.collect();
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}
