//! `remora status`: how healing stands, as the agent on this host says.

use std::process::ExitCode;

use super::loopback::{self, Answer};
use super::output::{complain, print, print_json};
use crate::config::Config;
use crate::heal::status::Status;

/// A kilobyte for each of several thousand containers.
const ANSWER: u64 = 8 << 20;

/// Something is paused or given up.
const LOOK: u8 = 2;

pub(super) async fn run(config: Config, json: bool) -> ExitCode {
    let status = match loopback::get(config.http, "/status.json", ANSWER).await {
        Ok(Answer { good: true, body }) => serde_json::from_str::<Status>(&body)
            .map_err(|error| format!("the agent's answer cannot be read ({error}): is it of another version?")),
        Ok(Answer { body, .. }) => Err(format!("the agent cannot say: {}", body.trim())),
        Err(reason) => Err(reason),
    };
    match status {
        Ok(status) => {
            if json {
                print_json(&status.json());
            } else {
                print(&status.text());
            }
            if status.needs_somebody() { ExitCode::from(LOOK) } else { ExitCode::SUCCESS }
        }
        Err(reason) => {
            complain(&reason);
            ExitCode::FAILURE
        }
    }
}
