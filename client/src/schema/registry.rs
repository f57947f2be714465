//! The schema registry (`_lakesync_meta`, `_lakesync_columns`): which tables this database has, each with the SQL that
//! reads and writes it.
//!
//! Invariant: a local table has exactly the living columns of its registered schema. A table's number and a column's slot
//! are never given twice, so clocks and captured changes mean the same after every change of a schema.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use lakesync_proto::{ColumnName, Schemas, TableName, TableSchema};
use rusqlite::Connection;

use super::alter;
use super::ddl::create_table;
use super::intact::{self, Difference};
use super::table::{LocalColumn, LocalTable, Slot, TableNumber};
use super::triggers;
use super::union::{checked, union};
use crate::error::ClientError;
use crate::state;

/// Slots that one table may ever use, dropped columns counted: a captured change has two columns for each, and SQLite
/// makes no table of more than 2,000.
pub(crate) const SLOTS_MAX: usize = 900;

/// The tables of one database, by name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Registry {
    version: i64,
    /// SQLite's count of the file's schema changes, when our triggers were last seen to be the first. It is told to what
    /// only reads the registry too: a look after each statement of a long transaction must cost nothing.
    first_at: Cell<i64>,
    /// Tables that another program has changed: who uses them hears of it, the others go on.
    altered: BTreeSet<TableName>,
    tables: BTreeMap<TableName, Arc<LocalTable>>,
    numbers: BTreeMap<TableNumber, TableName>,
}

/// A table of the gateway's that this database cannot have.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) table: TableName,
    pub(crate) reason: ClientError,
}

