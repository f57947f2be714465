//! What follows from an attempt, decided without doing it.
//!
//! **Invariant:** an action has at most its connector's attempts, and then it is a dead letter; only a webhook that said
//! so makes it done or refused.

use std::time::Duration;

use lakesync_proto::JsonText;

use super::backoff::{WAIT_MAX, wait};
use super::store::Job;
use super::webhook::{Delivery, RETRY_AFTER_MAX};

/// The code of an action that the webhook refused.
pub(super) const REFUSED: &str = "ACTION_REFUSED";

/// The code of an action whose attempts are used up.
pub(super) const DEAD_LETTERED: &str = "DEAD_LETTERED";

/// No attempt is put off longer than this.
pub(super) const RETRY_HORIZON: Duration =
    Duration::from_secs(2 * if_longer(WAIT_MAX.as_secs(), RETRY_AFTER_MAX.as_secs()));

const fn if_longer(a: u64, b: u64) -> u64 {
    if a > b { a } else { b }
}

/// What becomes of an action after an attempt.
#[derive(Debug, PartialEq)]
pub(super) enum Verdict {
    /// It is done, and this is the answer.
    Done(JsonText),
    /// It will not be done.
    Failed {
        /// The kind of failure.
        code: &'static str,
        /// The failure in words.
        message: String,
    },
    /// It is tried again after a wait.
    Again {
        /// How long.
        wait: Duration,
        /// Why.
        reason: String,
    },
    /// Its attempts are used up.
    Dead(String),
}

/// What follows from `delivery`, of a connector that gives `attempts_max` attempts.
pub(super) fn decide(job: &Job, delivery: Delivery, attempts_max: u32) -> Verdict {
    match delivery {
        Delivery::Done(data) => Verdict::Done(data),
        Delivery::Refused(message) => Verdict::Failed {
            code: REFUSED,
            message,
        },
        Delivery::Failed { reason, .. } if job.attempts >= attempts_max => Verdict::Dead(reason),
        Delivery::Failed {
            reason,
            retry_after,
        } => {
            let own = wait(job.attempts, u64::try_from(job.number).unwrap_or(0));
            Verdict::Again {
                wait: retry_after.map_or(own, |asked| asked.max(own)),
                reason,
            }
        }
    }
}
