//! Error → what to do about it. Pure.

use crate::consul::ConsulError;
use crate::docker::DockerError;

/// About Docker.
pub(super) fn docker(error: &DockerError) -> &'static str {
    match error {
        DockerError::Unreachable { reason, .. } if reason.contains("ermission denied") => {
            "run with the group of the socket: --group-add $(stat -c %g /var/run/docker.sock)"
        }
        DockerError::Unreachable { reason, .. } => {
            tls(reason, &DOCKER).unwrap_or("is the Docker daemon running, and is its socket the one that is mounted?")
        }
        DockerError::TimedOut { .. } => "the engine is stuck or overloaded: docker ps should answer at once",
        DockerError::Refused { status: 400, message, .. } if message.contains(PLAIN_ON_TLS) => DOCKER.wants_https,
        DockerError::Refused { status: 401 | 403, .. } => {
            "the proxy in front of the socket must allow GET on /info, /version, /events, /containers and /_ping"
        }
        DockerError::Refused { .. } | DockerError::NotFound(_) | DockerError::Unreadable { .. } => {
            "is this a Docker Engine, of version 20.10 or newer?"
        }
    }
}

/// About Consul.
pub(super) fn consul(error: &ConsulError) -> &'static str {
    match error {
        ConsulError::Unreachable { reason, .. } => tls(reason, &CONSUL)
            .unwrap_or("is the Consul agent running, and is CONSUL_HTTP_ADDR its address as seen from here?"),
        ConsulError::TimedOut { .. } => {
            "the agent is stuck or overloaded, or something between drops what is sent: consul members should answer at once"
        }
        ConsulError::Unwell { .. } => "the agent answers, but not well: look at its log, and at consul members",
        ConsulError::Forbidden { .. } => "check CONSUL_HTTP_TOKEN or CONSUL_HTTP_TOKEN_FILE",
        ConsulError::NotOurs { .. } => "two nodes must not have one REMORA_NODE, nor a node that of a Consul agent",
        ConsulError::Conflict { .. } => "somebody else changed it at the same moment: try again",
        ConsulError::Invalid { message, .. } if message.contains(PLAIN_ON_TLS) => CONSUL.wants_https,
        ConsulError::NotFound { .. } | ConsulError::Invalid { .. } | ConsulError::Unreadable { .. } => {
            "is this the HTTP API of a Consul agent? CONSUL_HTTP_ADDR must name that, with its path if a proxy has one"
        }
    }
}

/// What Go's HTTP server answers to plain HTTP on a port for TLS, with status 400.
const PLAIN_ON_TLS: &str = "HTTP request to an HTTPS server";

/// How each peer's settings of TLS are called.
struct Names {
    wants_https: &'static str,
    wants_http: &'static str,
    issuer: &'static str,
    name: &'static str,
    time: &'static str,
    client: &'static str,
    other: &'static str,
}

const CONSUL: Names = Names {
    wants_https: "this port speaks https: CONSUL_HTTP_ADDR=https://host:port, or CONSUL_HTTP_SSL=true",
    wants_http: "this port speaks plain http: CONSUL_HTTP_ADDR=http://host:port, or name the port for https (often 8501)",
    issuer: "an authority signed Consul's certificate that is not trusted here: CONSUL_CACERT must name that authority's certificate",
    name: "Consul's certificate is for other names: set CONSUL_TLS_SERVER_NAME to one of them, or use one in CONSUL_HTTP_ADDR",
    time: "Consul's certificate is not valid at this time: renew it, or set this host's clock",
    client: "Consul wants a certificate of its clients, and takes none that is not signed by its authority: CONSUL_CLIENT_CERT and CONSUL_CLIENT_KEY must name one",
    other: "the two cannot agree on TLS: check CONSUL_CACERT, CONSUL_CLIENT_CERT and what Consul logs about it",
};

