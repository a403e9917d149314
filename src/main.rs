//! The process: arguments, logs, exit codes.

use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

/// glibc's allocator gives freed memory back late, and the later the larger the pieces were that came and went: lists of a
/// few hundred kilobytes every few seconds would keep megabytes for ever. It reads its settings once, when a process
/// starts, and there is no safe way to change them later. Measured with 300 containers: 1.3 MB less resident memory.
const HEAP: [(&str, &str); 3] =
    [("MALLOC_TRIM_THRESHOLD_", "65536"), ("MALLOC_MMAP_THRESHOLD_", "32768"), ("MALLOC_TOP_PAD_", "16384")];

/// Becomes the same program with the same arguments, but with [`HEAP`] in its environment. Whoever has set one of these
/// variables knows better. A failure is none: it goes on as it is.
fn with_a_small_heap() {
    let unset: Vec<_> = HEAP.into_iter().filter(|(name, _)| std::env::var_os(name).is_none()).collect();
    if unset.is_empty() {
        return;
    }
    // Its path and not /proc/self/exe: the name of the process stays what it is.
    let (Ok(program), mut arguments) = (std::env::current_exe(), std::env::args_os()) else { return };
    let mut again = Command::new(program);
    if let Some(name) = arguments.next() {
        again.arg0(name);
    }
    let _stayed = again.args(arguments).envs(unset).exec();
}

fn main() -> ExitCode {
    with_a_small_heap();
    remora::cli::main(std::env::args_os().skip(1), std::env::vars_os())
}
