//! What the benchmarks share: the page that a table is written into, and the words about the machine.

use std::path::Path;

use super::consul::Consul;
use super::docker::Engine;

/// Puts the text between the two marks of the page.
pub fn write(page: &Path, begin: &str, end: &str, text: &str) {
    let whole = std::fs::read_to_string(page).unwrap();
    let (before, rest) = whole.split_once(begin).expect("the page has the mark where the table begins");
    let (_, after) = rest.split_once(end).expect("the page has the mark where the table ends");
    std::fs::write(page, format!("{before}{begin}\n\n{text}\n{end}{after}")).unwrap();
}

/// The date, `2026-11-26`.
pub fn today() -> String {
    let now = humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string();
    now.split('T').next().unwrap_or_default().to_owned()
}

/// Cores, engine and Consul.
pub async fn machine(engine: &Engine, consul: &Consul) -> String {
    let info = engine.info().await;
    let about = consul.get("/v1/agent/self").await;
    format!(
        "{} cores, {}, Docker Engine {}, Consul {}",
        info["NCPU"],
        info["OperatingSystem"].as_str().unwrap_or_default(),
        info["ServerVersion"].as_str().unwrap_or_default(),
        about["Config"]["Version"].as_str().unwrap_or_default(),
    )
}
