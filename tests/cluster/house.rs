//! An authority, with a certificate for Consul and one for a client of Consul's, all of them files that can be replaced.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the certificate of Consul is for.
pub const SERVER: &str = "server.dc1.consul";

/// The files `ca.pem`, `server.pem`, `server.key`, `client.pem`, `client.key` of a folder.
pub struct House(tempfile::TempDir);

impl House {
    pub fn new() -> Self {
        let house = Self(tempfile::Builder::new().prefix("remora-house-").tempdir().unwrap());
        house.found();
        house
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Another authority, and all that it signs.
    pub fn found(&self) {
        let settings = format!(
            "[ca]\ndefault_ca = own\n[own]\ndatabase = index.txt\nserial = serial\nnew_certs_dir = .\ndefault_md = sha256\n\
             policy = any\nunique_subject = no\ncertificate = ca.pem\nprivate_key = ca.key\n[any]\ncommonName = supplied\n\
             [names]\nsubjectAltName = DNS:{SERVER}\n"
        );
        for (name, text) in [("ca.cnf", settings.as_str()), ("index.txt", ""), ("serial", "01\n")] {
            std::fs::write(self.file(name), text).unwrap();
        }
        self.openssl(&format!("req -x509 {KEY} -days 2 -keyout ca.key -out ca.pem -subj /CN=ca"));
        self.issue("server");
        self.issue("client");
    }

    /// Another key and certificate for this one.
    pub fn issue(&self, whom: &str) {
        self.sign(whom, "-days 2");
    }

    /// The same, but one that ended a while ago.
    pub fn issue_expired(&self, whom: &str) {
        self.sign(whom, "-startdate 20240101000000Z -enddate 20240201000000Z");
    }

    /// Whether whoever listens there shows the certificate of now. What it shows instead, if it does not.
    pub fn is_shown_at(&self, address: SocketAddr) -> Result<(), String> {
        let print = "openssl x509 -noout -fingerprint -enddate";
        let sh = |script: &str| {
            let output = Command::new("sh").args(["-c", script]).current_dir(self.0.path()).output().unwrap();
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        let shown = sh(&format!("openssl s_client -connect {address} </dev/null 2>/dev/null | {print}"));
        let own = sh(&format!("{print} -in server.pem"));
        if shown == own { Ok(()) } else { Err(format!("{address} shows {shown:?} instead of {own:?}")) }
    }

    fn sign(&self, whom: &str, span: &str) {
        self.openssl(&format!("req -new {KEY} -keyout {whom}.key -out {whom}.csr -subj /CN={whom}"));
        let how = "-batch -notext -config ca.cnf -extensions names";
        self.openssl(&format!("ca {how} {span} -in {whom}.csr -out {whom}.pem"));
    }

    fn openssl(&self, arguments: &str) {
        let output = Command::new("openssl").args(arguments.split(' ')).current_dir(self.0.path()).output();
        let output = output.expect("certificates are made with openssl: install it");
        assert!(output.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

/// As `mv` does it: the file is another one at once.
pub fn replace(from: &Path, to: &Path) {
    let beside = to.with_extension("new");
    std::fs::copy(from, &beside).unwrap();
    std::fs::rename(beside, to).unwrap();
}

const KEY: &str = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
