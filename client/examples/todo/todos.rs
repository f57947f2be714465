//! The list: a table, the query that shows it, and the edits of it. This is all that an application writes to have its
//! data synced; everything else in this example draws.
//!
//! Invariant: the rows are the truth. Nothing is kept beside them, so what others do shows like what is done here.

use lakesync_client::{ClientError, LocalDb, QueryWatch, SqlValue};
use lakesync_proto::{SchemaError, TableDefinition, TableSchema, Value};

pub const TABLE: &str = r#"{"table": "todos", "columns": [
    {"name": "title", "type": "string"}, {"name": "done", "type": "boolean"}, {"name": "place", "type": "number"}
]}"#;

const QUERY: &str = "SELECT row_id, title, done, place FROM todos ORDER BY place, row_id";

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
pub struct Todo {
    pub row_id: String,
    pub title: String,
    pub done: bool,
    /// Where it stands: between its neighbours' places.
    pub place: f64,
}

/// The list in a database.
#[derive(Clone, Debug)]
pub struct Todos {
    db: LocalDb,
}

impl Todos {
    pub fn new(db: LocalDb) -> Result<Todos, Box<dyn std::error::Error>> {
        db.register(&schema()?)?;
        Ok(Todos { db })
    }

    pub fn db(&self) -> &LocalDb {
        &self.db
    }

    pub fn watch(&self) -> Result<QueryWatch, ClientError> {
        self.db.watch_query(QUERY, &[])
    }

    pub fn list(&self) -> Result<Vec<Todo>, ClientError> {
        Ok(read(self.db.query(QUERY, [])?.rows))
    }

    /// Adds one at the end.
    pub fn add(&self, title: &str) -> Result<(), ClientError> {
        // Plain SQL or typed writes, whichever is at hand: both are captured. Two who add at once get one place, and the
        // row ids decide.
        self.db.execute(
            "INSERT INTO todos (title, done, place) SELECT ?1, 0, coalesce(max(place), 0.0) + 1.0 FROM todos",
            [title],
        )?;
        Ok(())
    }

    pub fn set_done(&self, todo: &Todo, done: bool) -> Result<(), ClientError> {
        self.db
            .update("todos", &todo.row_id, &[("done", Value::Boolean(done))])
    }

    pub fn rename(&self, todo: &Todo, title: &str) -> Result<(), ClientError> {
        self.db
            .update("todos", &todo.row_id, &[("title", Value::from(title))])
    }

    pub fn delete(&self, todo: &Todo) -> Result<(), ClientError> {
        self.db.delete("todos", &todo.row_id)
    }

    /// Moves the one at `from` to where `to` is: one cell of one row changes, however long the list.
    pub fn shift(&self, list: &[Todo], from: usize, to: usize) -> Result<(), ClientError> {
        let place = |at: usize| list.get(at).map(|todo| todo.place);
        let (before, after) = match to > from {
            true => (place(to), place(to + 1)),
            false => (to.checked_sub(1).and_then(place), place(to)),
        };
        let place = match (before, after) {
            (Some(before), Some(after)) => f64::midpoint(before, after),
            (Some(before), None) => before + 1.0,
            (None, Some(after)) => after - 1.0,
            (None, None) => return Ok(()),
        };
        let row_id = &list[from].row_id;
        self.db
            .update("todos", row_id, &[("place", Value::Number(place))])
    }
}

pub fn schema() -> Result<TableSchema, SchemaError> {
    TableSchema::from_definition(&TableDefinition::from_json(TABLE.as_bytes())?)
}

/// The rows of [`QUERY`].
pub fn read(rows: Vec<Vec<SqlValue>>) -> Vec<Todo> {
    let todos = rows.into_iter().map(|row| {
        let mut values = row.into_iter();
        let mut text = || match values.next() {
            Some(SqlValue::Text(text)) => text,
            _ => String::new(),
        };
        let (row_id, title) = (text(), text());
        Todo {
            row_id,
            title,
            done: values.next() == Some(SqlValue::Integer(1)),
            place: match values.next() {
                Some(SqlValue::Real(place)) => place,
                _ => 0.0,
            },
        }
    });
    todos.collect()
}
