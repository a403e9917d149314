//! Whom probes trust. One configuration for all checks that want the same: it holds a hundred and forty authorities.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use rustls_platform_verifier::Verifier;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::config::ConsulTls;
use crate::consul::model::CheckTls;
use crate::probe::output::system;

/// What is spoken behind TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spoken {
    /// Without ALPN, as Go's client with a configuration of its own.
    Http1,
    /// gRPC's servers insist on ALPN.
    Http2,
}

type Ready = Result<Arc<ClientConfig>, String>;

/// The configurations, each made when it is first needed: most nodes have no check over TLS, and reading the authorities costs
/// memory for good.
pub(super) struct Trust {
    authorities: ConsulTls,
    verifying: OnceLock<Ready>,
    blind: OnceLock<Ready>,
    verifying_h2: OnceLock<Ready>,
    blind_h2: OnceLock<Ready>,
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trust").finish_non_exhaustive()
    }
}

impl Trust {
    pub(super) const fn new(authorities: ConsulTls) -> Self {
        Self {
            authorities,
            verifying: OnceLock::new(),
            blind: OnceLock::new(),
            verifying_h2: OnceLock::new(),
            blind_h2: OnceLock::new(),
        }
    }

    /// TLS over this connection. `host` is verified, unless the check names somebody else. An error says what is wrong.
    pub(super) async fn wrap(
        &self,
        stream: TcpStream,
        host: &str,
        tls: &CheckTls,
        spoken: Spoken,
    ) -> Result<TlsStream<TcpStream>, String> {
        let name = tls.server_name.as_deref().filter(|name| !name.is_empty()).unwrap_or(host);
        let server = ServerName::try_from(name.to_owned())
            .map_err(|_| format!("tls: {name:?} is not a name that a certificate can have"))?;
        let config = self.config(tls.skip_verify, spoken)?;
        TlsConnector::from(config).connect(server, stream).await.map_err(|error| format!("tls: {}", system(&error)))
    }

    fn config(&self, skip_verify: bool, spoken: Spoken) -> Ready {
        match (skip_verify, spoken) {
            (false, Spoken::Http1) => self.verifying.get_or_init(|| verifying(&self.authorities)).clone(),
            (true, Spoken::Http1) => self.blind.get_or_init(blind).clone(),
            (skip_verify, Spoken::Http2) => {
                let cell = if skip_verify { &self.blind_h2 } else { &self.verifying_h2 };
                cell.get_or_init(|| {
                    // The authorities are shared.
                    let mut config = (*self.config(skip_verify, Spoken::Http1)?).clone();
                    config.alpn_protocols = vec![b"h2".to_vec()];
                    Ok(Arc::new(config))
                })
                .clone()
            }
        }
    }
}

/// The process's one TLS provider, without asking which one that is.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn verifying(authorities: &ConsulTls) -> Ready {
    let provider = provider();
    let verifier = Verifier::new_with_extra_roots(extra(authorities), Arc::clone(&provider)).map_err(|error| {
        format!(
            "tls: nobody is trusted ({error}): name authorities with CONSUL_CACERT or CONSUL_CAPATH, or set SERVICE_CHECK_TLS_SKIP_VERIFY"
        )
    })?;
    finish(provider, Arc::new(verifier))
}

fn blind() -> Ready {
    let provider = provider();
    finish(Arc::clone(&provider), Arc::new(Anybody(provider)))
}

fn finish(provider: Arc<CryptoProvider>, verifier: Arc<dyn ServerCertVerifier>) -> Ready {
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("tls: {error}"))?;
    let mut config = builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
    // As in Consul: a resumed session would not look at the certificate again.
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// The authorities that the operator has named for Consul, as far as they can be read; Consul's own client tells of those that
/// cannot.
fn extra(authorities: &ConsulTls) -> Vec<CertificateDer<'static>> {
    let of = |path: &Path| {
        let read = CertificateDer::pem_file_iter(path);
        read.into_iter().flatten().filter_map(Result::ok).collect::<Vec<_>>()
    };
    let mut found: Vec<_> = authorities.ca_file.as_deref().map(of).unwrap_or_default();
    let folder = authorities.ca_path.as_deref().and_then(|path| std::fs::read_dir(path).ok());
    for entry in folder.into_iter().flatten().filter_map(Result::ok) {
        found.extend(of(&entry.path()));
    }
    // One that cannot be used would make all of them useless.
    found.retain(|certificate| rustls::RootCertStore::empty().add(certificate.clone()).is_ok());
    found
}

/// `SERVICE_CHECK_TLS_SKIP_VERIFY`: whoever answers is believed, also with a certificate that no library can read.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _chain: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
