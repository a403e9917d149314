//! Consul's standard variables, with the meaning that Consul's own client gives them (`api/api.go`), and registrator's
//! registry URI. Where that client only warns about a value and goes on with another one, this is an error.

use std::path::PathBuf;

use super::errors::{ConfigError, Findings};
use super::parse::{self, Endpoint, Given, endpoint};
use super::raw::Raw;
use super::{Consul, ConsulAddress, ConsulTls, Secret, Token};

mod address;

/// Registrator's last argument: which registry to use.
#[cfg_attr(test, derive(Debug))]
pub(super) struct Registry {
    scheme: RegistryScheme,
    /// What follows `//`.
    rest: String,
    /// All of it, for messages.
    argument: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RegistryScheme {
    Plain,
    Tls,
    Unix,
}

/// Under which name errors speak of the registry URI.
const REGISTRY: &str = "registry";

/// Registries that registrator has and Remora has not.
const OTHER_REGISTRIES: [&str; 6] = ["consulkv", "consulkv-unix", "etcd", "skydns2", "zookeeper", "etcd3"];

/// Whether an argument is a registry URI, as opposed to the name of a command: it has `//`, or one of registrator's schemes
/// (`consul:` alone is one that registrator takes).
pub(super) fn is_registry(argument: &str) -> bool {
    let scheme = argument.split_once(':').map(|(scheme, _)| scheme.to_ascii_lowercase());
    argument.contains("://") || scheme.is_some_and(|scheme| scheme.starts_with("consul") || is_other(&scheme))
}

fn is_other(scheme: &str) -> bool {
    OTHER_REGISTRIES.contains(&scheme)
}

/// Reads a registry URI as far as its scheme; the address in it is judged together with `CONSUL_HTTP_ADDR`.
pub(super) fn registry(argument: &str) -> Result<Registry, ConfigError> {
    let given = Given { name: REGISTRY, text: argument };
    let expected = "consul://host:port, consul-tls://host:port or consul-unix:///path/of/socket";
    let (scheme, rest) = argument.trim().split_once(':').unwrap_or((argument, ""));
    let rest = rest.strip_prefix("//").unwrap_or(rest).to_owned();
    let scheme = match scheme.to_ascii_lowercase().as_str() {
        "consul" => RegistryScheme::Plain,
        "consul-tls" => RegistryScheme::Tls,
        "consul-unix" => RegistryScheme::Unix,
        other if is_other(other) => {
            return Err(given.wrong_address(format!("{expected}; Remora speaks to Consul's service catalog only")));
        }
        _ => return Err(given.wrong_address(expected)),
    };
    Ok(Registry { scheme, rest, argument: argument.to_owned() })
}

/// Judges everything that concerns Consul.
pub(super) fn build(raw: &Raw, registry: Option<&Registry>, findings: &mut Findings) -> Consul {
    let boolean = |value: Option<Given<'_>>, findings: &mut Findings| {
        value.and_then(|given| findings.take(parse::go_boolean(given)))
    };
    let ssl = boolean(given("CONSUL_HTTP_SSL", raw.consul_http_ssl.as_ref()), findings).unwrap_or(false);
    let verify =
        boolean(given("CONSUL_HTTP_SSL_VERIFY", raw.consul_http_ssl_verify.as_ref()), findings).unwrap_or(true);

    let (address, others) =
        address::addresses(given("CONSUL_HTTP_ADDR", raw.consul_http_addr.as_ref()), registry, ssl, findings);
    let token = token(raw, findings);
    let auth = given("CONSUL_HTTP_AUTH", raw.consul_http_auth.as_ref()).and_then(|given| findings.take(auth(given)));
    let server_name = given("CONSUL_TLS_SERVER_NAME", raw.consul_tls_server_name.as_ref())
        .and_then(|given| findings.take(server_name(given)));
    let path = |name, value| given(name, value).map(|given| PathBuf::from(given.trimmed()));
    let tls = ConsulTls {
        verify,
        ca_file: path("CONSUL_CACERT", raw.consul_cacert.as_ref()),
        ca_path: path("CONSUL_CAPATH", raw.consul_capath.as_ref()),
        client: client(raw, findings),
        server_name,
    };
    let mut name = |name, value| given(name, value).and_then(|given| findings.take(parse::name(given, "team-a")));
    let namespace = name("CONSUL_NAMESPACE", raw.consul_namespace.as_ref());
    let partition = name("CONSUL_PARTITION", raw.consul_partition.as_ref());

    let consul = Consul { address, others, token, auth, tls, namespace, partition };
    warn(&consul, ssl, findings);
    consul
}

fn given<'a>(name: &'a str, value: Option<&'a String>) -> Option<Given<'a>> {
    value.map(|text| Given { name, text })
}

