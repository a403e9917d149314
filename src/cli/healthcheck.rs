//! `remora healthcheck`: asks the agent on this host whether it is alive. The image's HEALTHCHECK.

use std::process::ExitCode;

use super::loopback::{self, Answer};
use super::output::{complain, print};
use crate::config::Config;

/// More than `/healthz` ever says.
const ANSWER: u64 = 4096;

pub(super) async fn run(config: Config) -> ExitCode {
    match loopback::get(config.http, "/healthz", ANSWER).await {
        Ok(Answer { good: true, .. }) => {
            print("alive\n");
            ExitCode::SUCCESS
        }
        Ok(Answer { body, .. }) => {
            complain(&format!("not alive: {}", body.trim()));
            ExitCode::FAILURE
        }
        Err(reason) => {
            complain(&reason);
            ExitCode::FAILURE
        }
    }
}
