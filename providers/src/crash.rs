//! Crash points: named moments at which a test can make the process end as if its machine had lost power.
//!
//! ```text
//! LAKESYNC_CRASH_AT=rewrite_log.after_write        ends the process when it first gets there
//! LAKESYNC_CRASH_AT=rewrite_log.after_write:3      … the third time
//! ```
//! **Invariant:** without the variable a point does nothing but look at one value that was read once; with it nothing of
//! the process runs on, no destructor and no flush, so that what is left is what was on disk.
//!
//! A name is `<job>.<moment>`. Every window between two durable steps of a job has one.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// The variable that names the point.
pub const CRASH_AT: &str = "LAKESYNC_CRASH_AT";

/// What the environment asks for.
static ASKED: LazyLock<Option<Asked>> =
    LazyLock::new(|| std::env::var(CRASH_AT).ok().map(|text| Asked::read(&text)));

/// A point, and how often it is passed before it ends the process.
#[derive(Debug)]
struct Asked {
    name: String,
    left: AtomicU64,
}

impl Asked {
    fn read(text: &str) -> Self {
        let counted = text.rsplit_once(':').and_then(|(name, times)| {
            let times = times.parse::<u64>().ok()?;
            Some((name, times.max(1)))
        });
        let (name, times) = counted.unwrap_or((text, 1));
        Self {
            name: name.to_owned(),
            left: AtomicU64::new(times),
        }
    }

    /// Whether the process ends here.
    fn is_due(&self, name: &str) -> bool {
        self.name == name && self.left.fetch_sub(1, Ordering::AcqRel) == 1
    }
}

/// Ends the process here when the environment asks for it, and says so on standard error.
pub fn point(name: &str) {
    if let Some(asked) = ASKED.as_ref()
        && asked.is_due(name)
    {
        eprintln!("crashed at {name}, as {CRASH_AT} asks");
        std::process::abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passes(text: &str, names: &[&str]) -> Vec<bool> {
        let asked = Asked::read(text);
        names.iter().map(|name| asked.is_due(name)).collect()
    }

    #[test]
    fn a_point_is_due_once_at_its_name_and_its_time() {
        assert_eq!(
            passes(
                "fold.after_write",
                &["fold.before_write", "fold.after_write", "fold.after_write"]
            ),
            [false, true, false]
        );
        assert_eq!(
            passes("a.b:2", &["a.b", "a.c", "a.b", "a.b"]),
            [false, false, true, false]
        );
        assert_eq!(passes("a.b:0", &["a.b", "a.b"]), [true, false]);
        assert_eq!(
            passes("a:b", &["a:b"]),
            [true],
            "what is no number is part of the name"
        );
    }
}