impl Registry {
    /// What the file holds.
    pub(crate) fn load(connection: &Connection) -> Result<Registry, ClientError> {
        let mut slots = load_slots(connection)?;
        let mut registry = Registry {
            version: state::registry(connection)?,
            ..Registry::default()
        };
        let mut statement = connection.prepare_cached(
            "SELECT table_number, schema_json, gateway_json, conflict FROM _lakesync_meta",
        )?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let (number, json): (TableNumber, String) = (row.get(0)?, row.get(1)?);
            let gateway: Option<String> = row.get(2)?;
            let columns = slots.remove(&number).unwrap_or_default();
            let mut table = assemble(number, Arc::new(parse(&json)?), &columns)?;
            table.gateway = gateway.as_deref().map(parse).transpose()?.map(Arc::new);
            table.conflict = row.get(3)?;
            registry.keep(table);
        }
        Ok(registry)
    }

    /// This registry, or what the file holds when another connection has changed it. Our triggers are the first to fire
    /// afterwards. Needs the write lock.
    pub(crate) fn refreshed(&self, connection: &Connection) -> Result<Registry, ClientError> {
        let mut registry = self.looked_up(connection)?;
        let mut altered = None;
        registry.look(connection, |table, _| {
            let altered = altered.get_or_insert_with(BTreeSet::new);
            altered.insert(table.schema.table.clone());
            Ok(())
        })?;
        if let Some(altered) = altered {
            registry.altered = altered;
        }
        Ok(registry)
    }

    /// The same for whoever only reads.
    pub(crate) fn looked_up(&self, connection: &Connection) -> Result<Registry, ClientError> {
        match state::registry(connection)? == self.version {
            true => Ok(self.clone()),
            false => Registry::load(connection),
        }
    }

    pub(crate) fn table(&self, table: &TableName) -> Result<&Arc<LocalTable>, ClientError> {
        self.tables
            .get(table)
            .ok_or_else(|| ClientError::UnknownTable {
                table: table.clone(),
            })
    }

    /// The table of this number.
    pub(crate) fn numbered(&self, number: TableNumber) -> Option<&Arc<LocalTable>> {
        self.tables.get(self.numbers.get(&number)?)
    }

    pub(crate) fn tables(&self) -> impl Iterator<Item = &Arc<LocalTable>> {
        self.tables.values()
    }

    /// Takes a schema: makes its table, or brings it up to date, and writes its triggers anew. Runs in the caller's
    /// transaction, behind the closed gate, after a seal.
    pub(crate) fn adopt(
        &mut self,
        connection: &Connection,
        incoming: &TableSchema,
    ) -> Result<(), ClientError> {
        checked(incoming)?;
        let table = match self.tables.get(&incoming.table).map(Arc::clone) {
            None => create(connection, incoming)?,
            Some(known) => {
                let merged = union(&known.schema, incoming)?;
                if merged == *known.schema {
                    return Ok(());
                }
                bring_up(connection, &known, merged)?
            }
        };
        self.keep(table);
        self.raise(connection)
    }

    /// Writes the triggers of all tables anew. A table that another program has taken something from has none until it is
    /// whole again.
    pub(crate) fn write_triggers(&self, connection: &Connection) -> Result<(), ClientError> {
        for table in self.tables.values() {
            triggers::drop_all(connection, table.number)?;
            let difference = intact::difference(connection, table)?;
            if !matches!(difference, Some(Difference::Lacks(_))) {
                triggers::create_all(connection, table)?;
            }
        }
        Ok(())
    }

    /// Notes what the gateway has: all its tables, and the hash over their schemas. Tables that are new here are made;
    /// columns wait for the first delta that needs them. Runs like [`Registry::adopt`].
    ///
    /// A table that cannot be had is told, and holds up nothing else.
    pub(crate) fn note_gateway(
        &mut self,
        connection: &Connection,
        schemas: &[TableSchema],
        hash: u64,
    ) -> Result<Vec<Refusal>, ClientError> {
        let mut refused = Vec::new();
        for schema in schemas {
            if !self.tables.contains_key(&schema.table) {
                match checked(schema).and_then(|()| create(connection, schema)) {
                    Ok(table) => self.keep(table),
                    Err(reason @ (ClientError::Database(_) | ClientError::Damaged { .. })) => {
                        return Err(reason);
                    }
                    Err(reason) => refused.push(Refusal {
                        table: schema.table.clone(),
                        reason,
                    }),
                }
            }
        }
        let theirs: BTreeMap<&TableName, &TableSchema> = schemas
            .iter()
            .map(|schema| (&schema.table, schema))
            .collect();
        let tables: Vec<Arc<LocalTable>> = self.tables.values().map(Arc::clone).collect();
        for known in tables {
            let gateway = theirs.get(&known.schema.table).copied();
            self.note(connection, &known, gateway)?;
        }
        state::set_schemas_hash(connection, hash)?;
        self.raise(connection)?;
        Ok(refused)
    }

    /// Makes our triggers fire before those that the application has made since the last look, and refuses what it has
    /// done to a tracked table itself.
    pub(crate) fn stay_first(&self, connection: &Connection) -> Result<(), ClientError> {
        self.look(connection, |table, difference| {
            let name = &table.schema.table;
            if self.altered.contains(name) {
                return Ok(());
            }
            let (Difference::Lacks(reason) | Difference::Has(reason)) = difference;
            Err(ClientError::TableChanged {
                table: name.clone(),
                reason: reason.clone(),
            })
        })
    }

    /// Looks at the tables when the file's schema is another one than at the last look.
    fn look(
        &self,
        connection: &Connection,
        mut changed: impl FnMut(&LocalTable, &Difference) -> Result<(), ClientError>,
    ) -> Result<(), ClientError> {
        if schema_version(connection)? == self.first_at.get() {
            return Ok(());
        }
        for table in self.tables.values() {
            let difference = intact::difference(connection, table)?;
            if let Some(difference) = &difference {
                changed(table, difference)?;
            }
            let can_have_triggers = !matches!(difference, Some(Difference::Lacks(_)));
            if can_have_triggers && !triggers::stand_first(connection, table)? {
                triggers::create_all(connection, table)?;
            }
        }
        self.first_at.set(schema_version(connection)?);
        Ok(())
    }

    /// Writes down what the gateway has under the name of this table.
    fn note(
        &mut self,
        connection: &Connection,
        known: &LocalTable,
        gateway: Option<&TableSchema>,
    ) -> Result<(), ClientError> {
        let conflict = gateway
            .and_then(|gateway| union(&known.schema, gateway).err())
            .map(|error| error.to_string());
        connection
            .prepare_cached(
                "UPDATE _lakesync_meta SET gateway_json = ?2, conflict = ?3 WHERE table_name = ?1",
            )?
            .execute((
                known.schema.table.as_str(),
                gateway.map(TableSchema::to_json),
                &conflict,
            ))?;
        let mut noted = LocalTable::new(
            known.number,
            Arc::clone(&known.schema),
            known.columns.clone(),
        );
        noted.gateway = gateway.map(|gateway| Arc::new(gateway.clone()));
        noted.conflict = conflict;
        self.keep(noted);
        Ok(())
    }

    fn keep(&mut self, table: LocalTable) {
        let name = table.schema.table.clone();
        self.numbers.insert(table.number, name.clone());
        self.tables.insert(name, Arc::new(table));
    }

    fn raise(&mut self, connection: &Connection) -> Result<(), ClientError> {
        state::raise_registry(connection)?;
        self.version = state::registry(connection)?;
        Ok(())
    }
}

