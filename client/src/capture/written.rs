//! What an insert wrote, whose trigger wrote down the key alone.
//!
//! It stands in the row, or a later change of the row has written down what it found there:
//!
//! ```text
//!                   a    b    c
//! add r                             ┐ of each column the first that tells it:
//! update r               b          │ what an update changed
//! delete r          a    b'   c     │ everything, of what ends the row: delete, move away, an insert that meets it
//! r as it stands    …    …    …     ┘ everything, when nothing has ended it
//! ```
//! A row that has ended and of which nothing tells was taken away by REPLACE, in a program that does not let triggers hear
//! of it. It is as if it had never been.
//!
//! Invariant: memory is bounded by one row. Which changes follow an insert is noted in a temporary table, and only when a
//! change that is no insert follows one at all.

use std::collections::BTreeMap;

use lakesync_proto::RowId;
use rusqlite::types::ToSqlOutput;
use rusqlite::{Connection, OptionalExtension as _, Statement, params_from_iter};

use super::change::{Change, Side, WrittenCells};
use crate::error::ClientError;
use crate::schema::{self, LocalColumn, LocalTable, Registry, Slot, TableNumber};

/// Changes that name a row that an insert may have made, by row.
const LATER: &str = "CREATE TEMP TABLE IF NOT EXISTS _lakesync_later (
    table_number INTEGER NOT NULL, row_id TEXT NOT NULL, change INTEGER NOT NULL,
    PRIMARY KEY (table_number, row_id, change)
) STRICT, WITHOUT ROWID";

/// What an insert wrote.
#[derive(Debug, PartialEq)]
pub(super) enum Written {
    /// The values of the columns beside the key.
    Values(WrittenCells),
    /// Nobody can read it any more, and the row is not there.
    Gone,
    /// Nobody can read it, because the table is not there.
    Lost,
}

/// The rows that inserts of one log have written.
pub(super) struct WrittenRows<'c> {
    tx: &'c Connection,
    /// Reads the changes that follow an insert; none when there are none.
    later: Option<Statement<'c>>,
    standing: BTreeMap<TableNumber, Option<Standing<'c>>>,
}

/// The statement that reads a row as it stands.
struct Standing<'c> {
    statement: Statement<'c>,
    /// What it selects, behind a 1.
    slots: Vec<Slot>,
}

/// How far the changes that follow an insert tell what it wrote.
enum Told {
    /// All of it.
    All,
    /// The rest stands in the row.
    Part,
    /// The row was taken away in silence.
    Replaced,
}

impl<'c> WrittenRows<'c> {
    /// Looks through the log.
    pub(super) fn of(
        tx: &'c Connection,
        registry: &Registry,
    ) -> Result<WrittenRows<'c>, ClientError> {
        let first = tx
            .prepare_cached(
                "SELECT change FROM _lakesync_changes WHERE kind = ?1 ORDER BY change LIMIT 1",
            )?
            .query_row([schema::ADD], |row| row.get(0))
            .optional()?;
        let follows = match first {
            None => false,
            Some(first) => note_later(tx, registry, first)?,
        };
        let later = match follows {
            false => None,
            true => Some(tx.prepare(
                "SELECT changes.* FROM temp._lakesync_later AS later \
                 CROSS JOIN _lakesync_changes AS changes ON changes.change = later.change \
                 WHERE later.table_number = ?1 AND later.row_id = ?2 AND later.change > ?3 ORDER BY later.change",
            )?),
        };
        Ok(WrittenRows {
            tx,
            later,
            standing: BTreeMap::new(),
        })
    }

    /// What an insert wrote.
    pub(super) fn written(
        &mut self,
        change: &Change<'_>,
        table: &LocalTable,
    ) -> Result<Written, ClientError> {
        let mut cells = WrittenCells::with_capacity(table.columns.len());
        match self.told(change, table, &mut cells)? {
            Told::All => return Ok(Written::Values(cells)),
            Told::Replaced => return Ok(Written::Gone),
            Told::Part => {}
        }
        if !self.standing.contains_key(&table.number) {
            let standing = Standing::of(self.tx, table)?;
            self.standing.insert(table.number, standing);
        }
        match self.standing.get_mut(&table.number) {
            Some(Some(standing)) => match standing.read(change, table, &mut cells)? {
                true => Ok(Written::Values(cells)),
                false => Ok(Written::Gone),
            },
            _ => Ok(Written::Lost),
        }
    }

    /// Ends the notes.
    pub(super) fn forget(&mut self) -> Result<(), ClientError> {
        self.standing.clear();
        if self.later.take().is_some() {
            self.tx.execute_batch("DELETE FROM temp._lakesync_later")?;
        }
        Ok(())
    }

    /// What the changes tell that follow an insert of this row.
    fn told(
        &mut self,
        insert: &Change<'_>,
        table: &LocalTable,
        cells: &mut WrittenCells,
    ) -> Result<Told, ClientError> {
        let Some(later) = &mut self.later else {
            return Ok(Told::Part);
        };
        // A row without a name is shown to a person and not sent.
        let Some(Ok(row_id)) = insert.new_row_id(table) else {
            return Ok(Told::Part);
        };
        let mut rows = later.query((table.number, row_id.as_str(), insert.number))?;
        while let Some(row) = rows.next()? {
            let change = Change::read(row)?;
            let is_it = |named: &RowId| *named == row_id;
            if !change
                .old_row_id(table)
                .is_some_and(|old| old.as_ref().is_ok_and(is_it))
            {
                return Ok(Told::Replaced);
            }
            let ends = change.kind != schema::UPDATE;
            for column in others(table) {
                let old = change.value(Side::Old, column.slot);
                let tells = ends || old != change.value(Side::New, column.slot);
                if tells && !cells.iter().any(|(slot, _)| *slot == column.slot) {
                    cells.push((column.slot, old.into()));
                }
            }
            if ends {
                return Ok(Told::All);
            }
        }
        Ok(Told::Part)
    }
}

