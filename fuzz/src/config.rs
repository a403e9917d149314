//! Environment and command line: `NAME=value` sets a variable, any other line is an argument.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::time::Duration;

use remora::config::{ConfigErrors, Loaded, load};
use remora::template::Template;

use super::metadata::is_shown;

/// Stands where a secret would.
const SECRET: &str = "hunter2-c4n4ry-hunter2";

pub fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (mut variables, mut arguments) = (BTreeMap::new(), Vec::new());
    for line in text.lines().filter(|line| !line.contains('\0')).take(100) {
        match line.split_once('=').filter(|(name, _)| is_name(name)) {
            Some((name, value)) => drop(variables.insert(name.to_owned(), value.to_owned())),
            None => arguments.push(line.to_owned()),
        }
    }
    let loaded = read(&arguments, &variables);
    assert_eq!(loaded, read(&arguments, &variables), "the same settings give the same");
    match &loaded {
        Ok(loaded) => right(loaded),
        Err(errors) => {
            assert!(!errors.0.is_empty());
            for error in &errors.0 {
                assert!(!error.name.is_empty() && !error.expected.is_empty(), "{error:?}");
                assert!(is_shown(&error.to_string(), 5000), "{error:?}");
            }
        }
    }
    if !text.contains("hunter2") {
        secrets(&arguments, variables);
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
}

fn read(arguments: &[String], variables: &BTreeMap<String, String>) -> Result<Loaded, ConfigErrors> {
    let os = |text: &String| OsString::from(text);
    load(arguments.iter().map(os), variables.iter().map(|(name, value)| (os(name), os(value))))
}

/// What is taken is within its bounds.
fn right(loaded: &Loaded) {
    let config = &loaded.config;
    assert!((Duration::from_secs(1)..=Duration::from_secs(86_400)).contains(&config.resync), "{:?}", config.resync);
    assert!(config.health_ttl.is_none_or(|ttl| (10..=86_400).contains(&ttl.as_secs())), "{:?}", config.health_ttl);
    assert!(config.publish.max_ports > 0);
    if let Some(tags) = config.publish.tags.as_ref().filter(|tags| tags.contains("{{")) {
        assert!(Template::parse(tags).is_ok(), "a template that cannot be used was taken: {tags:?}");
    }
    for address in config.consul.addresses() {
        assert!(!format!("{address:?}").is_empty());
    }
    assert!(!config.consul.told_addresses().is_empty());
    for (name, value) in config.describe() {
        assert!(!name.is_empty() && !value.chars().any(char::is_control), "{name}: {value:?}");
    }
    assert!(loaded.warnings.iter().all(|warning| !warning.chars().any(char::is_control)), "{:?}", loaded.warnings);
}

/// Wherever a secret may stand: it is in nothing that is shown.
fn secrets(arguments: &[String], mut variables: BTreeMap<String, String>) {
    let address = variables.get("CONSUL_HTTP_ADDR").cloned().unwrap_or_default();
    let host = address.rsplit(['/', '@']).next().unwrap_or_default();
    for (name, value) in [
        ("CONSUL_HTTP_TOKEN", SECRET.to_owned()),
        ("CONSUL_HTTP_AUTH", format!("user:{SECRET}")),
        ("CONSUL_HTTP_ADDR", format!("http://user:{SECRET}@{host}")),
        ("REMORA_HEAL_WEBHOOK", format!("https://user:{SECRET}@hooks.example.com/{SECRET}?token={SECRET}")),
    ] {
        variables.insert(name.to_owned(), value);
    }
    let shown = match read(arguments, &variables) {
        Ok(loaded) => format!("{loaded:?} {:?} {:?}", loaded.config.describe(), loaded.warnings),
        Err(errors) => format!("{errors} {errors:?}"),
    };
    assert!(!shown.contains("c4n4ry"), "a secret is shown: {shown}");
}