impl Schemas for Registry {
    fn schema(&self, table: &TableName) -> Option<Arc<TableSchema>> {
        self.tables
            .get(table)
            .map(|table| Arc::clone(&table.schema))
    }
}

/// How often the file's schema has changed, as SQLite counts it.
fn schema_version(connection: &Connection) -> Result<i64, ClientError> {
    let mut statement = connection.prepare_cached("PRAGMA schema_version")?;
    Ok(statement.query_row([], |row| row.get(0))?)
}

/// The living columns' slots of every table.
type Slots = BTreeMap<ColumnName, Slot>;

fn load_slots(connection: &Connection) -> Result<BTreeMap<TableNumber, Slots>, ClientError> {
    let mut statement = connection.prepare_cached(
        "SELECT table_number, column_name, slot FROM _lakesync_columns WHERE living = 1",
    )?;
    let mut rows = statement.query([])?;
    let mut slots: BTreeMap<TableNumber, Slots> = BTreeMap::new();
    while let Some(row) = rows.next()? {
        let name = ColumnName::parse(row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?)?;
        slots
            .entry(row.get(0)?)
            .or_default()
            .insert(name, row.get(2)?);
    }
    Ok(slots)
}

fn parse(json: &str) -> Result<TableSchema, ClientError> {
    TableSchema::from_json(json).map_err(|error| ClientError::Damaged {
        what: format!("a schema in _lakesync_meta: {error}"),
    })
}

fn assemble(
    number: TableNumber,
    schema: Arc<TableSchema>,
    slots: &Slots,
) -> Result<LocalTable, ClientError> {
    let column = |column: &lakesync_proto::Column| {
        let slot = slots
            .get(&column.name)
            .ok_or_else(|| ClientError::Damaged {
                what: format!("column {} of {} has no slot", column.name, schema.table),
            })?;
        Ok(LocalColumn {
            name: column.name.clone(),
            column_type: column.column_type,
            slot: *slot,
        })
    };
    let columns: Vec<LocalColumn> = schema
        .columns
        .iter()
        .map(column)
        .collect::<Result<_, ClientError>>()?;
    Ok(LocalTable::new(number, schema, columns))
}

/// Makes a table, or refuses before anything is made.
fn create(connection: &Connection, schema: &TableSchema) -> Result<LocalTable, ClientError> {
    check_new_table(connection, schema)?;
    check_slots(schema, schema.columns.len())?;
    connection.execute_batch(&create_table(schema))?;
    let number: TableNumber = connection.query_row(
        "SELECT 1 + max(coalesce((SELECT max(table_number) FROM _lakesync_meta), 0),
                        coalesce((SELECT max(table_number) FROM _lakesync_columns), 0))",
        [],
        |row| row.get(0),
    )?;
    let names = schema.columns.iter().map(|column| &column.name);
    let slots = add_slots(connection, number, names)?;
    finish(connection, number, schema, &slots)
}

