//! The `lakesync` binary: parses the command line, runs it, prints what went wrong.

use std::process::ExitCode;

use clap::Parser as _;
use lakesync::cli::{Cli, run};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let ran = runtime
        .map_err(Into::into)
        .and_then(|runtime| runtime.block_on(run(cli)));
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
