//! Which snapshots go, decided purely.
//!
//! Kept is: what the table is · what a tag or branch names · all of the last time · the last of every day, by a tag of ours ·
//! the anchor, which is the newest snapshot that is as old as the history window, or the first one while none is ·
//! what somebody reads · what another program's `replace` takes its seq from.
//!
//! **Invariant:** planning again after what was planned is done plans nothing; and every moment of the history window that
//! had a base still has one, with nothing in it from beyond the moment.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;

use lakesync_providers::lake::{MadeBy, RefInfo, RefKind, SnapshotInfo};

use super::policy::DAILY;

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// How many snapshots one run expires at most: each has a list of manifests to read, and the oldest go first.
const EXPIRED_MAX: usize = 10_000;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// By age.
    Older {
        /// Snapshots committed at this time or later are kept, in milliseconds since 1970.
        than_ms: i64,
        /// Of those so many at most, the newest.
        newest_max: usize,
        /// How many of the current one's line are kept whatever their age, itself included.
        retain_last: usize,
        /// The moment from which on one snapshot a day is kept, in milliseconds since 1970; none for a log.
        daily_since_ms: Option<i64>,
    },
    /// Just these.
    These(BTreeSet<i64>),
}

/// What is to be done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expiry {
    /// Snapshots that go, oldest first.
    pub expire: Vec<i64>,
    /// Tags that are made.
    pub tag: Vec<(String, i64)>,
    /// Tags and branches that go.
    pub drop_refs: Vec<String>,
    /// Snapshots that stay only because somebody reads them.
    pub read: Vec<i64>,
}

/// A snapshot that cannot be expired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Which.
    pub snapshot: i64,
    /// Why, and what to do.
    pub reason: String,
}

/// What of `snapshots` (in the order of their commits) goes at `now_ms`, while `read` ones are read by somebody.
///
/// # Errors
/// When a snapshot that is asked for by its id has to stay.
pub fn plan(
    snapshots: &[SnapshotInfo],
    refs: &[RefInfo],
    read: &BTreeSet<i64>,
    asked: &Asked,
    now_ms: i64,
) -> Result<Expiry, Refused> {
    let table = Known::new(snapshots, refs);
    match asked {
        Asked::These(ids) => table.these(ids, read, now_ms),
        Asked::Older { .. } => Ok(table.older(asked, read, now_ms)),
    }
}

/// A table's snapshots and refs.
struct Known<'a> {
    snapshots: &'a [SnapshotInfo],
    by_id: HashMap<i64, &'a SnapshotInfo>,
    refs: &'a [RefInfo],
}

impl<'a> Known<'a> {
    fn new(snapshots: &'a [SnapshotInfo], refs: &'a [RefInfo]) -> Self {
        Self {
            snapshots,
            by_id: snapshots.iter().map(|known| (known.id, known)).collect(),
            refs,
        }
    }

    fn these(
        &self,
        ids: &BTreeSet<i64>,
        read: &BTreeSet<i64>,
        now_ms: i64,
    ) -> Result<Expiry, Refused> {
        let drop_refs = self.overdue(now_ms);
        let refused = |snapshot, reason: String| Err(Refused { snapshot, reason });
        for &id in ids {
            let live =
                |named: &&RefInfo| named.snapshot_id == id && !drop_refs.contains(&named.name);
            if !self.by_id.contains_key(&id) {
                let text = "there is no such snapshot; `t$snapshots` lists those there are";
                return refused(id, text.to_owned());
            }
            if let Some(named) = self.refs.iter().find(live) {
                return refused(
                    id,
                    match named.is_main() {
                        true => "it is what the table is now".to_owned(),
                        false => format!("`{}` names it; drop that first", named.name),
                    },
                );
            }
            if read.contains(&id) {
                return refused(id, "a query reads it; wait for its end".to_owned());
            }
        }
        let stay = self.snapshots.iter().map(|known| known.id);
        let mut keep: BTreeSet<i64> = stay.filter(|id| !ids.contains(id)).collect();
        self.keep_sources(&mut keep);
        if let Some(&id) = ids.intersection(&keep).next() {
            let text =
                "another program's snapshot has its rows, and only this one tells what they cover";
            return refused(id, text.to_owned());
        }
        Ok(Expiry {
            expire: self.going(&keep),
            drop_refs,
            ..Expiry::default()
        })
    }

    fn older(&self, asked: &Asked, read: &BTreeSet<i64>, now_ms: i64) -> Expiry {
        let Asked::Older {
            than_ms,
            newest_max,
            retain_last,
            daily_since_ms,
        } = asked
        else {
            return Expiry::default();
        };
        let mut drop_refs = self.overdue(now_ms);
        let mut keep = BTreeSet::new();
        let newest = self.snapshots.iter().rev().take(*newest_max);
        keep.extend(
            newest
                .filter(|known| known.time_ms >= *than_ms)
                .map(|known| known.id),
        );
        let mut tag = Vec::new();
        if let Some(since_ms) = *daily_since_ms {
            let anchor = self.anchor(since_ms);
            keep.extend(anchor.map(|anchor| anchor.id));
            let from_day = anchor
                .map_or(since_ms, |anchor| anchor.time_ms)
                .div_euclid(DAY_MS);
            tag = self.daily(&keep, from_day..now_ms.div_euclid(DAY_MS));
            let outlived = self.refs.iter().filter(|named| {
                let day = day_of(&named.name).filter(|_| named.kind == RefKind::Tag);
                day.is_some_and(|day| day < from_day)
            });
            drop_refs.extend(outlived.map(|named| named.name.clone()));
        }
        keep.extend(tag.iter().map(|(_, id)| *id));
        for named in self
            .refs
            .iter()
            .filter(|named| !drop_refs.contains(&named.name))
        {
            self.keep_branch(&mut keep, named, (*retain_last, now_ms));
        }
        self.keep_sources(&mut keep);
        let unread = self.going(&keep);
        keep.extend(read);
        self.keep_sources(&mut keep);
        let mut expire = self.going(&keep);
        let read = unread.into_iter().filter(|id| keep.contains(id)).collect();
        expire.truncate(EXPIRED_MAX);
        Expiry {
            expire,
            tag,
            drop_refs,
            read,
        }
    }

