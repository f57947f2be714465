//! What is wrong with a configuration, where, and what to do.

use std::fmt;
use std::path::PathBuf;

use thiserror::Error;

/// Where a setting came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Nothing set it.
    Default,
    /// The file.
    File(PathBuf),
    /// An environment variable.
    Variable(String),
    /// A flag of the command line.
    Flag(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Variable(name) => write!(f, "${name}"),
            Self::Flag(flag) => f.write_str(flag),
        }
    }
}

/// Why there is no configuration.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{path}: {reason}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A key that does not exist.
    #[error("{place}: there is no setting `{path}`{}; `lakesync config` shows all", meant(suggestion.as_deref()))]
    Unknown {
        /// Where it stands.
        place: Source,
        /// The name as written.
        path: String,
        /// The nearest name that exists.
        suggestion: Option<String>,
    },
    /// A setting that is not what it may be.
    #[error("{place}: `{path}` {reason}")]
    Wrong {
        /// Where it stands.
        place: Source,
        /// The setting.
        path: String,
        /// What it should be.
        reason: String,
    },
}

fn meant(suggestion: Option<&str>) -> String {
    suggestion.map_or_else(String::new, |name| format!(" (did you mean `{name}`?)"))
}
