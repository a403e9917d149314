//! The corpus: inspect documents recorded from a real engine (20.10), each with what must be registered for it. Reads them the
//! way the agent does, so that decoder and rules are tested together.
//!
//! A new case is a file in `tests/corpus` with `about`, `settings`, `container`, `peers` and `expected: null`;
//! `UPDATE_CORPUS=1 cargo test --test registration_corpus` writes what comes out into `expected`, for a person to judge.

// Tests may fail loudly, here too: clippy's allowance for tests ends at the helpers beside them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};

use remora::config::{Deregister, HostAddress, Publish};
use remora::docker::{Lens, Sight, inspect};
use remora::registration::{Peers, Registration, Settings, Verdict, register};
use serde_json::{Map, Value, json};

struct Others(Vec<Sight>);

impl Peers for Others {
    fn is_gone(&self, _: &str) -> bool {
        false
    }

    fn find(&self, id_or_name: &str) -> Option<Sight> {
        let is_it = |sight: &&Sight| sight.container.id.as_str() == id_or_name || sight.container.name == id_or_name;
        self.0.iter().find(is_it).cloned()
    }
}

fn sight(case: &Value, document: &Value) -> Sight {
    let label = case["settings"]["use_ip_from_label"].as_str().map(str::to_owned);
    let lens = Lens { labels: label.into_iter().collect(), tags: None };
    let container = inspect::read(document.to_string().as_bytes(), &lens).expect("a readable document");
    Sight { container: container.into(), draining: false, settling: false }
}

fn settings(case: &Value) -> Settings {
    let wanted = &case["settings"];
    let publish = Publish {
        address: HostAddress {
            name: None,
            v4: Some("192.0.2.10".parse().expect("an address")),
            v6: wanted["address6"].as_str().map(|text| text.parse().expect("an address")),
        },
        internal: wanted["internal"] == json!(true),
        use_ip_from_label: wanted["use_ip_from_label"].as_str().map(str::to_owned),
        deregister: if wanted["deregister"] == json!("on-success") {
            Deregister::OnSuccess
        } else {
            Deregister::Always
        },
        ..Publish::default()
    };
    Settings { node: "node-1".to_owned(), engine: "ENGINE".to_owned(), publish, health_ttl: None }
}

/// What a person can judge: the whole definition, the status and output of each check, and the notes. The hash is left out:
/// it says nothing to a reader, and a unit test proves that it is that of the definition.
fn shown(registration: &Registration) -> Value {
    let mut shown = Map::new();
    match &registration.verdict {
        Verdict::Services(planned) => {
            let services = planned.iter().map(|planned| {
                let mut service = serde_json::to_value(&planned.service).expect("a JSON form");
                service["meta"].as_object_mut().expect("meta").remove("remora-hash");
                for (value, check) in
                    service["checks"].as_array_mut().expect("checks").iter_mut().zip(&planned.service.checks)
                {
                    value["status"] = json!(check.status.as_str());
                    value["output"] = json!(check.output);
                }
                service
            });
            shown.insert("services".to_owned(), services.collect());
        }
        Verdict::Nothing(why) | Verdict::Wait { reason: why, .. } => {
            shown.insert("nothing".to_owned(), json!(why));
        }
        Verdict::Hold { status, output } => {
            shown.insert("hold".to_owned(), json!({"status": status.as_str(), "output": output}));
        }
    }
    let notes = registration
        .notes
        .iter()
        .map(|note| json!(format!("{}{}: {}", if note.warning { "! " } else { "" }, note.about, note.text)));
    shown.insert("notes".to_owned(), notes.collect());
    Value::Object(shown)
}

fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let files = fs::read_dir(folder).expect("the corpus").map(|entry| entry.expect("an entry").path());
    let mut files: Vec<PathBuf> = files.filter(|path| path.extension().is_some_and(|end| end == "json")).collect();
    files.sort();
    files
}

#[test]
fn every_recorded_container_is_registered_as_expected() {
    let mut wrong = Vec::new();
    let cases = cases();
    assert!(cases.len() >= 20, "the corpus is not where it should be");
    for path in cases {
        let mut case: Value =
            serde_json::from_str(&fs::read_to_string(&path).expect("a file")).expect("a case in JSON");
        let peers = case["peers"].as_array().expect("peers").iter().map(|document| sight(&case, document));
        let registration = register(&sight(&case, &case["container"]), &Others(peers.collect()), &settings(&case));
        let actual = shown(&registration);
        assert!(!actual.to_string().contains("hidden"), "an environment value that is no key has come through");
        if case["expected"] == actual {
            continue;
        }
        if std::env::var_os("UPDATE_CORPUS").is_some() {
            case["expected"] = actual;
            let text = serde_json::to_string_pretty(&case).expect("a JSON form");
            fs::write(&path, format!("{text}\n")).expect("the file can be written");
        } else {
            wrong.push(format!("{}: {}\n{actual:#}", path.display(), case["about"]));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}
