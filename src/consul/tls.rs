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
pub(crate) fn without_tls(builder: ClientBuilder) -> ClientBuilder {
    builder.tls_certs_only([])
}

/// Applies the operator's TLS settings. What cannot be used is written down and left out.
pub(super) fn with_tls(mut builder: ClientBuilder, tls: &ConsulTls, errors: &mut Vec<ClientError>) -> ClientBuilder {
    if let Some((certificate, key)) = &tls.client
        && let Some(identity) = identity(certificate, key, errors)
    {
        builder = builder.identity(identity);
    }
    if !tls.verify {
        return without_tls(builder).tls_danger_accept_invalid_certs(true);
    }
    let mut trusted = Vec::new();
    if let Some(path) = &tls.ca_file {
        match file(path) {
            Ok(found) => trusted.extend(found),
            Err(reason) => errors.push(problem("CONSUL_CACERT", path, AUTHORITIES, reason)),
        }
    }
    if let Some(path) = &tls.ca_path {
        match folder(path) {
            Ok(found) => trusted.extend(found),
            Err(reason) => errors.push(problem("CONSUL_CAPATH", path, FOLDER, reason)),
        }
    }
    // Without an own authority the system's decide; reqwest's build fails when there are none at all.
    if trusted.is_empty() { builder } else { builder.tls_certs_only(trusted) }
}

/// Trusts the system's authorities and, beside them, those that the operator has named for Consul: for peers that may be in the
/// world outside or belong to the same house. Files that cannot be read are left out; Consul's client tells of them.
pub(crate) fn with_all_authorities(builder: ClientBuilder, tls: &ConsulTls) -> ClientBuilder {
    let of_file = tls.ca_file.as_deref().and_then(|path| file(path).ok()).unwrap_or_default();
    let of_folder = tls.ca_path.as_deref().and_then(|path| folder(path).ok()).unwrap_or_default();
    let trusted: Vec<Certificate> = of_file.into_iter().chain(of_folder).collect();
    if trusted.is_empty() { builder } else { builder.tls_certs_merge(trusted) }
}

const AUTHORITIES: &str = "a PEM file with the certificates of the authorities that may have signed Consul's";
const FOLDER: &str = "a folder of PEM files with the certificates of the authorities that may have signed Consul's";
const CERTIFICATE: &str = "a PEM file with the certificate to show to Consul";
const KEY: &str = "a PEM file with the key of CONSUL_CLIENT_CERT";

/// Whether the system's authorities decide about Consul's certificate.
pub(super) const fn needs_system_authorities(tls: &ConsulTls) -> bool {
    tls.verify && tls.ca_file.is_none() && tls.ca_path.is_none()
}

fn file(path: &Path) -> Result<Vec<Certificate>, String> {
    certificates(&read(path)?).filter(|found| !found.is_empty()).ok_or_else(|| "holds none that can be read".to_owned())
}

/// Every certificate of every file of a folder. Files that hold none (a README, a key) are passed over, as such folders
/// usually have some.
fn folder(path: &Path) -> Result<Vec<Certificate>, String> {
    let entries = std::fs::read_dir(path).map_err(|error| format!("cannot be read: {error}"))?;
    let mut files: Vec<_> = entries.filter_map(Result::ok).map(|entry| entry.path()).filter(|p| p.is_file()).collect();
    files.sort();
    let mut found = Vec::new();
    for file in files {
        let pem = read(&file).map_err(|reason| format!("holds {}, which {reason}", file.display()))?;
        match certificates(&pem) {
            Some(some) => found.extend(some),
            None => {
                tracing::warn!(event = "consul_ca_unreadable", path = %file.display(), "not a PEM file; passed over");
            }
        }
    }
    if found.is_empty() { Err("holds no file with certificates that can be read".to_owned()) } else { Ok(found) }
}

/// `Some(empty)`: the text holds no certificate at all, which reqwest does not call an error.
fn certificates(pem: &[u8]) -> Option<Vec<Certificate>> {
    Certificate::from_pem_bundle(pem).ok()
}

/// The client's certificate with its chain, and its key.
fn identity(certificate: &Path, key: &Path, errors: &mut Vec<ClientError>) -> Option<Identity> {
    let mut take = |name, path: &Path, expected| {
        read(path).map_err(|reason| errors.push(problem(name, path, expected, reason))).ok()
    };
    let pems = (take("CONSUL_CLIENT_CERT", certificate, CERTIFICATE), take("CONSUL_CLIENT_KEY", key, KEY));
    let (Some(chain), Some(secret)) = pems else { return None };
    let no_pair = |_| {
        let reason = format!("makes no pair with CONSUL_CLIENT_KEY={}", key.display());
        errors.push(problem("CONSUL_CLIENT_CERT", certificate, CERTIFICATE, reason));
    };
    pair(chain, &secret).map_err(no_pair).ok()
}

/// A certificate with its chain, and its key, of two PEM files.
fn pair(mut certificate: Vec<u8>, key: &[u8]) -> Result<Identity, reqwest::Error> {
    // A file may end without a line break, and `-----END CERTIFICATE----------BEGIN PRIVATE KEY-----` is neither.
    certificate.push(b'\n');
    certificate.extend_from_slice(key);
    Identity::from_pem(&certificate)
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("cannot be read: {error}"))
}

fn problem(name: &'static str, path: &Path, expected: &'static str, reason: String) -> ClientError {
    ClientError::File { name, path: path.to_owned(), expected, reason }
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