    /// Refs that say how old they may become, and are older.
    fn overdue(&self, now_ms: i64) -> Vec<String> {
        let overdue = self.refs.iter().filter(|named| {
            let made_ms = self
                .by_id
                .get(&named.snapshot_id)
                .map(|known| known.time_ms);
            let age_ms = made_ms.map(|made_ms| now_ms.saturating_sub(made_ms));
            !named.is_main()
                && named
                    .max_age_ms
                    .zip(age_ms)
                    .is_some_and(|(max, age)| age > max)
        });
        overdue.map(|named| named.name.clone()).collect()
    }

    /// Where the history window begins: the newest readable snapshot that is as old, or the first one.
    fn anchor(&self, since_ms: i64) -> Option<&'a SnapshotInfo> {
        let readable = || self.snapshots.iter().filter(|known| known.is_readable());
        let before = readable().filter(|known| known.time_ms <= since_ms);
        before
            .max_by_key(|known| (known.time_ms, known.sequence_number))
            .or_else(|| readable().next())
    }

    /// Tags for the last snapshot of each of these days, which are over, where nothing else keeps it yet.
    fn daily(&self, keep: &BTreeSet<i64>, days: Range<i64>) -> Vec<(String, i64)> {
        let mut last: BTreeMap<i64, &SnapshotInfo> = BTreeMap::new();
        for known in self
            .snapshots
            .iter()
            .filter(|known| known.made_by == MadeBy::Us)
        {
            let day = known.time_ms.div_euclid(DAY_MS);
            if days.contains(&day) {
                last.insert(day, known);
            }
        }
        let tags: BTreeSet<i64> = self
            .refs
            .iter()
            .filter_map(|named| day_of(&named.name))
            .collect();
        let untagged = last
            .into_iter()
            .filter(|(day, known)| !keep.contains(&known.id) && !tags.contains(day));
        untagged
            .map(|(day, known)| (format!("{DAILY}{}", date_text(day)), known.id))
            .collect()
    }

    /// Keeps what a ref names, and of a branch what it says of its line.
    fn keep_branch(&self, keep: &mut BTreeSet<i64>, named: &RefInfo, last_and_now: (usize, i64)) {
        let (retain_last, now_ms) = last_and_now;
        keep.insert(named.snapshot_id);
        let (min, age_ms) = match named.kind {
            RefKind::Tag => return,
            RefKind::Branch {
                min_snapshots,
                max_snapshot_age_ms,
            } => (min_snapshots, max_snapshot_age_ms),
        };
        let min = min.and_then(|min| usize::try_from(min).ok()).unwrap_or(0);
        let min = if named.is_main() {
            min.max(retain_last)
        } else {
            min
        };
        let young = |known: &SnapshotInfo| {
            age_ms.is_some_and(|age_ms| now_ms.saturating_sub(known.time_ms) <= age_ms)
        };
        let line = std::iter::successors(self.by_id.get(&named.snapshot_id), |known| {
            known.parent.and_then(|parent| self.by_id.get(&parent))
        });
        // A line has no cycle, and no more links than there are snapshots.
        let line = line.take(self.snapshots.len()).enumerate();
        let kept = line.take_while(|(nth, known)| *nth < min || young(known));
        keep.extend(kept.map(|(_, known)| known.id));
    }

    /// Keeps what snapshots of other programs with our rows take their seq from.
    fn keep_sources(&self, keep: &mut BTreeSet<i64>) {
        for known in self.snapshots.iter().rev() {
            if keep.contains(&known.id) && known.made_by == MadeBy::OthersSameRows {
                keep.extend(known.parent);
            }
        }
    }

    fn going(&self, keep: &BTreeSet<i64>) -> Vec<i64> {
        let going = self.snapshots.iter().map(|known| known.id);
        going.filter(|id| !keep.contains(id)).collect()
    }
}

/// The day, in days since 1970, that a tag of ours is for.
pub(super) fn day_of(name: &str) -> Option<i64> {
    let text = name.strip_prefix(DAILY)?;
    let mut parts = text.splitn(3, '-');
    let mut number = |digits: usize| -> Option<i64> {
        let part = parts.next()?;
        let all = part.len() == digits && part.bytes().all(|byte| byte.is_ascii_digit());
        all.then(|| part.parse().ok()).flatten()
    };
    let (year, month, day) = (number(4)?, number(2)?, number(2)?);
    let days = days_since_1970(year, month, day);
    (date_text(days) == text).then_some(days)
}

/// Days from 1970-01-01 to a date of the Gregorian calendar.
/// Source: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `days_from_civil`.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// The date of a day, as in 2026-01-31. Source: as above, `civil_from_days`.
pub(super) fn date_text(days: i64) -> String {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests;
