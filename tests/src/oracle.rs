//! The oracle: the merge rule, asked of the whole *set* of deltas each time.
//!
//! Invariant: it shares no code with `lakesync_proto`'s merge. It knows deltas as plain strings and numbers, keeps
//! every delta that ever arrived, and answers by searching all of them. Slow on purpose: when it disagrees with
//! anything, the other side has to explain itself.
//!
//! The rule, as `DESIGN.md` section 2 words it: a cell shows its write with the greatest stamp (HLC, then client id,
//! then delta id, both bytewise), if that stamp is above the row's greatest DELETE; a row exists when some INSERT or
//! UPDATE is stamped above its greatest DELETE.

use std::collections::{BTreeMap, BTreeSet};

use lakesync_proto::{Op, RowDelta};

/// One delta in plain types.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OracleDelta {
    /// `'I'`, `'U'` or `'D'`.
    pub op: char,
    /// Table name.
    pub table: String,
    /// Row id.
    pub row: String,
    /// Client id.
    pub client: String,
    /// Delta id.
    pub id: [u8; 32],
    /// Hybrid logical clock, 48 bits of wall milliseconds and 16 of counter.
    pub hlc: u64,
    /// Column name to canonical text of the value; an explicit null is `null`.
    pub columns: BTreeMap<String, String>,
}

impl OracleDelta {
    /// The order of writes.
    pub fn stamp(&self) -> (u64, &[u8], [u8; 32]) {
        (self.hlc, self.client.as_bytes(), self.id)
    }

    /// Whether it deletes its row.
    pub fn is_delete(&self) -> bool {
        self.op == 'D'
    }
}

impl From<&RowDelta> for OracleDelta {
    fn from(delta: &RowDelta) -> Self {
        let op = match delta.op {
            Op::Insert => 'I',
            Op::Update => 'U',
            Op::Delete => 'D',
        };
        let columns = delta
            .columns
            .iter()
            .map(|change| {
                let mut text = String::new();
                change.value.write_canonical(&mut text);
                (change.column.to_string(), text)
            })
            .collect();
        OracleDelta {
            op,
            table: delta.table.to_string(),
            row: delta.row_id.to_string(),
            client: delta.client_id.to_string(),
            id: *delta.delta_id.as_bytes(),
            hlc: delta.hlc.as_u64(),
            columns,
        }
    }
}

/// Which deltas an answer is made of: those at or below both coordinates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AsOf {
    /// Greatest arrival number that counts.
    pub seq: u64,
    /// Greatest HLC that counts.
    pub hlc: u64,
}

impl AsOf {
    /// Everything that is known.
    pub const NOW: AsOf = AsOf {
        seq: u64::MAX,
        hlc: u64::MAX,
    };

    /// What had arrived up to `seq`.
    pub fn seq(seq: u64) -> AsOf {
        AsOf { seq, ..AsOf::NOW }
    }

    /// What is stamped at or below `hlc`, whenever it arrived.
    pub fn hlc(hlc: u64) -> AsOf {
        AsOf { hlc, ..AsOf::NOW }
    }
}

/// The rows of a table: row id, then column, then canonical text. A column that was never written, or whose write a
/// DELETE covers, is absent; an explicit null is there as `null`.
pub type OracleRows = BTreeMap<String, BTreeMap<String, String>>;

/// Every delta that arrived, in arrival order: the one at index `i` has seq `i + 1`.
#[derive(Clone, Debug, Default)]
pub struct Oracle {
    arrived: Vec<OracleDelta>,
}

impl Oracle {
    /// An oracle that has seen nothing.
    pub fn new() -> Oracle {
        Oracle::default()
    }

    /// Takes a delta and gives its seq; a delta that is known keeps the seq it has.
    ///
    /// # Panics
    /// When the delta id is known with other content: no gateway may let that pass.
    pub fn arrive(&mut self, delta: OracleDelta) -> u64 {
        if let Some(known) = self.arrived.iter().position(|d| d.id == delta.id) {
            assert_eq!(self.arrived[known], delta, "one delta id, two deltas");
            return seq_of(known);
        }
        self.arrived.push(delta);
        seq_of(self.arrived.len() - 1)
    }

    /// The seq of the newest delta, 0 when there is none.
    pub fn last_seq(&self) -> u64 {
        u64::try_from(self.arrived.len()).expect("fewer than 2^64 deltas fit in memory")
    }

    /// All deltas, in arrival order.
    pub fn deltas(&self) -> &[OracleDelta] {
        &self.arrived
    }

    /// The tables that some delta names.
    pub fn tables(&self) -> BTreeSet<&str> {
        self.arrived.iter().map(|d| d.table.as_str()).collect()
    }

    /// The rows of `table` as of a coordinate.
    pub fn table(&self, table: &str, as_of: AsOf) -> OracleRows {
        let deltas: Vec<&OracleDelta> = self
            .arrived
            .iter()
            .enumerate()
            .filter(|(index, d)| {
                seq_of(*index) <= as_of.seq && d.hlc <= as_of.hlc && d.table == table
            })
            .map(|(_, d)| d)
            .collect();
        let row_ids: BTreeSet<&str> = deltas.iter().map(|d| d.row.as_str()).collect();
        row_ids
            .into_iter()
            .filter_map(|row_id| Some((row_id.to_owned(), row(&deltas, row_id)?)))
            .collect()
    }
}