/// What works, but perhaps not as it was meant.
fn warn(consul: &Consul, ssl: bool, findings: &mut Findings) {
    let secret = consul.token != Token::None || consul.auth.is_some();
    for address in consul.addresses() {
        if let ConsulAddress::Url { tls: false, host, .. } = address
            && secret
            && !(Endpoint { host: host.clone(), port: None }).is_loopback()
        {
            findings.warn(format!(
                "{address} is plain http to another host: the credentials for Consul can be read on the way; use https"
            ));
        }
    }
    // Several addresses are of one kind.
    match &consul.address {
        ConsulAddress::Url { tls: true, .. } => {
            if !consul.tls.verify {
                findings.warn("CONSUL_HTTP_SSL_VERIFY=false: whoever answers in Consul's place will not be noticed");
            }
        }
        ConsulAddress::Url { tls: false, .. } => {
            // Not to verify is no reason: it changes nothing here, and is set by habit.
            if (ConsulTls { verify: true, ..consul.tls.clone() }) != ConsulTls::default() {
                findings.warn(format!(
                    "{} is plain http: CONSUL_CACERT and the other settings of TLS have no effect; use https:// or \
                     CONSUL_HTTP_SSL=true",
                    consul.address
                ));
            }
        }
        ConsulAddress::Unix(_) => {
            if ssl {
                findings.warn("CONSUL_HTTP_SSL has no effect: Consul is addressed by a unix socket");
            }
        }
    }
}

fn token(raw: &Raw, findings: &mut Findings) -> Token {
    let value = given("CONSUL_HTTP_TOKEN", raw.consul_http_token.as_ref());
    let file = given("CONSUL_HTTP_TOKEN_FILE", raw.consul_http_token_file.as_ref());
    if let Some(file) = file {
        if value.is_some() {
            findings.warn("CONSUL_HTTP_TOKEN has no effect: CONSUL_HTTP_TOKEN_FILE is set, and wins");
        }
        return Token::File(PathBuf::from(file.trimmed()));
    }
    let Some(value) = value else { return Token::None };
    let token = value.trimmed();
    // It travels as the value of an HTTP header.
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        findings.take::<()>(Err(value.wrong_secret("a token of visible ASCII characters without blanks")));
    }
    Token::Value(Secret::new(token))
}

/// `user` or `user:password`. Only line ends are cut off: a password may end with a blank.
fn auth(given: Given<'_>) -> Result<(String, Secret), ConfigError> {
    let text = given.text.trim_end_matches(['\r', '\n']);
    if text.chars().any(char::is_control) {
        return Err(given.wrong_secret("user:password without control characters"));
    }
    let (user, password) = text.split_once(':').unwrap_or((text, ""));
    Ok((user.to_owned(), Secret::new(password)))
}

/// The name in the certificate; a port behind it is cut off, as Consul's client does.
fn server_name(given: Given<'_>) -> Result<String, ConfigError> {
    let found = endpoint(given.trimmed());
    let name = found.map(|found| found.host.trim_start_matches('[').trim_end_matches(']').to_owned());
    name.ok_or_else(|| given.wrong("a host name, such as server.dc1.consul"))
}

