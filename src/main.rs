//! The process: arguments, logs, exit codes.

use std::process::ExitCode;

fn main() -> ExitCode {
    remora::cli::main(std::env::args_os().skip(1), std::env::vars_os())
}