/// One row out of a set of deltas, or nothing when it does not exist.
fn row(deltas: &[&OracleDelta], row_id: &str) -> Option<BTreeMap<String, String>> {
    let of_row = || deltas.iter().copied().filter(|d| d.row == row_id);
    let deleted = of_row()
        .filter(|d| d.is_delete())
        .map(OracleDelta::stamp)
        .max();
    let writes: Vec<&OracleDelta> = of_row()
        .filter(|d| !d.is_delete() && deleted.is_none_or(|deleted| d.stamp() > deleted))
        .collect();
    if writes.is_empty() {
        return None;
    }
    let names: BTreeSet<&String> = writes.iter().flat_map(|d| d.columns.keys()).collect();
    let cells = names.into_iter().map(|name| {
        let winner = writes
            .iter()
            .filter(|d| d.columns.contains_key(name))
            .max_by_key(|d| d.stamp())
            .expect("the name came from one of these writes");
        (name.clone(), winner.columns[name].clone())
    });
    Some(cells.collect())
}

/// The same rows as SQL shows them: every column of the schema, an absent cell as `null`.
pub fn with_every_column(rows: &OracleRows, columns: &[&str]) -> OracleRows {
    rows.iter()
        .map(|(row_id, cells)| {
            let complete = columns.iter().map(|column| {
                let text = cells.get(*column).map_or("null", String::as_str);
                ((*column).to_owned(), text.to_owned())
            });
            (row_id.clone(), complete.collect())
        })
        .collect()
}

fn seq_of(index: usize) -> u64 {
    u64::try_from(index + 1).expect("fewer than 2^64 deltas fit in memory")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Op, client, HLC, columns.
    type Short<'a> = (char, &'a str, u64, &'a [(&'a str, &'a str)]);

    /// Deltas of row `r`; the id is the position, so that equal stamps are told apart by it.
    fn oracle(deltas: &[Short<'_>]) -> Oracle {
        let mut oracle = Oracle::new();
        for (index, (op, client, hlc, columns)) in deltas.iter().enumerate() {
            oracle.arrive(OracleDelta {
                op: *op,
                table: "t".to_owned(),
                row: "r".to_owned(),
                client: (*client).to_owned(),
                id: [u8::try_from(index).unwrap(); 32],
                hlc: *hlc,
                columns: columns
                    .iter()
                    .map(|(c, v)| ((*c).to_owned(), (*v).to_owned()))
                    .collect(),
            });
        }
        oracle
    }

    fn check(oracle: &Oracle, as_of: AsOf, want: Option<&[(&str, &str)]>) {
        let rows = oracle.table("t", as_of);
        let want = want.map(|cells| {
            cells
                .iter()
                .map(|(c, v)| ((*c).to_owned(), (*v).to_owned()))
                .collect()
        });
        assert_eq!(rows.get("r").cloned(), want);
    }

    #[test]
    fn columns_merge_by_themselves_and_late_writes_lose_only_their_own_cell() {
        let oracle = oracle(&[
            ('I', "a", 10, &[("x", "1")]),
            ('U', "b", 30, &[("y", "2")]),
            ('U', "c", 20, &[("x", "3")]),
            ('U', "c", 5, &[("x", "4"), ("z", "5")]),
        ]);
        check(
            &oracle,
            AsOf::NOW,
            Some(&[("x", "3"), ("y", "2"), ("z", "5")]),
        );
        check(&oracle, AsOf::seq(2), Some(&[("x", "1"), ("y", "2")]));
        check(&oracle, AsOf::hlc(9), Some(&[("x", "4"), ("z", "5")]));
    }

    #[test]
    fn a_revived_row_shows_only_what_was_written_after_the_delete() {
        let deltas: &[Short<'_>] = &[
            ('I', "a", 10, &[("x", "1"), ("y", "1")]),
            ('D', "a", 20, &[]),
            ('U', "b", 30, &[("y", "null")]),
        ];
        check(&oracle(deltas), AsOf::NOW, Some(&[("y", "null")]));
        check(&oracle(deltas), AsOf::seq(2), None);
        check(&oracle(&deltas[1..]), AsOf::hlc(20), None);
    }

    #[test]
    fn equal_clocks_are_settled_by_client_and_then_by_id() {
        let by_client = oracle(&[('U', "b", 10, &[("x", "1")]), ('U', "a", 10, &[("x", "2")])]);
        check(&by_client, AsOf::NOW, Some(&[("x", "1")]));
        let by_id = oracle(&[('U', "a", 10, &[("x", "1")]), ('U', "a", 10, &[("x", "2")])]);
        check(&by_id, AsOf::NOW, Some(&[("x", "2")]));
    }

    #[test]
    fn a_duplicate_keeps_its_seq_and_a_row_without_cells_exists() {
        let mut oracle = oracle(&[('I', "a", 10, &[])]);
        let again = oracle.deltas()[0].clone();
        assert_eq!((oracle.arrive(again), oracle.last_seq()), (1, 1));
        check(&oracle, AsOf::NOW, Some(&[]));
        let shown = with_every_column(&oracle.table("t", AsOf::NOW), &["x"]);
        assert_eq!(shown["r"]["x"], "null");
    }
}
