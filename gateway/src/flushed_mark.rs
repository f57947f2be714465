//! The flushed mark: how far the lake holds everything, so that opening reads only what is above.
//!
//! ```text
//! meta  flushed_mark     = {"fence": token, "seq": n, "tables": {"t": max seq, …}}
//! meta  clients_complete = epoch of the log whose every client the table `clients` names
//! ```
//! **Invariant:** a mark that holds says that every delta with `seq` up to the mark's is in the lake. It holds only
//! under the fence that stood in the catalog when the database was opened, and only when the lake has every table
//! at least as far as when it was written. A database or a catalog that was lost, restored, rolled back or taken
//! over has another fence or less: then the mark is as if it were not there, and everything is read.

use std::collections::{BTreeMap, HashMap};

use lakesync_proto::{Seq, TableName};
use lakesync_providers::Views;
use lakesync_providers::lake::Fence;
use serde::{Deserialize, Serialize};

/// The mark's key in `meta`.
pub(crate) const KEY: &str = "flushed_mark";
/// The key in `meta` that says for which epoch the high-water marks of clients are complete.
pub(crate) const CLIENTS_COMPLETE: &str = "clients_complete";

/// How far the lake holds everything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FlushedMark {
    /// The token of the fence that it was written under.
    fence: String,
    /// Every delta up to this seq is in the lake.
    seq: u64,
    /// How far each table's log or base went.
    tables: BTreeMap<String, u64>,
}

impl FlushedMark {
    pub(crate) fn of(views: &Views, fence: &Fence) -> Self {
        let tables = views.tables.iter().map(|(name, view)| {
            let flushed = view.log.max_seq.max(view.base.base_seq);
            (name.to_string(), flushed.as_u64())
        });
        Self {
            fence: fence.token.clone(),
            seq: flushed_to(views).as_u64(),
            tables: tables.collect(),
        }
    }

    /// The seq up to which the lake holds everything, if the mark still speaks of this lake: `held` is the token
    /// that catalog and database agree on, `flushed` is how far the catalog says that each table is.
    pub(crate) fn holds(
        &self,
        held: Option<&str>,
        flushed: &HashMap<TableName, Seq>,
    ) -> Option<Seq> {
        let as_far = |(name, seq): (&String, &u64)| {
            let name = TableName::parse(name).ok()?;
            (flushed.get(&name)?.as_u64() >= *seq).then_some(())
        };
        let same_lake = held == Some(self.fence.as_str());
        let whole = self.tables.iter().all(|table| as_far(table).is_some());
        (same_lake && whole).then(|| Seq::from_u64(self.seq).ok())?
    }

    pub(crate) fn to_text(&self) -> String {
        serde_json::to_string(self).expect("text and numbers are JSON")
    }

    /// A stored mark; none when it cannot be read, which costs a slow start and nothing else.
    pub(crate) fn from_text(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }
}

/// Every delta up to this seq is in the lake: the last one before any table's first that is not flushed.
pub(crate) fn flushed_to(views: &Views) -> Seq {
    let first_unflushed = views.tables.values().filter_map(|view| {
        let (first, _) = view.arrivals(view.log.max_seq).next()?;
        Seq::from_u64(first.seq.as_u64() - 1).ok()
    });
    first_unflushed.min().unwrap_or(views.seq).min(views.seq)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seqs(tables: &[(&str, u64)]) -> HashMap<TableName, Seq> {
        let seqs = tables.iter().map(|(name, seq)| {
            let name = TableName::parse(name).unwrap();
            (name, Seq::from_u64(*seq).unwrap())
        });
        seqs.collect()
    }

    #[test]
    fn a_mark_holds_only_under_its_fence_and_for_a_lake_that_is_as_far() {
        let mark = FlushedMark {
            fence: "f1".to_owned(),
            seq: 7,
            tables: [("a".to_owned(), 9), ("b".to_owned(), 7)].into(),
        };
        let mark = FlushedMark::from_text(&mark.to_text()).unwrap();
        let lake = seqs(&[("a", 9), ("b", 7), ("new", 0)]);
        let seven = Seq::from_u64(7).ok();
        assert_eq!(mark.holds(Some("f1"), &lake), seven);
        assert_eq!(mark.holds(Some("f2"), &lake), None, "taken over in between");
        assert_eq!(mark.holds(None, &lake), None, "another log");
        let further = seqs(&[("a", 12), ("b", 12)]);
        assert_eq!(mark.holds(Some("f1"), &further), seven);
        let rolled_back = seqs(&[("a", 9), ("b", 6)]);
        assert_eq!(mark.holds(Some("f1"), &rolled_back), None);
        let dropped = seqs(&[("a", 9)]);
        assert_eq!(mark.holds(Some("f1"), &dropped), None);
    }

    #[test]
    fn a_mark_that_cannot_be_read_is_none() {
        assert_eq!(FlushedMark::from_text("{\"fence\":3}"), None);
    }
}
