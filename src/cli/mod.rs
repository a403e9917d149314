//! The commands, each a file. May know everything below.
//!
//! | Command | Exit codes |
//! |---|---|
//! | `run` (default) | 0 stopped on request; 70 a task ended that must not |
//! | `healthcheck` | 0 the agent on this host is alive; 1 it is not |
//! | `check-config` | 0 |
//! | `explain` | 0; 1 no such container, or Docker is away |
//! | `sync --once` | 0 Consul is right; 1 something could not be done; with `--dry-run` 2 something would be done |
//! | `doctor` | 0 all is well; 1 something is missing |
//! | `status` | 0; 1 there is no agent on this host, or it does not heal; 2 something is paused or given up |
//! | `heal`, `release` | 0 an agent has taken it; 1 none has, or there is no such container |
//! | `pause`, `resume` | 0; 1 Consul or Docker is away |
//!
//! All of them: 64 when the configuration cannot be used, with everything that is wrong; a token file or a certificate that
//! cannot be read is such a thing (not for `healthcheck` and `status`, which need none).

mod check_config;
mod doctor;
mod explain;
mod healthcheck;
mod loopback;
mod operator;
mod output;
mod status;
mod sync;

use std::ffi::OsString;
use std::future::Future;
use std::process::ExitCode;

use crate::agent::{self, Clients};
use crate::config::{self, Command, Config, Loaded};
use crate::telemetry;
use output::{complain, print};

/// `EX_USAGE`: the configuration is wrong.
const USAGE: u8 = 64;

/// `EX_SOFTWARE`: something ended that must not.
const SOFTWARE: u8 = 70;

/// The whole program: the command line (without the program's own name) and the environment in, the exit code out.
pub fn main(args: impl IntoIterator<Item = OsString>, env: impl IntoIterator<Item = (OsString, OsString)>) -> ExitCode {
    let args = with_settings_of_agent(args.into_iter().collect());
    let Loaded { command, config, warnings } = match config::load(args, env) {
        Ok(loaded) => loaded,
        Err(errors) => {
            complain(&errors.to_string());
            return ExitCode::from(USAGE);
        }
    };
    match command {
        Command::Help => {
            print(&(config::docs::help_text() + MORE_HELP));
            ExitCode::SUCCESS
        }
        Command::Version => {
            print(&version());
            ExitCode::SUCCESS
        }
        Command::CheckConfig => check_config::run(&config, &warnings),
        Command::Healthcheck => block_on(healthcheck::run(config)),
        Command::Status { json } => block_on(status::run(config, json)),
        Command::Run
        | Command::Explain { .. }
        | Command::Sync { .. }
        | Command::Doctor
        | Command::Heal { .. }
        | Command::Release { .. }
        | Command::Pause { .. }
        | Command::Resume { .. } => {
            let clients = match Clients::new(&config) {
                Ok(clients) => clients,
                Err(errors) => {
                    complain(&errors.to_string());
                    return ExitCode::from(USAGE);
                }
            };
            with_clients(command, config, clients, warnings)
        }
    }
}

/// The commands that speak to Docker and Consul.
fn with_clients(command: Command, config: Config, clients: Clients, warnings: Vec<String>) -> ExitCode {
    match command {
        Command::Explain { container, json } => block_on(explain::run(config, clients, container, json)),
        Command::Sync { dry_run } => with_logs(&config, &warnings, sync::run(config.clone(), clients, dry_run)),
        Command::Doctor => block_on(doctor::run(config, clients, warnings)),
        Command::Heal { .. } | Command::Release { .. } | Command::Pause { .. } | Command::Resume { .. } => {
            block_on(operator::run(command, config, clients))
        }
        _ => with_logs(&config, &warnings, run(config.clone(), clients)),
    }
}

/// The command line of a command that runs beside the agent (`docker exec`), completed by the agent's.
fn with_settings_of_agent(own: Vec<OsString>) -> Vec<OsString> {
    // No right to read it, or no such file system: then there is nothing to take over.
    let first = std::fs::read("/proc/1/cmdline").unwrap_or_default();
    let mut args = config::inherited::inherited(&own, &first);
    if !args.is_empty() {
        complain(&format!("as the agent (process 1) was started: {}", config::inherited::told(&args)));
    }
    // In front: behind a `--` they would not be flags any more.
    args.extend(own);
    args
}

/// What `--help` prints. behind the text that is made from the tables.
const MORE_HELP: &str = "             2 when sync --dry-run found something to do, and when status shows something that
             is paused or given up; 70 when the agent ended unasked.

Commands that are run in the agent's container without options of their own (docker exec remora
/remora doctor) take over the options and the registry URI that the agent was started with, and say
so.
";

/// What `--version` prints.
fn version() -> String {
    let revision = option_env!("REMORA_REVISION").map(|revision| format!(" ({revision})")).unwrap_or_default();
    format!("remora {}{revision}\n", env!("CARGO_PKG_VERSION"))
}

async fn run(config: Config, clients: Clients) -> ExitCode {
    match agent::run(config, clients).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(event = "ended", error = %error, "{error}");
            ExitCode::from(SOFTWARE)
        }
    }
}

fn with_logs(config: &Config, warnings: &[String], work: impl Future<Output = ExitCode>) -> ExitCode {
    if let Err(error) = telemetry::init(&config.log) {
        complain(&error.to_string());
        return ExitCode::from(USAGE);
    }
    for warning in warnings {
        tracing::warn!(event = "configuration", "{warning}");
    }
    block_on(work)
}

/// One thread for everything: all that is done here is waiting.
fn block_on(work: impl Future<Output = ExitCode>) -> ExitCode {
    // The only blocking work is the resolver's; four threads keep a dead name server from holding up a live one.
    match tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(4).build() {
        Ok(runtime) => runtime.block_on(work),
        Err(error) => {
            complain(&format!("cannot start: {error}"));
            ExitCode::from(SOFTWARE)
        }
    }
}
