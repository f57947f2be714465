//! Log lines: to stderr, as text for people or JSON for machines.
//!
//! **Invariant:** stdout is never written to, and a closed stderr ends nothing.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;

use crate::config::{LogFormat, LogSettings};
use crate::error::{Error, Result};

/// A word alone is a level; the filter would take any other for the name of a module, and be silent.
fn check_words(level: &str) -> Result<()> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let words = level.split(',').map(str::trim);
    let mut words = words.filter(|word| !word.contains(['=', '[']));
    match words.find(|word| !LEVELS.contains(&word.to_ascii_lowercase().as_str())) {
        None => Ok(()),
        Some(word) => Err(Error::Invalid(format!(
            "log.level: `{word}` is no level: {} are; or name a module, as in `info,lakesync_gateway=debug`",
            LEVELS.join(", ")
        ))),
    }
}

/// Begins to log for the whole process.
///
/// # Errors
/// When the filter cannot be read, or the process logs already.
pub fn begin(settings: &LogSettings) -> Result<()> {
    let wrong = |error: &dyn std::fmt::Display| Error::Invalid(format!("cannot log: {error}"));
    check_words(&settings.level)?;
    let filter = EnvFilter::builder().parse(&settings.level);
    let filter = filter.map_err(|error| wrong(&error))?;
    // A line that cannot be written is lost: saying so on the same stderr would end whoever logged it.
    let lines = fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .log_internal_errors(false);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_that_is_no_level_is_refused() {
        for good in [
            "info",
            "WARN",
            "info,lakesync_gateway=debug",
            "off",
            "lakesync=trace, error",
        ] {
            assert!(check_words(good).is_ok(), "{good}");
        }
        for bad in ["loud", "", "info,", "info,lakesync_gateway"] {
            let said = check_words(bad).unwrap_err().to_string();
            assert!(
                said.contains("log.level") && said.contains("debug"),
                "{said}"
            );
        }
    }
}
