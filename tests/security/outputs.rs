//! Everything that Remora writes, and the search for what must not be in it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::support::consul::Consul;
use crate::support::remora::Remora;

/// Something that Remora has written.
pub struct Output {
    /// `log`, `page /metrics`, `consul /v1/…`, `kv remora/…`, `command explain …`, `webhook`, `process`.
    pub place: String,
    pub text: String,
}

impl Output {
    pub fn new(place: impl Into<String>, text: impl Into<String>) -> Self {
        Self { place: place.into(), text: text.into() }
    }
}

/// A secret, and the places where it may be, and has to be: none for what is never shown. Where it only may be has a `?` before it.
pub struct Canary {
    pub what: &'static str,
    pub secret: String,
    pub shown: &'static [&'static str],
}

impl Canary {
    /// One that nobody else has.
    pub fn new(what: &'static str, shown: &'static [&'static str]) -> Self {
        let random: String = std::iter::repeat_with(fastrand::alphanumeric).take(16).collect();
        Self { what, secret: format!("canary{random}"), shown }
    }

    /// In which forms it would be found; in small letters, as it is searched for.
    fn forms(&self) -> Vec<String> {
        let bytes = self.secret.as_bytes();
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let percent: String = bytes.iter().map(|byte| format!("%{byte:02x}")).collect();
        let mut forms = vec![self.secret.clone(), hex, percent];
        // Base64 of something that it is a part of: it may begin at each of three places in a group.
        for before in 0..3_usize {
            let text = STANDARD.encode([&vec![0; before][..], bytes].concat());
            let begin = [0, 2, 3][before];
            let inner = &text.trim_end_matches('=')[begin..];
            let inner = &inner[..inner.len() - 2];
            forms.extend([inner.to_owned(), inner.replace('+', "-").replace('/', "_")]);
        }
        forms.into_iter().map(|form| form.to_lowercase()).collect()
    }
}

/// What is where it must not be, or is not where it has to be.
pub fn search(outputs: &[Output], canaries: &[Canary]) -> Vec<String> {
    let mut wrong = Vec::new();
    let lower: Vec<(&str, String)> = outputs.iter().map(|it| (it.place.as_str(), it.text.to_lowercase())).collect();
    for canary in canaries {
        let forms = canary.forms();
        let found: Vec<(&str, &str, usize)> = lower
            .iter()
            .filter_map(|(place, text)| Some((*place, text.as_str(), forms.iter().find_map(|form| text.find(form))?)))
            .collect();
        for (place, text, at) in &found {
            if !canary.shown.iter().any(|allowed| place.starts_with(allowed.trim_start_matches('?'))) {
                let before: String = text[..*at].chars().rev().take(80).collect();
                let before: String = before.chars().rev().collect();
                let behind: String = text[*at..].chars().take(80).collect();
                wrong.push(format!("{} is in {place}: …{before}{behind}…", canary.what));
            }
        }
        for place in canary.shown.iter().filter(|place| !place.starts_with('?')) {
            if !found.iter().any(|(at, _, _)| at.starts_with(place)) {
                wrong.push(format!("{} is not in {place}: the search would find nothing there", canary.what));
            }
        }
    }
    wrong
}

/// Log, pages and what everybody sees of a process.
pub async fn of_process(remora: &Remora) -> Vec<Output> {
    let mut outputs: Vec<Output> = remora.log().into_iter().map(|line| Output::new("log", line)).collect();
    for page in ["/", "/metrics", "/healthz", "/readyz", "/status", "/status.json", "/nowhere?x=1"] {
        outputs.push(Output::new(format!("page {page}"), remora.get(page).await.1));
    }
    let proc = format!("/proc/{}", remora.pid());
    for file in ["cmdline", "comm", "status"] {
        outputs
            .push(Output::new(format!("process {file}"), std::fs::read_to_string(format!("{proc}/{file}")).unwrap()));
    }
    outputs
}

/// Everything that stands in Consul, as whoever may read all of it sees it.
pub async fn of_consul(consul: &Consul) -> Vec<Output> {
    let mut outputs = Vec::new();
    let mut paths: Vec<String> = [
        "agent/services",
        "agent/checks",
        "catalog/nodes",
        "catalog/services",
        "health/state/any",
        "session/list",
        "event/list",
    ]
    .map(|path| format!("/v1/{path}"))
    .into();
    let services = consul.get("/v1/catalog/services").await;
    let nodes = consul.get("/v1/catalog/nodes").await;
    for service in services.as_object().unwrap().keys() {
        paths.extend(["catalog", "health"].map(|room| format!("/v1/{room}/service/{service}")));
    }
    for node in nodes.as_array().unwrap() {
        let node = node["Node"].as_str().unwrap();
        paths.extend(["catalog", "health"].map(|room| format!("/v1/{room}/node/{node}")));
    }
    for path in paths {
        let text = consul.get(&path).await.to_string();
        outputs.push(Output::new(format!("consul {path}"), text));
    }
    for entry in consul.get("/v1/kv/?recurse").await.as_array().unwrap() {
        let value = entry["Value"].as_str().map(|text| STANDARD.decode(text).unwrap()).unwrap_or_default();
        let text = format!("{entry} {}", String::from_utf8_lossy(&value));
        outputs.push(Output::new(format!("kv {}", entry["Key"].as_str().unwrap()), text));
    }
    outputs
}

/// What a command says.
pub async fn of_command(remora: &Remora, arguments: &[&str]) -> Output {
    let (code, told) = remora.command(arguments).await;
    Output::new(format!("command {}", arguments.join(" ")), format!("{code:?} {told}"))
}

#[test]
fn the_search_finds_every_form_and_misses_none_that_has_to_be_there() {
    let canary = |shown| Canary { what: "it", secret: "canaryAbCdEf0123456789".to_owned(), shown };
    let secret = canary(&[]).secret;
    let percent: String = secret.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
    let based = (0..4).map(|before| STANDARD.encode(format!("{}{secret} and more", "x".repeat(before))));
    let json = Value::from(format!("\"{secret}\"")).to_string();
    for text in [secret.clone(), secret.to_uppercase(), percent, hex, json].into_iter().chain(based) {
        let outputs = [Output::new("log", format!("before {text} behind"))];
        assert_eq!(search(&outputs, &[canary(&[])]).len(), 1, "{text}");
        assert_eq!(search(&outputs, &[canary(&["log"])]), [""; 0], "{text}");
    }
    let outputs = [Output::new("log", "canary"), Output::new("kv x", secret)];
    assert_eq!(search(&outputs, &[canary(&["kv"])]), [""; 0]);
    assert_eq!(search(&outputs, &[canary(&["kv", "log"])]).len(), 1, "it is not in the log");
}