/// Certificate and key of the client: both or none.
fn client(raw: &Raw, findings: &mut Findings) -> Option<(PathBuf, PathBuf)> {
    // The second names are those of registrator's documentation for `consul-tls://`.
    let certificate = given("CONSUL_CLIENT_CERT", raw.consul_client_cert.as_ref())
        .or_else(|| given("CONSUL_TLSCERT", raw.consul_tlscert.as_ref()));
    let key = given("CONSUL_CLIENT_KEY", raw.consul_client_key.as_ref())
        .or_else(|| given("CONSUL_TLSKEY", raw.consul_tlskey.as_ref()));
    match (certificate, key) {
        (None, None) => None,
        (Some(certificate), Some(key)) => Some((PathBuf::from(certificate.trimmed()), PathBuf::from(key.trimmed()))),
        (Some(certificate), None) => {
            let expected = format!("the file of the key, because {} is set", certificate.name);
            findings.error("CONSUL_CLIENT_KEY", "(not set)", expected);
            None
        }
        (None, Some(key)) => {
            let expected = format!("the file of the certificate, because {} is set", key.name);
            findings.error("CONSUL_CLIENT_CERT", "(not set)", expected);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(variables: &[(&str, &str)]) -> Raw {
        super::super::raw::collect(
            variables.iter().map(|(name, value)| (name.into(), value.into())),
            &mut Findings::default(),
        )
    }

    /// The result, and the errors or the warnings.
    fn built(variables: &[(&str, &str)], uri: Option<&str>) -> Result<(Consul, Vec<String>), Vec<String>> {
        let mut findings = Findings::default();
        let registry = uri.map(|uri| registry(uri).unwrap());
        let consul = build(&raw(variables), registry.as_ref(), &mut findings);
        match findings.finish() {
            Ok(warnings) => Ok((consul, warnings)),
            Err(errors) => Err(errors.0.iter().map(ToString::to_string).collect()),
        }
    }

    fn address_of(variables: &[(&str, &str)], uri: Option<&str>) -> String {
        built(variables, uri).unwrap().0.address.to_string()
    }

    #[test]
    fn addresses_mean_what_they_mean_to_consuls_own_client() {
        for (text, expected) in [
            ("consul:8500", "http://consul:8500"),
            (":8500", "http://127.0.0.1:8500"),
            ("http://consul:8500/", "http://consul:8500"),
            ("http://consul:8500/a/b//", "http://consul:8500/a/b"),
            ("https://consul.example.com", "https://consul.example.com:443"),
            ("http://consul", "http://consul:80"),
            ("HTTP://[::1]:8500", "http://[::1]:8500"),
            ("unix:///run/consul.sock", "unix:///run/consul.sock"),
            ("unix://consul.sock", "unix://consul.sock"),
        ] {
            assert_eq!(address_of(&[("CONSUL_HTTP_ADDR", text)], None), expected);
        }
        assert_eq!(address_of(&[], None), "http://127.0.0.1:8500");
    }

    #[test]
    fn an_address_that_cannot_be_used_is_an_error_without_its_credentials() {
        for text in [
            "tcp://consul:8500",
            "http://",
            "::1:8500",
            "consul:port",
            "unix://",
            "http://h/a?token=hunter2",
            "http://u:hunter2@h:1",
        ] {
            let errors = built(&[("CONSUL_HTTP_ADDR", text)], None).unwrap_err();
            assert_eq!(errors.len(), 1, "{text}");
            assert!(errors[0].starts_with("CONSUL_HTTP_ADDR="), "{errors:?}");
            assert!(!errors[0].contains("hunter2"), "{errors:?}");
        }
    }

    #[test]
    fn ssl_forces_https_and_never_takes_it_away() {
        let with = |ssl, text| address_of(&[("CONSUL_HTTP_SSL", ssl), ("CONSUL_HTTP_ADDR", text)], None);
        assert_eq!(with("true", "http://consul:8501"), "https://consul:8501");
        assert_eq!(with("1", "consul:8501"), "https://consul:8501");
        assert_eq!(with("0", "https://consul:8501"), "https://consul:8501");
        assert_eq!(address_of(&[("CONSUL_HTTP_SSL", "T")], None), "https://127.0.0.1:8500");
        assert_eq!(address_of(&[("CONSUL_HTTP_SSL", "T")], Some("consul://c:8501")), "https://c:8501");
    }

    #[test]
    fn the_registry_uri_wins_when_it_names_an_address() {
        let variable = [("CONSUL_HTTP_ADDR", "other:8500")];
        for (uri, expected) in [
            ("consul://c:8500", "http://c:8500"),
            ("CONSUL://c:8500/", "http://c:8500"),
            ("consul://:8500", "http://127.0.0.1:8500"),
            ("consul-tls://c:8501", "https://c:8501"),
            ("consul-unix:///run/c.sock", "unix:///run/c.sock"),
            ("consul://", "http://other:8500"),
            ("consul:", "http://other:8500"),
            ("consul-tls://", "https://other:8500"),
        ] {
            assert_eq!(address_of(&variable, Some(uri)), expected, "{uri}");
        }
        assert_eq!(address_of(&[], Some("consul:")), "http://127.0.0.1:8500");
    }

    #[test]
    fn a_missing_port_is_the_one_of_the_scheme_and_is_told() {
        let (consul, warnings) = built(&[], Some("consul://consul")).unwrap();
        assert_eq!(consul.address.to_string(), "http://consul:80");
        assert!(warnings[0].contains("8500"), "{warnings:?}");
        let (_, warnings) = built(&[("CONSUL_HTTP_ADDR", "https://consul")], None).unwrap();
        assert_eq!(warnings, [""; 0]);
    }

    #[test]
    fn registries_other_than_consul_are_refused_by_name() {
        for uri in ["etcd://h:1", "consulkv://h:1/p", "zookeeper://h/p", "skydns2://h/d", "consulkv:"] {
            assert!(is_registry(uri), "{uri}");
            let error = registry(uri).unwrap_err();
            assert!(error.expected.contains("Remora speaks to Consul's service catalog only"), "{error}");
        }
        assert!(registry("http://consul:8500").unwrap_err().expected.starts_with("consul://host:port"));
        assert!(!is_registry("doctor"));
    }

    #[test]
    fn the_token_file_wins_over_the_token_and_says_so() {
        let (consul, warnings) =
            built(&[("CONSUL_HTTP_TOKEN", "hunter2"), ("CONSUL_HTTP_TOKEN_FILE", "/run/secrets/token")], None).unwrap();
        assert_eq!(consul.token, Token::File("/run/secrets/token".into()));
        assert_eq!(warnings, ["CONSUL_HTTP_TOKEN has no effect: CONSUL_HTTP_TOKEN_FILE is set, and wins"]);
    }

    #[test]
    fn a_token_is_trimmed_and_one_that_no_header_can_carry_is_an_error_that_hides_it() {
        let (consul, _) = built(&[("CONSUL_HTTP_TOKEN", " hunter2\n")], None).unwrap();
        assert_eq!(consul.token, Token::Value(Secret::new("hunter2")));
        let errors = built(&[("CONSUL_HTTP_TOKEN", "hunter2 hunter2")], None).unwrap_err();
        assert_eq!(
            errors,
            ["CONSUL_HTTP_TOKEN=(secret, 15 characters): expected a token of visible ASCII characters without blanks"]
        );
    }

    #[test]
    fn basic_authentication_is_a_user_with_or_without_a_password() {
        let auth = |text| built(&[("CONSUL_HTTP_AUTH", text)], None).unwrap().0.auth.unwrap();
        assert_eq!(auth("user"), ("user".to_owned(), Secret::new("")));
        assert_eq!(auth("user:a:b \n"), ("user".to_owned(), Secret::new("a:b ")));
    }

    #[test]
    fn credentials_in_plain_http_to_another_host_are_told() {
        for (address, warned) in [
            ("consul:8500", true),
            ("127.0.0.1:8500", false),
            ("localhost:8500", false),
            ("[::1]:8500", false),
            ("https://consul:8501", false),
            ("unix:///run/consul.sock", false),
        ] {
            let (_, warnings) = built(&[("CONSUL_HTTP_ADDR", address), ("CONSUL_HTTP_TOKEN", "t")], None).unwrap();
            assert_eq!(!warnings.is_empty(), warned, "{address}: {warnings:?}");
        }
        assert_eq!(built(&[("CONSUL_HTTP_ADDR", "consul:8500")], None).unwrap().1, [""; 0]);
    }

    #[test]
    fn a_client_certificate_needs_its_key_and_registrators_names_are_known() {
        let client =
            |variables: &[(&str, &str)]| built(variables, Some("consul-tls://c:1")).map(|built| built.0.tls.client);
        let both = Ok(Some(("c".into(), "k".into())));
        assert_eq!(client(&[("CONSUL_CLIENT_CERT", "c"), ("CONSUL_CLIENT_KEY", "k")]), both);
        assert_eq!(client(&[("CONSUL_TLSCERT", "c"), ("CONSUL_TLSKEY", "k")]), both);
        assert_eq!(client(&[("CONSUL_CLIENT_CERT", "c"), ("CONSUL_TLSCERT", "x"), ("CONSUL_TLSKEY", "k")]), both);
        assert_eq!(
            client(&[("CONSUL_TLSCERT", "c")]),
            Err(vec![
                "CONSUL_CLIENT_KEY=(not set): expected the file of the key, because CONSUL_TLSCERT is set".to_owned()
            ])
        );
        assert!(client(&[("CONSUL_CLIENT_KEY", "k")]).is_err());
    }

    #[test]
    fn the_server_name_loses_its_port() {
        let tls = |text| built(&[("CONSUL_TLS_SERVER_NAME", text)], Some("consul-tls://c:1")).unwrap().0.tls;
        assert_eq!(tls("server.dc1.consul:8501").server_name.as_deref(), Some("server.dc1.consul"));
        assert_eq!(tls("[::1]:8501").server_name.as_deref(), Some("::1"));
    }

    #[test]
    fn tls_settings_without_tls_and_tls_without_verification_are_told() {
        let warnings = |variables: &[(&str, &str)]| built(variables, None).unwrap().1.join("\n");
        assert!(warnings(&[("CONSUL_CACERT", "/ca.pem")]).contains("no effect"));
        assert_eq!(warnings(&[("CONSUL_CACERT", "/ca.pem"), ("CONSUL_HTTP_SSL", "true")]), "");
        assert!(warnings(&[("CONSUL_HTTP_SSL", "true"), ("CONSUL_HTTP_SSL_VERIFY", "false")]).contains("noticed"));
        let unix = [("CONSUL_HTTP_ADDR", "unix:///c.sock"), ("CONSUL_HTTP_SSL", "true")];
        assert!(warnings(&unix).contains("unix socket"));
    }
}