const DOCKER: Names = Names {
    wants_https: "this port speaks https: set DOCKER_TLS_VERIFY=1 and DOCKER_CERT_PATH",
    wants_http: "this port speaks plain http: unset DOCKER_TLS_VERIFY, or name the port for TLS (often 2376)",
    issuer: "an authority signed Docker's certificate that is not trusted here: DOCKER_CERT_PATH must hold that authority's ca.pem",
    name: "Docker's certificate is for other names: use one of them in DOCKER_HOST",
    time: "Docker's certificate is not valid at this time: renew it, or set this host's clock",
    client: "Docker takes no client whose certificate its authority has not signed: DOCKER_CERT_PATH must hold such a cert.pem and key.pem",
    other: "the two cannot agree on TLS: check the files of DOCKER_CERT_PATH and what Docker logs about it",
};

/// Advice about a connection that failed for TLS; `None` when it did for something else. The words are those of rustls.
fn tls(reason: &str, names: &Names) -> Option<&'static str> {
    let holds = |words: &[&str]| words.iter().any(|word| reason.contains(word));
    let table: [(&[&str], &'static str); 6] = [
        (&["UnknownIssuer", "CaUsedAsEndEntity"], names.issuer),
        (&["certificate not valid for name", "NotValidForName"], names.name),
        (&["Expired", "NotValidYet", "certificate expired", "certificate not valid yet"], names.time),
        // Alerts that come from the peer are about our certificate.
        (
            &["alert: CertificateRequired", "alert: BadCertificate", "alert: UnknownCA", "alert: Certificate"],
            names.client,
        ),
        // What comes back is no TLS at all.
        (&["InvalidContentType"], names.wants_http),
        (&["peer certificate", "fatal alert", "HandshakeFailure", "corrupt message"], names.other),
    ];
    table.iter().find(|(words, _)| holds(words)).map(|(_, advice)| *advice)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn consul_told(reason: &str) -> &'static str {
        consul(&ConsulError::Unreachable { address: "https://c:8501".to_owned(), reason: reason.to_owned() })
    }

    #[test]
    fn every_trouble_with_tls_has_advice_of_its_own() {
        // The reasons as they were read off a real connection.
        for (reason, advice) in [
            ("client error (Connect): invalid peer certificate: UnknownIssuer", "CONSUL_CACERT"),
            (
                "client error (Connect): invalid peer certificate: certificate not valid for name \"127.0.0.1\"; \
                 certificate is only valid for DnsName(\"server.dc1.consul\")",
                "CONSUL_TLS_SERVER_NAME",
            ),
            ("connection error: received fatal alert: CertificateRequired", "CONSUL_CLIENT_CERT"),
            ("connection error: received fatal alert: BadCertificate", "CONSUL_CLIENT_CERT"),
            ("client error (Connect): received corrupt message of type InvalidContentType", "http://"),
            (
                "client error (Connect): invalid peer certificate: certificate expired: verification time 2 (UNIX), \
                 but certificate is not valid after 1 (1 seconds ago)",
                "renew",
            ),
            ("client error (Connect): received fatal alert: HandshakeFailure", "cannot agree"),
            ("tcp connect error: Connection refused (os error 111)", "running"),
        ] {
            let told = consul_told(reason);
            assert!(told.contains(advice), "{reason}: {told}");
            assert_eq!(told.contains("running"), advice == "running", "{reason}: {told}");
        }
    }

    #[test]
    fn plain_http_on_a_port_for_https_is_told() {
        let message = "Client sent an HTTP request to an HTTPS server.".to_owned();
        let error = ConsulError::Invalid { call: "GET /v1/agent/self", message: message.clone() };
        assert!(consul(&error).contains("CONSUL_HTTP_ADDR=https://"));
        assert!(
            docker(&DockerError::Refused { call: "GET /info", status: 400, message }).contains("DOCKER_TLS_VERIFY=1")
        );
    }

    #[test]
    fn an_agent_that_answers_is_not_asked_whether_it_runs() {
        let (call, message) = ("GET /v1/agent/self", "x".to_owned());
        for error in [
            ConsulError::TimedOut { call, after: std::time::Duration::from_secs(1) },
            ConsulError::Unwell { call, status: 500, message: message.clone() },
            ConsulError::Forbidden { call, message: message.clone() },
            ConsulError::NotFound { call, message: message.clone() },
            ConsulError::Invalid { call, message: message.clone() },
            ConsulError::Unreadable { call, reason: message },
        ] {
            assert!(!consul(&error).contains("running"), "{error:?}");
        }
    }
}
