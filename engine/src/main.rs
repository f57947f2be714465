//! The `lakesync` binary: parses the command line, runs it, prints what went wrong.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;
use lakesync::cli::{Cli, run};

/// Plans are walked recursively; what the parser lets through fits this stack even in a debug build.
const THREAD_STACK_BYTES: usize = 16 << 20;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_stack_size(THREAD_STACK_BYTES)
        .build();
    let ran = runtime
        .map_err(Into::into)
        .and_then(|runtime| runtime.block_on(run(cli)));
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            drop(writeln!(std::io::stderr(), "error: {error}"));
            ExitCode::FAILURE
        }
    }
}