fn bring_up(
    connection: &Connection,
    known: &LocalTable,
    merged: TableSchema,
) -> Result<LocalTable, ClientError> {
    let changes = alter::plan(&known.schema, &merged);
    let used: u32 = connection.query_row(
        "SELECT count(*) FROM _lakesync_columns WHERE table_number = ?1",
        [known.number],
        |row| row.get(0),
    )?;
    let used = usize::try_from(used).expect("32 bits fit");
    check_slots(&merged, used + changes.added.len())?;
    triggers::drop_all(connection, known.number)?;
    alter::run(connection, &known.schema, &merged, &changes)?;
    let gone: BTreeSet<&ColumnName> = changes.dropped.iter().map(|column| &column.name).collect();
    drop_slots(connection, known, &gone)?;
    let added = changes.added.iter().map(|column| &column.name);
    let mut slots = add_slots(connection, known.number, added)?;
    for column in &known.columns {
        if !gone.contains(&column.name) {
            slots.insert(column.name.clone(), column.slot);
        }
    }
    let mut table = finish(connection, known.number, &merged, &slots)?;
    table.gateway = known.gateway.as_ref().map(Arc::clone);
    table.conflict = match &table.gateway {
        Some(gateway) => union(&merged, gateway).err().map(|error| error.to_string()),
        None => None,
    };
    Ok(table)
}

/// What creating and changing a table end with: the schema in the file, the triggers.
fn finish(
    connection: &Connection,
    number: TableNumber,
    schema: &TableSchema,
    slots: &Slots,
) -> Result<LocalTable, ClientError> {
    let table = assemble(number, Arc::new(schema.clone()), slots)?;
    let width = slots
        .values()
        .max()
        .map_or(0, |slot| slot.saturating_add(1));
    triggers::widen_changes(connection, width)?;
    triggers::create_all(connection, &table)?;
    connection
        .prepare_cached(
            "INSERT INTO _lakesync_meta (table_name, table_number, schema_json) VALUES (?1, ?2, ?3)
             ON CONFLICT (table_name) DO UPDATE SET schema_json = excluded.schema_json",
        )?
        .execute((schema.table.as_str(), number, schema.to_json()))?;
    Ok(table)
}

/// Gives each column the next slot of its table.
fn add_slots<'a>(
    connection: &Connection,
    number: TableNumber,
    names: impl Iterator<Item = &'a ColumnName>,
) -> Result<Slots, ClientError> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO _lakesync_columns (table_number, slot, column_name, living)
         VALUES (?1, (SELECT coalesce(max(slot) + 1, 0) FROM _lakesync_columns WHERE table_number = ?1), ?2, 1)
         RETURNING slot",
    )?;
    let mut slots = Slots::new();
    for name in names {
        let slot = statement.query_row((number, name.as_str()), |row| row.get(0))?;
        slots.insert(name.clone(), slot);
    }
    Ok(slots)
}

/// A dropped column's slot stays taken; the confirmed values that own edits hid in it are nobody's any more.
fn drop_slots(
    connection: &Connection,
    known: &LocalTable,
    gone: &BTreeSet<&ColumnName>,
) -> Result<(), ClientError> {
    for column in &known.columns {
        if gone.contains(&column.name) {
            let key = (known.number, column.slot);
            connection
                .prepare_cached(
                    "UPDATE _lakesync_columns SET living = 0 WHERE table_number = ?1 AND slot = ?2",
                )?
                .execute(key)?;
            connection
                .prepare_cached(
                    "DELETE FROM _lakesync_confirmed WHERE table_number = ?1 AND slot = ?2",
                )?
                .execute(key)?;
        }
    }
    Ok(())
}

fn check_slots(schema: &TableSchema, slots: usize) -> Result<(), ClientError> {
    match slots > SLOTS_MAX {
        false => Ok(()),
        true => Err(ClientError::TooWide {
            table: schema.table.clone(),
            columns: slots,
            limit: SLOTS_MAX,
        }),
    }
}

/// SQLite compares names without regard to case, and the application may have tables of its own in the file.
fn check_new_table(connection: &Connection, schema: &TableSchema) -> Result<(), ClientError> {
    let taken = |reason| ClientError::NameTaken {
        name: schema.table.to_string(),
        reason,
    };
    let lower = schema.table.as_str().to_ascii_lowercase();
    if lower.starts_with("_lakesync_") || lower.starts_with("sqlite_") {
        return Err(taken("the prefix is reserved"));
    }
    let exists: bool = connection.query_row(
        "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE lower(name) = ?1)",
        [&lower],
        |row| row.get(0),
    )?;
    if exists {
        Err(taken("the local database has something of that name"))
    } else {
        Ok(())
    }
}
