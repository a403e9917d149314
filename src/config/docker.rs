//! Docker's standard variables, with the meaning that Docker's own command line gives them.

use std::path::{Path, PathBuf};

use super::Docker;
use super::errors::{ConfigError, Findings};
use super::parse::{Endpoint, Given, endpoint};
use super::raw::Raw;

/// Where the engine's socket is on every host.
const SOCKET: &str = "/var/run/docker.sock";
/// Where registrator's documentation has it mounted: whoever swaps the image name only has this one.
const REGISTRATORS_SOCKET: &str = "/tmp/docker.sock";

/// Judges everything that concerns Docker. `exists` is asked only about the two usual sockets, and only when
/// `DOCKER_HOST` says nothing.
pub(super) fn build(raw: &Raw, exists: &dyn Fn(&Path) -> bool, findings: &mut Findings) -> Docker {
    let Some(text) = raw.docker_host.as_deref() else { return usual_socket(exists) };
    let given = Given { name: "DOCKER_HOST", text };
    // Docker's own rule: whatever is in it, `0` and `false` included.
    let tls = raw.docker_tls_verify.is_some();
    let Some(host) = findings.take(host(given, tls)) else { return Docker::Unix(SOCKET.into()) };
    match host {
        Host::Unix(path) => Docker::Unix(path),
        Host::Net { endpoint, tls: false } => {
            let Endpoint { host, port } = &endpoint;
            // Ports 2375 and 2376 are the ones registered for Docker, and its client's defaults.
            let address = format!("{host}:{}", port.unwrap_or(2375));
            if raw.docker_cert_path.is_some() {
                findings.warn("DOCKER_CERT_PATH has no effect: DOCKER_TLS_VERIFY is not set");
            }
            if !endpoint.is_loopback() {
                findings.warn(format!(
                    "DOCKER_HOST is plain TCP to {address}: whoever can reach it is root there; use DOCKER_TLS_VERIFY=1"
                ));
            }
            Docker::Tcp(address)
        }
        Host::Net { endpoint: Endpoint { host, port }, tls: true } => {
            let address = format!("{host}:{}", port.unwrap_or(2376));
            Docker::Tls { address, certificates: certificates(raw, findings) }
        }
    }
}

fn usual_socket(exists: &dyn Fn(&Path) -> bool) -> Docker {
    let only_registrators = !exists(Path::new(SOCKET)) && exists(Path::new(REGISTRATORS_SOCKET));
    Docker::Unix(PathBuf::from(if only_registrators { REGISTRATORS_SOCKET } else { SOCKET }))
}

/// The folder with `ca.pem`, `cert.pem` and `key.pem`.
fn certificates(raw: &Raw, findings: &mut Findings) -> PathBuf {
    if let Some(path) = &raw.docker_cert_path {
        return PathBuf::from(path.trim());
    }
    if let Some(home) = &raw.home {
        return Path::new(home.trim()).join(".docker");
    }
    findings.error(
        "DOCKER_CERT_PATH",
        "(not set)",
        "the folder with ca.pem, cert.pem and key.pem, because DOCKER_HOST is to be reached by TLS and HOME, whose .docker \
         would be the default, is not set either",
    );
    PathBuf::new()
}

/// What `DOCKER_HOST` names.
enum Host {
    Unix(PathBuf),
    Net { endpoint: Endpoint, tls: bool },
}

