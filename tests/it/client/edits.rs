//! What the users of a history do to their databases: typed calls, plain SQL, transactions, other programs.
//!
//! Invariant: an edit goes into the ledger exactly when the database said that it was made.

use lakesync_client::rusqlite::{self, params_from_iter};
use lakesync_client::{ClientError, LocalDb, SqlValue};
use lakesync_proto::{ColumnName, ColumnType, Decimal, RowId, TableSchema, Value, row_id_of};
use lakesync_tests::history::Rng;

use super::ledger::{Draft, Ledger, canonical};
use super::replica::chain;

/// Row ids and keys of one table that clients choose by hand.
const ROWS: u64 = 5;

/// Edits of one transaction at most.
const EDITS_MAX: u64 = 4;

/// Who writes, and whether a history can be had again from its seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hands {
    /// The program that syncs, by its own clock.
    Own,
    /// Other programs too: by SQLite's own clock, with row ids of SQLite's own dice.
    Any,
}

/// The same value as typed calls want it: SQL may write JSON as it likes.
fn normal(value: &Value) -> Value {
    match value {
        Value::Json(text) => Value::json(text).unwrap(),
        other => other.clone(),
    }
}

/// Somebody at a database.
pub(super) struct User<'a> {
    pub(super) rng: &'a mut Rng,
    pub(super) ledger: &'a mut Ledger,
    pub(super) client: &'a str,
    pub(super) hands: Hands,
    pub(super) watch: Watch,
}

/// Whether the wall clock of the database is right, so that a new edit is newer than all it has heard of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Watch {
    Right,
    Wrong,
}

/// A statement with its parameters.
struct Sql {
    text: String,
    params: Vec<SqlValue>,
}

/// Why a transaction came to nothing.
#[derive(Debug)]
enum Undone {
    Client(ClientError),
    Asked,
}

impl From<ClientError> for Undone {
    fn from(error: ClientError) -> Undone {
        Undone::Client(error)
    }
}

