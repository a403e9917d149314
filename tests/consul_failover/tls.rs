//! Files of TLS are replaced while the client lives.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use remora::config::{self, ConsulAddress, ConsulTls};
use remora::consul::{Client, ConsulError};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::consul_wire::config;

fn openssl(folder: &Path, arguments: &str) {
    let output = Command::new("openssl").args(arguments.split(' ')).current_dir(folder).output();
    let output = output.expect("these tests make their certificates with openssl: install it");
    assert!(output.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

/// An authority, a server's certificate and a client's.
struct House(tempfile::TempDir);

impl House {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2";
        openssl(at, &format!("req -x509 {key} -keyout ca.key -out ca.pem -subj /CN=ca"));
        for file in ["server", "client"] {
            openssl(at, &format!("req {key} -keyout {file}.key -out {file}.csr -subj /CN={file}"));
            std::fs::write(at.join("san"), "subjectAltName=DNS:server.dc1.consul\n").unwrap();
            let sign = "-CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile san";
            openssl(at, &format!("x509 -req -in {file}.csr {sign} -out {file}.pem"));
        }
        Self(folder)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// How a server of this house is; `clients`: it lets in only those with a certificate of the house.
    fn server(&self, clients: bool) -> Arc<ServerConfig> {
        let chain = vec![CertificateDer::from_pem_file(self.file("server.pem")).unwrap()];
        let key = PrivateKeyDer::from_pem_file(self.file("server.key")).unwrap();
        let builder = if clients {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_file(self.file("ca.pem")).unwrap()).unwrap();
            let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build().unwrap();
            ServerConfig::builder().with_client_cert_verifier(verifier)
        } else {
            ServerConfig::builder().with_no_client_auth()
        };
        Arc::new(builder.with_single_cert(chain, key).unwrap())
    }
}

/// A server that says who the leader is, under certificates that can be exchanged.
struct Server {
    port: u16,
    config: Arc<Mutex<Arc<ServerConfig>>>,
}

impl Server {
    async fn start(first: Arc<ServerConfig>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let config = Arc::new(Mutex::new(first));
        let current = Arc::clone(&config);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = TlsAcceptor::from(Arc::clone(&current.lock().unwrap()));
                tokio::spawn(async move {
                    let Ok(mut stream) = acceptor.accept(stream).await else { return };
                    let _request = stream.read(&mut [0; 4096]).await;
                    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 16\r\nConnection: close\r\n\r\n\"127.0.0.1:8300\"";
                    let _gone = stream.write_all(answer.as_bytes()).await;
                    let _gone = stream.shutdown().await;
                });
            }
        });
        Self { port, config }
    }

    fn becomes(&self, config: Arc<ServerConfig>) {
        *self.config.lock().unwrap() = config;
    }

    fn client(&self, tls: ConsulTls) -> Client {
        let host = "127.0.0.1".to_owned();
        let address = ConsulAddress::Url { tls: true, host, port: self.port, prefix: String::new() };
        let tls = ConsulTls { server_name: Some("server.dc1.consul".to_owned()), ..tls };
        Client::new(&config::Consul { tls, ..config(address) }).unwrap()
    }
}

/// As `mv` does it: the file is another one at once.
fn replace(from: &Path, to: &Path) {
    let beside = to.with_extension("new");
    std::fs::copy(from, &beside).unwrap();
    std::fs::rename(beside, to).unwrap();
}

async fn calls(client: &Client) -> Result<(), ConsulError> {
    client.leader().await.map(|leader| assert_eq!(leader.as_deref(), Some("127.0.0.1:8300")))
}

#[tokio::test]
async fn an_authority_that_is_exchanged_is_followed_without_a_restart() {
    remora::consul::tls::install_provider();
    let (old, new, folder) = (House::new(), House::new(), tempfile::tempdir().unwrap());
    let file = folder.path().join("ca.pem");
    std::fs::copy(old.file("ca.pem"), &file).unwrap();
    let server = Server::start(old.server(false)).await;
    let client = server.client(ConsulTls { ca_file: Some(file.clone()), ..ConsulTls::default() });
    calls(&client).await.unwrap();

    server.becomes(new.server(false));
    let error = calls(&client).await.unwrap_err();
    assert!(error.to_string().contains("invalid peer certificate"), "{error}");
    // Half of it, as a careless program writes it.
    let whole = std::fs::read(new.file("ca.pem")).unwrap();
    std::fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    assert!(calls(&client).await.unwrap_err().to_string().contains("invalid peer certificate"));
    replace(&new.file("ca.pem"), &file);
    calls(&client).await.expect("at once");
}

#[tokio::test]
async fn a_folder_of_authorities_is_followed() {
    remora::consul::tls::install_provider();
    let (old, new, folder) = (House::new(), House::new(), tempfile::tempdir().unwrap());
    std::fs::copy(old.file("ca.pem"), folder.path().join("old.pem")).unwrap();
    let server = Server::start(old.server(false)).await;
    let client = server.client(ConsulTls { ca_path: Some(folder.path().to_owned()), ..ConsulTls::default() });
    calls(&client).await.unwrap();
    server.becomes(new.server(false));
    calls(&client).await.unwrap_err();
    std::fs::copy(new.file("ca.pem"), folder.path().join("new.pem")).unwrap();
    calls(&client).await.expect("at once");
}

#[tokio::test]
async fn a_client_certificate_that_is_renewed_is_shown() {
    remora::consul::tls::install_provider();
    let (house, new, folder) = (House::new(), House::new(), tempfile::tempdir().unwrap());
    let file = |name: &str| folder.path().join(name);
    for name in ["client.pem", "client.key"] {
        std::fs::copy(house.file(name), file(name)).unwrap();
    }
    // Both authorities from the beginning: only the client's own certificate has to change.
    let both = [house.file("ca.pem"), new.file("ca.pem")].map(|file| std::fs::read_to_string(file).unwrap()).concat();
    std::fs::write(file("ca.pem"), both).unwrap();
    let server = Server::start(house.server(true)).await;
    let client = Some((file("client.pem"), file("client.key")));
    let client = server.client(ConsulTls { ca_file: Some(file("ca.pem")), client, ..ConsulTls::default() });
    calls(&client).await.unwrap();

    server.becomes(new.server(true));
    calls(&client).await.unwrap_err();
    // The certificate without its key: no pair, and nothing that could be used.
    replace(&new.file("client.pem"), &file("client.pem"));
    calls(&client).await.unwrap_err();
    replace(&new.file("client.key"), &file("client.key"));
    calls(&client).await.expect("at once");
}

#[tokio::test]
async fn files_that_cannot_be_used_leave_the_old_ones_in_use() {
    remora::consul::tls::install_provider();
    let (house, folder) = (House::new(), tempfile::tempdir().unwrap());
    let file = folder.path().join("ca.pem");
    std::fs::copy(house.file("ca.pem"), &file).unwrap();
    let server = Server::start(house.server(false)).await;
    let client = server.client(ConsulTls { ca_file: Some(file.clone()), ..ConsulTls::default() });
    std::fs::remove_file(&file).unwrap();
    // Longer than the time between two looks.
    tokio::time::sleep(Duration::from_millis(5200)).await;
    calls(&client).await.unwrap();
    std::fs::write(&file, "nothing of the kind").unwrap();
    tokio::time::sleep(Duration::from_millis(5200)).await;
    calls(&client).await.unwrap();
}
