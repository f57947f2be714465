//! Log lines: to stderr, as text for people or JSON for machines.
//!
//! **Invariant:** stdout is never written to, and a closed stderr ends nothing.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;

use crate::config::{LogFormat, LogSettings};
use crate::error::{Error, Result};

/// Begins to log for the whole process.
///
/// # Errors
/// When the filter cannot be read, or the process logs already.
pub fn begin(settings: &LogSettings) -> Result<()> {
    let wrong = |error: &dyn std::fmt::Display| Error::Invalid(format!("cannot log: {error}"));
    let filter = EnvFilter::builder().parse(&settings.level);
    let filter = filter.map_err(|error| wrong(&error))?;
    let lines = fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let begun = match settings.format {
        LogFormat::Json => lines
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .try_init(),
        LogFormat::Text => lines.with_ansi(false).with_target(false).try_init(),
    };
    begun.map_err(|error| wrong(&error))
}
