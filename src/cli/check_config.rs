//! `remora check-config`: what is in force, without secrets, and whether the files that it names can be read.

use std::process::ExitCode;

use super::USAGE;
use super::output::{add_line, complain, print};
use crate::agent::Clients;
use crate::config::Config;

pub(super) fn run(config: &Config, warnings: &[String]) -> ExitCode {
    let settings = config.describe();
    let width = settings.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    let mut text = String::new();
    for (name, value) in settings {
        add_line(&mut text, &format!("{name:width$}  {value}"));
    }
    print(&text);
    for warning in warnings {
        complain(&format!("warning: {warning}"));
    }
    // Making the clients reads every certificate and the token file.
    match Clients::new(config) {
        Ok(_) => ExitCode::SUCCESS,
        Err(errors) => {
            complain(&errors.to_string());
            ExitCode::from(USAGE)
        }
    }
}
