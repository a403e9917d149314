//! What is done with an input of each fuzz target, and what has to hold then. `tests/fuzz_corpus.rs` does the same with every
//! input of the kept corpora, so that both always speak of the same things.

// What does not hold ends a run by a panic.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::string_slice, clippy::pedantic, clippy::type_complexity, clippy::collapsible_match)]

pub mod config;
pub mod consul;
pub mod engine;
pub mod inspect;
pub mod kv;
pub mod ledger;
pub mod metadata;
mod peer;
pub mod probe;
pub mod template;

/// Every target by its name.
pub const TARGETS: &[(&str, fn(&[u8]))] = &[
    ("config", config::run),
    ("consul", consul::run),
    ("engine", engine::run),
    ("inspect", inspect::run),
    ("kv", kv::run),
    ("ledger", ledger::run),
    ("metadata", metadata::run),
    ("probe", probe::run),
    ("template", template::run),
];