impl User<'_> {
    /// Makes one edit of some table: typed, by SQL, in a transaction, or by another program's hand.
    pub(super) fn edit(&mut self, db: &LocalDb, schemas: &[TableSchema], path: &std::path::Path) {
        if schemas.is_empty() {
            return;
        }
        let schema = self.rng.pick(schemas).clone();
        match self.rng.below(10) {
            0..3 => self.typed(db, &schema),
            3..6 => self.statement(db, &schema),
            8.. if self.hands == Hands::Any => self.foreign(&schema, path),
            _ => self.transaction(db, schemas),
        }
    }

    fn typed(&mut self, db: &LocalDb, schema: &TableSchema) {
        let rows = row_ids(db, schema);
        let mut draft = Draft::default();
        let table = schema.table.as_str();
        let values = self.values(schema, &mut draft);
        let mut values: Vec<(&str, Value)> = values
            .iter()
            .map(|(name, value)| (name.as_str(), normal(value)))
            .collect();
        let done = match self.rng.below(10) {
            0..5 if !rows.is_empty() => {
                let row = self.rng.pick(&rows).clone();
                let done = db.update(table, row.as_str(), &values);
                if done.is_ok() && self.watch == Watch::Right && self.rng.chance(60) {
                    shows(db, table, (&row, &values));
                }
                done
            }
            5..7 if !rows.is_empty() => {
                let row = self.rng.pick(&rows).clone();
                draft = Draft::default();
                draft.deletes.push((table.to_owned(), row.to_string()));
                db.delete(table, row.as_str())
            }
            _ => {
                let key = self.key(schema);
                values.extend(key.iter().map(|(name, value)| (*name, value.clone())));
                db.insert(table, &values).map(drop)
            }
        };
        match done {
            Ok(()) => self.ledger.keep(self.client, draft),
            Err(ClientError::RowExists { .. } | ClientError::RowMissing { .. }) => {}
            Err(error) => assert!(
                is_taken(&error),
                "{}: {table}: {}",
                self.client,
                chain(&error)
            ),
        }
    }

    fn statement(&mut self, db: &LocalDb, schema: &TableSchema) {
        let mut draft = Draft::default();
        let sql = self.sql(schema, &mut draft);
        match db.execute(&sql.text, params_from_iter(sql.params)) {
            Ok(rows) => self.ledger.keep(self.client, draft.of_rows(rows)),
            Err(error) => assert!(
                is_taken(&error),
                "{}: {}: {}",
                self.client,
                sql.text,
                chain(&error)
            ),
        }
    }

    fn transaction(&mut self, db: &LocalDb, schemas: &[TableSchema]) {
        let mut drafts = Vec::new();
        let done = db.transaction(|tx| -> Result<(), Undone> {
            for _ in 0..self.rng.between(1, EDITS_MAX) {
                let schema = self.rng.pick(schemas).clone();
                let mut draft = Draft::default();
                let sql = self.sql(&schema, &mut draft);
                let rows = tx.execute(&sql.text, params_from_iter(sql.params))?;
                drafts.push(draft.of_rows(rows));
            }
            match self.rng.chance(20) {
                true => Err(Undone::Asked),
                false => Ok(()),
            }
        });
        match done {
            Ok(()) => {
                for draft in drafts {
                    self.ledger.keep(self.client, draft);
                }
            }
            Err(Undone::Asked) => {}
            Err(Undone::Client(error)) => {
                assert!(is_taken(&error), "{}: {}", self.client, chain(&error))
            }
        }
    }

    /// A program that opens the file with SQLite and nothing else, without recursive triggers.
    fn foreign(&mut self, schema: &TableSchema, path: &std::path::Path) {
        let connection = rusqlite::Connection::open(path).unwrap();
        let mut draft = Draft::default();
        let sql = self.sql(schema, &mut draft);
        let params = params_from_iter(sql.params);
        match connection.execute(&sql.text, params) {
            Ok(rows) => self.ledger.keep(self.client, draft.of_rows(rows)),
            Err(error) => {
                let code = error.sqlite_error_code();
                let taken = Some(rusqlite::ErrorCode::ConstraintViolation);
                assert_eq!(code, taken, "{}: {}: {error}", self.client, sql.text);
            }
        }
    }

    /// Some statement that writes a table.
    fn sql(&mut self, schema: &TableSchema, draft: &mut Draft) -> Sql {
        let table = schema.table.as_str().to_owned();
        let place = self.place(schema);
        match self.rng.below(20) {
            0..9 => self.insert(schema, draft, &place),
            9..14 => {
                let values = self.values(schema, draft);
                let (text, params) = set(&values);
                let (here, key) = condition(&place);
                let only = self.rng.chance(70);
                Sql {
                    text: match only {
                        true => format!("UPDATE {table} SET {text} WHERE {here}"),
                        false => format!("UPDATE {table} SET {text}"),
                    },
                    params: match only {
                        true => params.into_iter().chain(key).collect(),
                        false => params,
                    },
                }
            }
            14..17 => {
                let (here, params) = condition(&place);
                draft.deletes.push((table.clone(), row_id(schema, &place)));
                Sql {
                    text: format!("DELETE FROM {table} WHERE {here}"),
                    params,
                }
            }
            _ => self.moved(schema, draft),
        }
    }

    fn insert(&mut self, schema: &TableSchema, draft: &mut Draft, place: &Place) -> Sql {
        let table = &schema.table;
        let values = self.values(schema, draft);
        let unnamed = self.hands == Hands::Any && schema.primary_key.is_empty();
        if unnamed && self.rng.chance(20) {
            let (names, params): (Vec<String>, Vec<SqlValue>) = values
                .iter()
                .map(|(name, value)| (format!("\"{name}\""), stored(value)))
                .unzip();
            let marks = vec!["?"; names.len()].join(", ");
            let names = names.join(", ");
            let text = format!("INSERT INTO {table} ({names}) VALUES ({marks})");
            return Sql { text, params };
        }
        let all = || place.iter().chain(&values);
        let names: Vec<String> = all().map(|(name, _)| format!("\"{name}\"")).collect();
        let marks = vec!["?"; names.len()].join(", ");
        let mut params: Vec<SqlValue> = all().map(|(_, value)| stored(value)).collect();
        let names = names.join(", ");
        let (verb, end) = match self.rng.below(4) {
            0 => ("INSERT", String::new()),
            1 => ("INSERT OR IGNORE", String::new()),
            2 => ("INSERT OR REPLACE", String::new()),
            _ => {
                let (text, again) = set(&values);
                let key: Vec<&str> = place.iter().map(|(name, _)| name.as_str()).collect();
                params.extend(again);
                let end = format!("ON CONFLICT ({}) DO UPDATE SET {text}", key.join(", "));
                ("INSERT", end)
            }
        };
        Sql {
            text: format!("{verb} INTO {table} ({names}) VALUES ({marks}) {end}"),
            params,
        }
    }

    /// A row gets another key, or another id.
    fn moved(&mut self, schema: &TableSchema, draft: &mut Draft) -> Sql {
        let (here, params) = condition(&self.place(schema));
        let to = self.place(schema);
        let (text, mut all) = set(&to);
        all.extend(params);
        draft.marks.clear();
        Sql {
            text: format!("UPDATE {} SET {text} WHERE {here}", schema.table),
            params: all,
        }
    }

    /// Key columns of a row that is named by hand; none for a table without a key.
    fn key<'s>(&mut self, schema: &'s TableSchema) -> Vec<(&'s str, Value)> {
        let row = self.rng.below(ROWS);
        let key = schema.primary_key.iter().map(|name| {
            let column = schema.column(name.as_str()).unwrap();
            let value = match column.column_type {
                ColumnType::Long => Value::Long(row.cast_signed()),
                _ => Value::String(format!("key \"{row}\"")),
            };
            (name.as_str(), value)
        });
        key.collect()
    }

    /// The columns that say which row is meant, with their values.
    fn place(&mut self, schema: &TableSchema) -> Place {
        let key = self.key(schema);
        match key.is_empty() {
            true => {
                let row = self.rng.below(ROWS);
                vec![("row_id".to_owned(), Value::String(format!("row {row}")))]
            }
            false => {
                let key = key.into_iter();
                key.map(|(name, value)| (name.to_owned(), value)).collect()
            }
        }
    }

    /// Values for some of a table's columns, none of its key; at least one, and one that was never written before.
    fn values(&mut self, schema: &TableSchema, draft: &mut Draft) -> Place {
        let free = schema.columns.iter();
        let free = free.filter(|column| !schema.primary_key.contains(&column.name));
        let mut values = Place::new();
        let mut marked = false;
        let percent = *self.rng.pick(&[10, 40, 90]);
        for column in free {
            let name = column.name.to_string();
            let own = matches!(column.column_type, ColumnType::String | ColumnType::Long);
            if own && name != "owner" && !marked {
                marked = true;
                let mark = self.ledger.mark();
                let value = match column.column_type {
                    ColumnType::Long => Value::Long(mark),
                    _ => Value::String(format!("{} wrote {mark}", self.client)),
                };
                let table = schema.table.to_string();
                draft
                    .marks
                    .push(((table, name.clone(), canonical(&value)), 1));
                values.push((name, value));
            } else if self.rng.chance(percent) {
                let value = self.value(&name, column.column_type);
                values.push((name, value));
            }
        }
        values
    }

    fn value(&mut self, name: &str, column_type: ColumnType) -> Value {
        let rng = &mut *self.rng;
        if rng.chance(20) {
            return Value::Null;
        }
        match column_type {
            ColumnType::String if name == "owner" => {
                Value::from(*rng.pick(&["client-0", "client-1", "client-2", "all"]))
            }
            ColumnType::String => {
                Value::from(*rng.pick(&["", "null", "é\u{2028}😀\"\\\n", "0042"]))
            }
            ColumnType::Number => Value::Number(*rng.pick(&[0.0, -1.5, 0.1, 1e21, 5e-324])),
            ColumnType::Long => Value::Long(*rng.pick(&[0, -1, i64::MAX, i64::MIN])),
            ColumnType::Boolean => Value::Boolean(rng.chance(50)),
            ColumnType::Json => Value::Json(
                (*rng.pick(&["{}", "[1,null,\"x\"]", "{ \"b\":1, \"a\":2.5}", "true"])).to_owned(),
            ),
            ColumnType::Decimal { scale, .. } => Value::Decimal(Decimal {
                unscaled: *rng.pick(&[0, -1, 99_999_999_999_999_999_999, -12_345]),
                scale,
            }),
            ColumnType::Date => Value::Date(*rng.pick(&[0, -1, 19_675, -719_162])),
            ColumnType::Timestamp => Value::Timestamp(*rng.pick(&[0, -1, 1_700_000_000_123_456])),
            ColumnType::Binary => Value::Binary(rng.pick(&[&b""[..], b"\0\x01\xff"]).to_vec()),
        }
    }
}

