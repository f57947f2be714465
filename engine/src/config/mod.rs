//! Configuration: one TOML file, with the environment and flags over it, resolved once at the edge.
//!
//! ```text
//! defaults (keys.rs) ─► lakesync.toml ─► environment ─► flags ─► Effective ─► Config: plain settings
//!                                                                    └──────► `lakesync config`
//! ```
//! **Invariant:** a setting that is not understood is refused by name and place, never ignored; nothing inside reads the
//! file, the environment or a text form again.

mod auth;
mod connectors;
mod effective;
mod error;
mod gateways;
mod keys;
mod kind;
mod maintenance;
mod named;
mod nearest;
mod settings;
mod shown;

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

pub use effective::Sources;
pub use error::{ConfigError, Source};
pub use kind::Secret;
pub use settings::{Config, LogFormat, LogSettings, ServerSettings, TlsFiles};

use effective::{Effective, FILE_BYTES_MAX};

pub(crate) use nearest::nearest;

/// The name of the file in a data directory that is read when no other is named.
pub const FILE_NAME: &str = "lakesync.toml";

impl Sources {
    /// The file `named`, or the one in `dir` when there is one, and this process's environment.
    ///
    /// # Errors
    /// [`ConfigError::File`] when a file is there, or named, and cannot be read.
    pub fn of_process(named: Option<&Path>, dir: &Path) -> Result<Self, ConfigError> {
        let path = named.map_or_else(|| dir.join(FILE_NAME), PathBuf::from);
        let file = match named.is_none() && !path.exists() {
            true => None,
            false => {
                let text = read_bounded(&path)?;
                Some((path, text))
            }
        };
        // Names and values that are no text are other programs'.
        let variables = std::env::vars_os();
        let variables = variables
            .filter_map(|(name, text)| Some((name.into_string().ok()?, text.into_string().ok()?)));
        Ok(Self {
            file,
            variables: variables.collect(),
            flags: Vec::new(),
            dir: dir.to_owned(),
        })
    }

    /// Puts the setting `path` of a flag over everything.
    #[must_use]
    pub fn with_flag(mut self, flag: &str, path: &str, text: &str) -> Self {
        self.flags
            .push((flag.to_owned(), path.to_owned(), text.to_owned()));
        self
    }
}

impl Config {
    /// Reads and checks everything that `sources` say.
    ///
    /// # Errors
    /// [`ConfigError`] names the setting, the place and what it should be.
    pub fn read(sources: &Sources) -> Result<Self, ConfigError> {
        Self::resolve(&Effective::read(sources)?)
    }
}

/// The settings in force as TOML with comments and sources, secrets masked; checked first.
///
/// # Errors
/// As [`Config::read`].
pub fn shown(sources: &Sources) -> Result<String, ConfigError> {
    let effective = Effective::read(sources)?;
    Config::resolve(&effective)?;
    Ok(shown::shown(&effective))
}

/// The text of a file that people write, which is never large.
fn read_bounded(path: &Path) -> Result<String, ConfigError> {
    let wrong = |reason: String| ConfigError::File {
        path: path.to_owned(),
        reason,
    };
    let file = File::open(path).map_err(|error| wrong(error.to_string()))?;
    let length = file
        .metadata()
        .map_err(|error| wrong(error.to_string()))?
        .len();
    if length > FILE_BYTES_MAX {
        return Err(wrong(format!(
            "has {length} bytes; {FILE_BYTES_MAX} are read at most"
        )));
    }
    let mut text = String::new();
    let read = file.take(FILE_BYTES_MAX).read_to_string(&mut text);
    read.map_err(|error| wrong(error.to_string()))?;
    Ok(text)
}

/// The bytes of a file that a setting names.
pub(crate) fn read_named(path: &Path) -> Result<Vec<u8>, ConfigError> {
    fs::read(path).map_err(|error| ConfigError::File {
        path: path.to_owned(),
        reason: error.to_string(),
    })
}
