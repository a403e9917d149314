//! `remora check-config`: what is in force, without secrets, and whether the files that it names can be read.

use std::fmt::Write as _;
use std::process::ExitCode;

use super::{USAGE, complain, print};
use crate::config::Config;
use crate::consul::Client;
use crate::docker::{DockerEngine, Lens};

pub(super) fn run(config: &Config, warnings: &[String]) -> ExitCode {
    let settings = config.describe();
    let width = settings.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    let mut text = String::new();
    for (name, value) in settings {
        // Writing to a String cannot fail.
        let _infallible = writeln!(text, "{name:width$}  {value}");
    }
    print(&text);
    for warning in warnings {
        complain(&format!("warning: {warning}"));
    }
    // Making the clients reads every certificate and the token file.
    let consul = Client::new(&config.consul).err().map(|error| error.to_string());
    let docker = DockerEngine::new(&config.docker, Lens::default()).err().map(|error| error.to_string());
    let problems: Vec<String> = consul.into_iter().chain(docker).collect();
    for problem in &problems {
        complain(&format!("error: {problem}"));
    }
    if problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(USAGE) }
}