/// Columns with their values.
type Place = Vec<(String, Value)>;

/// The id of the row at a place.
fn row_id(schema: &TableSchema, place: &[(String, Value)]) -> String {
    let values: Vec<&Value> = place.iter().map(|(_, value)| value).collect();
    match schema.primary_key.is_empty() {
        true => values[0].text().unwrap(),
        false => row_id_of(&values).unwrap().to_string(),
    }
}

fn set(values: &[(String, Value)]) -> (String, Vec<SqlValue>) {
    let text: Vec<String> = values
        .iter()
        .map(|(name, _)| format!("\"{name}\" = ?"))
        .collect();
    let params = values.iter().map(|(_, value)| stored(value)).collect();
    (text.join(", "), params)
}

fn condition(place: &[(String, Value)]) -> (String, Vec<SqlValue>) {
    let text: Vec<String> = place
        .iter()
        .map(|(name, _)| format!("\"{name}\" = ?"))
        .collect();
    let params = place.iter().map(|(_, value)| stored(value)).collect();
    (text.join(" AND "), params)
}

/// The value as SQLite keeps it.
fn stored(value: &Value) -> SqlValue {
    match value {
        Value::Null => SqlValue::Null,
        Value::Number(number) => SqlValue::Real(*number),
        Value::Long(number) => SqlValue::Integer(*number),
        Value::Boolean(truth) => SqlValue::Integer(i64::from(*truth)),
        Value::Binary(bytes) => SqlValue::Blob(bytes.clone()),
        Value::String(text) | Value::Json(text) => SqlValue::Text(text.clone()),
        other => SqlValue::Text(other.text().expect("decimals, dates and times have a text")),
    }
}

/// Whether an edit failed because its row is there, or because the fuse has burnt down.
fn is_taken(error: &ClientError) -> bool {
    let text = chain(error);
    text.contains("UNIQUE") || text.contains("the fuse")
}

/// What has just been written is what stands there, also once it has been stamped: whatever the database had heard of is
/// older.
fn shows(db: &LocalDb, table: &str, (row, values): (&RowId, &[(&str, Value)])) {
    let Ok(rows) = db.rows(table) else {
        return;
    };
    for (column, value) in values {
        let column = ColumnName::parse(column).unwrap();
        let found = rows[row].get(&column).unwrap_or(&Value::Null);
        assert_eq!(
            found,
            value,
            "{:?}: {table}, {row}, {column}",
            db.client_id()
        );
    }
}

fn row_ids(db: &LocalDb, schema: &TableSchema) -> Vec<RowId> {
    let sql = format!("SELECT row_id FROM {} ORDER BY row_id", schema.table);
    let rows = db.query(&sql, []).unwrap().rows.into_iter();
    let ids = rows.map(|row| match &row[0] {
        SqlValue::Text(id) => RowId::parse(id).unwrap(),
        other => panic!("a row id {other:?}"),
    });
    ids.collect()
}