fn host(given: Given<'_>, tls: bool) -> Result<Host, ConfigError> {
    let text = given.trimmed();
    let wrong = |why: &str| {
        let forms = "unix:///path/of/socket, tcp://host:port or https://host:port, such as unix:///var/run/docker.sock";
        Err(given.wrong_address(format!("{forms}{why}")))
    };
    // Without a scheme Docker's command line reads it as TCP.
    let (scheme, rest) = text.split_once("://").unwrap_or(("tcp", text));
    match scheme.to_ascii_lowercase().as_str() {
        "unix" if rest.contains('\0') => wrong(""),
        // As Docker's command line has it.
        "unix" if rest.is_empty() => Ok(Host::Unix(SOCKET.into())),
        "unix" => Ok(Host::Unix(PathBuf::from(rest))),
        scheme @ ("tcp" | "http" | "https") => match endpoint(rest.strip_suffix('/').unwrap_or(rest)) {
            Some(endpoint) => Ok(Host::Net { endpoint, tls: tls || scheme == "https" }),
            None => wrong(""),
        },
        "ssh" => wrong("; ssh:// needs an ssh client, which Remora has not: run Remora on that host instead"),
        _ => wrong(""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built(variables: &[(&str, &str)]) -> Result<(Docker, Vec<String>), Vec<String>> {
        let mut findings = Findings::default();
        let env = variables.iter().map(|(name, value)| (name.into(), value.into()));
        let raw = super::super::raw::collect(env, &mut findings);
        let docker = build(&raw, &|_| panic!("DOCKER_HOST is set"), &mut findings);
        match findings.finish() {
            Ok(warnings) => Ok((docker, warnings)),
            Err(errors) => Err(errors.0.iter().map(ToString::to_string).collect()),
        }
    }

    fn docker(variables: &[(&str, &str)]) -> Docker {
        built(variables).unwrap().0
    }

    #[test]
    fn without_docker_host_registrators_mount_is_used_only_when_the_usual_one_is_missing() {
        for (existing, expected) in [
            (&[][..], SOCKET),
            (&[SOCKET][..], SOCKET),
            (&[SOCKET, REGISTRATORS_SOCKET][..], SOCKET),
            (&[REGISTRATORS_SOCKET][..], REGISTRATORS_SOCKET),
        ] {
            let exists = |path: &Path| existing.iter().any(|existing| Path::new(existing) == path);
            let docker = build(&Raw::default(), &exists, &mut Findings::default());
            assert_eq!(docker, Docker::Unix(expected.into()), "{existing:?}");
        }
    }

    #[test]
    fn hosts_mean_what_they_mean_to_docker() {
        for (text, expected) in [
            ("unix:///tmp/docker.sock", Docker::Unix("/tmp/docker.sock".into())),
            ("unix://", Docker::Unix(SOCKET.into())),
            ("tcp://127.0.0.1", Docker::Tcp("127.0.0.1:2375".to_owned())),
            ("tcp://localhost:1234/", Docker::Tcp("localhost:1234".to_owned())),
            ("http://[::1]:1", Docker::Tcp("[::1]:1".to_owned())),
            ("engine:2375", Docker::Tcp("engine:2375".to_owned())),
        ] {
            assert_eq!(docker(&[("DOCKER_HOST", text)]), expected);
        }
    }

    #[test]
    fn hosts_that_cannot_be_used_are_errors_and_ssh_says_why() {
        for text in ["npipe://x", "fd://", "tcp://", "tcp://a:b", "tcp://a/b", "ftp://a", "tcp://u:hunter2@a:1"] {
            let errors = built(&[("DOCKER_HOST", text)]).unwrap_err();
            assert!(errors.len() == 1 && errors[0].starts_with("DOCKER_HOST="), "{errors:?}");
            assert!(!errors[0].contains("hunter2"), "{errors:?}");
        }
        let errors = built(&[("DOCKER_HOST", "ssh://engine")]).unwrap_err();
        assert!(errors[0].contains("needs an ssh client"), "{errors:?}");
    }

    #[test]
    fn tls_is_on_when_the_variable_holds_anything_or_the_scheme_is_https() {
        let tls = |port: u16, folder: &str| Docker::Tls { address: format!("e:{port}"), certificates: folder.into() };
        let common = [("DOCKER_CERT_PATH", "/certs"), ("HOME", "/root")];
        let with = |variables: &[(&'static str, &'static str)]| docker(&[variables, &common].concat());
        assert_eq!(with(&[("DOCKER_HOST", "tcp://e"), ("DOCKER_TLS_VERIFY", "0")]), tls(2376, "/certs"));
        assert_eq!(with(&[("DOCKER_HOST", "https://e:1")]), tls(1, "/certs"));
        assert_eq!(docker(&[("DOCKER_HOST", "https://e:1"), ("HOME", "/root")]), tls(1, "/root/.docker"));
        let errors = built(&[("DOCKER_HOST", "https://e:1")]).unwrap_err();
        assert!(errors[0].starts_with("DOCKER_CERT_PATH=(not set)"), "{errors:?}");
    }

    #[test]
    fn plain_tcp_to_another_host_is_told_and_so_are_certificates_that_are_not_used() {
        let warnings = |variables: &[(&str, &str)]| built(variables).unwrap().1.join("\n");
        assert!(warnings(&[("DOCKER_HOST", "tcp://engine:2375")]).contains("plain TCP to engine:2375"));
        assert_eq!(warnings(&[("DOCKER_HOST", "tcp://127.0.0.1:2375")]), "");
        let unused = [("DOCKER_HOST", "tcp://localhost:2375"), ("DOCKER_CERT_PATH", "/certs")];
        assert!(warnings(&unused).contains("no effect"));
    }
}