impl<'c> Standing<'c> {
    /// None when the table or its key is not there. Another program may have taken columns away: those have no values.
    fn of(tx: &'c Connection, table: &LocalTable) -> Result<Option<Standing<'c>>, ClientError> {
        let mut statement = tx.prepare_cached("SELECT name FROM pragma_table_xinfo(?1)")?;
        let found = statement.query_map([table.schema.table.as_str()], |row| row.get(0))?;
        let found: Vec<String> = found.collect::<Result<_, _>>()?;
        let is_there = |name: &str| found.iter().any(|found| found == name);
        let key: Vec<&str> = match table.schema.primary_key.as_slice() {
            [] => vec!["row_id"],
            key => key.iter().map(|name| name.as_str()).collect(),
        };
        if !key.iter().all(|name| is_there(name)) {
            return Ok(None);
        }
        let columns: Vec<&LocalColumn> = others(table)
            .filter(|column| is_there(column.name.as_str()))
            .collect();
        let names: String = columns
            .iter()
            .map(|column| format!(", \"{}\"", column.name))
            .collect();
        let sql = format!(
            "SELECT 1{names} FROM \"{}\" {}",
            table.schema.table,
            table.where_row()
        );
        Ok(Some(Standing {
            statement: tx.prepare(&sql)?,
            slots: columns.iter().map(|column| column.slot).collect(),
        }))
    }

    /// Adds what the row holds beyond these cells; whether it is there.
    fn read(
        &mut self,
        insert: &Change<'_>,
        table: &LocalTable,
        cells: &mut WrittenCells,
    ) -> Result<bool, ClientError> {
        let key = insert.identity(table, Side::New).into_iter();
        let mut rows = self
            .statement
            .query(params_from_iter(key.map(ToSqlOutput::Borrowed)))?;
        let Some(row) = rows.next()? else {
            return Ok(false);
        };
        let told = cells.len();
        for (slot, at) in self.slots.iter().zip(1..) {
            if !cells[..told].iter().any(|(known, _)| known == slot) {
                cells.push((*slot, row.get_ref(at)?.into()));
            }
        }
        Ok(true)
    }
}

/// Notes which changes follow the first insert, by the rows that they name; whether there are any.
fn note_later(tx: &Connection, registry: &Registry, first: i64) -> Result<bool, ClientError> {
    let mut statement = tx.prepare_cached(
        "SELECT * FROM _lakesync_changes WHERE change > ?1 AND kind IN (?2, ?3, ?4, ?5)",
    )?;
    let kinds = [schema::UPDATE, schema::DELETE, schema::MOVE, schema::MET];
    let mut rows = statement.query(params_from_iter([first].iter().chain(&kinds)))?;
    let mut note = None;
    while let Some(row) = rows.next()? {
        let change = Change::read(row)?;
        let Some(table) = registry.numbered(change.table_number) else {
            continue;
        };
        let note = match &mut note {
            Some(note) => note,
            None => {
                tx.execute_batch(LATER)?;
                note.insert(tx.prepare_cached(
                    "INSERT OR IGNORE INTO temp._lakesync_later VALUES (?1, ?2, ?3)",
                )?)
            }
        };
        let names = [change.old_row_id(table), change.new_row_id(table)];
        for row_id in names.into_iter().flatten().flatten() {
            note.execute((table.number, row_id.as_str(), change.number))?;
        }
    }
    Ok(note.is_some())
}

/// The columns that are not in the key.
fn others(table: &LocalTable) -> impl Iterator<Item = &LocalColumn> {
    let columns = table.columns.iter();
    columns.filter(|column| !table.is_key(&column.name))
}
