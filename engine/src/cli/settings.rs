//! The configuration flags that `serve`, `config` and `token` share, and `lakesync config` itself.

use std::io::Write as _;
use std::path::PathBuf;

use clap::Args;

use super::{CliError, DirArgs};
use crate::config::{Config, FILE_NAME, Sources, shown};

/// Where settings come from.
#[derive(Args, Clone, Debug)]
pub struct ConfigArgs {
    /// The configuration file [default: lakesync.toml in the data directory, when there is one].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A setting over file and environment, as in flush.max_age=10s; may be given several times.
    #[arg(long, value_name = "SECTION.KEY=VALUE", value_parser = parse_set)]
    set: Vec<(String, String)>,
}

fn parse_set(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((path, value)) => Ok((path.trim().to_owned(), value.to_owned())),
        None => Err(format!(
            "`{text}` should be SECTION.KEY=VALUE, as in flush.max_age=10s"
        )),
    }
}

impl ConfigArgs {
    /// Everything that settings of `place` are read from.
    ///
    /// # Errors
    /// When a file that is there, or named, cannot be read.
    pub fn sources(&self, place: &DirArgs) -> Result<Sources, CliError> {
        let sources = Sources::of_process(self.config.as_deref(), &place.dir)?;
        let set = self.set.iter();
        Ok(set.fold(sources, |sources, (path, text)| {
            sources.with_flag(&format!("--set {path}"), path, text)
        }))
    }

    /// The settings in force for `place`.
    ///
    /// # Errors
    /// As [`Self::sources`], and when a setting is wrong.
    pub fn read(&self, place: &DirArgs) -> Result<Config, CliError> {
        Ok(Config::read(&self.sources(place)?)?)
    }
}

/// What `lakesync config` is asked for.
#[derive(Args, Debug)]
pub struct PrintArgs {
    #[command(flatten)]
    place: DirArgs,
    #[command(flatten)]
    settings: ConfigArgs,
}

/// Prints the settings in force as TOML, with what each means and where it came from.
///
/// # Errors
/// When a setting is wrong.
pub fn print(args: &PrintArgs) -> Result<(), CliError> {
    let sources = args.settings.sources(&args.place)?;
    let text = shown(&sources)?;
    std::io::stdout().lock().write_all(text.as_bytes())?;
    if sources.file.is_none() {
        let place = args.place.dir.join(FILE_NAME);
        eprintln!(
            "there is no file yet; put what you change into {}",
            place.display()
        );
    }
    Ok(())
}
