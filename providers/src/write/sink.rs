//! DataFusion's side of a statement that writes: a plan's rows become row writes.
//!
//! **Invariant:** no row is written twice by one statement, and an error names the row, the column and the value.

use std::any::Any;
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, AsArray, StringArray};
use arrow::datatypes::{DataType, Int64Type, SchemaRef};
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use datafusion::common::Result as QueryResult;
use datafusion::common::exec_datafusion_err;
use datafusion::datasource::sink::DataSink;
use datafusion::error::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::{DisplayAs, DisplayFormatType};
use futures::TryStreamExt;
use lakesync_proto::{ColumnChange, ColumnName, Op, RowId, Value};

use super::convert::{Converted, shown};
use super::target::{Action, Assigned, CLAUSE, Columns, InsertAction, ROW, Repeats, WritePlan};
use super::{
    RowWrite, STATEMENT_BYTES_MAX, STATEMENT_ROWS_MAX, StatementWrites, Verb, WriteError, WriteSink,
};
use crate::error::Error;
use crate::view::ReadView;

/// What takes the rows of a statement's plan.
pub(super) struct StatementSink {
    pub(super) view: Arc<ReadView>,
    pub(super) columns: Columns,
    pub(super) sink: Arc<dyn WriteSink>,
    pub(super) plan: WritePlan,
    pub(super) input: SchemaRef,
}

impl fmt::Debug for StatementSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}Sink({})", self.plan.verb, self.view.table())
    }
}

impl DisplayAs for StatementSink {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: table={}, writes=[{}], view_seq={}",
            self.plan.verb,
            self.view.table(),
            self.plan,
            self.view.seq
        )
    }
}

#[async_trait]
impl DataSink for StatementSink {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn schema(&self) -> &SchemaRef {
        &self.input
    }

    async fn write_all(
        &self,
        mut data: SendableRecordBatchStream,
        _context: &Arc<TaskContext>,
    ) -> QueryResult<u64> {
        let mut gathered = Gathered::new(&self.plan, &self.columns);
        while let Some(batch) = data.try_next().await? {
            gathered.add(&batch)?;
        }
        if gathered.rows.is_empty() {
            return Ok(0);
        }
        let writes = StatementWrites {
            verb: self.plan.verb,
            view: Arc::clone(&self.view),
            rows: gathered.rows,
        };
        let written = self.sink.write(writes).await;
        written.map_err(|error| DataFusionError::External(Box::new(error)))
    }
}

/// The rows of a statement as they come in.
struct Gathered<'a> {
    plan: &'a WritePlan,
    columns: &'a Columns,
    rows: Vec<RowWrite>,
    bytes: usize,
    /// The rows that the statement has touched.
    touched: HashSet<RowId>,
    /// How many rows of the plan came before the batch.
    read: usize,
    room: Room,
}

/// How much one statement may write.
#[derive(Clone, Copy, Debug)]
struct Room {
    rows: usize,
    bytes: usize,
}

/// A batch of the plan, made ready for each action.
struct Batch<'a> {
    batch: &'a RecordBatch,
    /// The rows that it names, when it names any.
    ids: Option<StringArray>,
    actions: Vec<Ready>,
}

/// What an action needs of a batch.
#[derive(Default)]
struct Ready {
    /// The values of the columns that it sets.
    converted: Vec<Converted>,
    /// The row ids that it gives to new rows.
    given: Option<StringArray>,
    /// The columns of a new row that the statement does not speak of.
    missing: Vec<ColumnName>,
}

impl<'a> Gathered<'a> {
    fn new(plan: &'a WritePlan, columns: &'a Columns) -> Self {
        Self {
            plan,
            columns,
            rows: Vec::new(),
            bytes: 0,
            touched: HashSet::new(),
            read: 0,
            room: Room {
                rows: STATEMENT_ROWS_MAX,
                bytes: STATEMENT_BYTES_MAX,
            },
        }
    }

    fn add(&mut self, batch: &RecordBatch) -> QueryResult<()> {
        let batch = self.converted(batch)?;
        let merge = self.plan.verb == Verb::Merge;
        let clauses = merge.then(|| batch.batch.column(CLAUSE).as_primitive::<Int64Type>());
        let plan = self.plan;
        for row in 0..batch.batch.num_rows() {
            let nth = match clauses {
                None => Some(0),
                Some(clauses) if clauses.is_null(row) => None,
                Some(clauses) => usize::try_from(clauses.value(row)).ok(),
            };
            if let Some((nth, action)) = nth.and_then(|nth| Some((nth, plan.actions.get(nth)?))) {
                self.row(&batch, row, (nth, action))?;
            }
        }
        self.read += batch.batch.num_rows();
        Ok(())
    }

    /// Converts the columns of a batch; the first value that does not fit ends the statement.
    fn converted<'b>(&self, batch: &'b RecordBatch) -> QueryResult<Batch<'b>> {
        let ids = match self.plan.verb {
            Verb::Insert => None,
            _ => Some(texts(batch, ROW)?),
        };
        let mut found = Batch {
            batch,
            ids,
            actions: Vec::new(),
        };
        for action in &self.plan.actions {
            let mut ready = match action {
                Action::Insert(insert) => self.for_new_rows(batch, insert)?,
                Action::Update(_) | Action::Delete => Ready::default(),
            };
            for assigned in action.assigned() {
                let stored = self.columns.of(&assigned.column)?;
                let array = batch.column(assigned.input);
                let converted = Converted::of(array, stored)?.map_err(|row| {
                    let (value, column_type) = (shown(array.as_ref(), row), stored.0);
                    let reason = format!("`{value}` cannot be stored as {column_type}");
                    self.refused(&found, row, (assigned, &reason))
                })?;
                ready.converted.push(converted);
            }
            found.actions.push(ready);
        }
        Ok(found)
    }

    fn for_new_rows(&self, batch: &RecordBatch, insert: &InsertAction) -> QueryResult<Ready> {
        let is_given = |name: &ColumnName| {
            let mut given = insert.columns.iter();
            given.any(|assigned| assigned.column == *name)
        };
        let names = self
            .columns
            .schema
            .columns
            .iter()
            .map(|column| &column.name);
        Ok(Ready {
            converted: Vec::new(),
            given: insert.row_id.map(|at| texts(batch, at)).transpose()?,
            missing: names.filter(|name| !is_given(name)).cloned().collect(),
        })
    }

    fn row(
        &mut self,
        batch: &Batch<'_>,
        row: usize,
        (nth, action): (usize, &Action),
    ) -> QueryResult<()> {
        let write = match action {
            Action::Insert(insert) => self.new_row(batch, row, (nth, insert))?,
            Action::Update(columns) => {
                let id = batch.id(row)?;
                self.once(&id)?;
                Some(RowWrite {
                    op: Op::Update,
                    row_id: Some(id),
                    columns: self.changes(batch, row, (nth, columns))?,
                })
            }
            Action::Delete => {
                let id = batch.id(row)?;
                let first = match self.plan.verb {
                    // It is gone, however many rows of USING match it.
                    Verb::Delete => self.touched.insert(id.clone()),
                    _ => self.once(&id).map(|()| true)?,
                };
                first.then(|| RowWrite {
                    op: Op::Delete,
                    row_id: Some(id),
                    columns: Vec::new(),
                })
            }
        };
        let Some(write) = write else {
            return Ok(());
        };
        let columns = write.columns.iter();
        let values: usize = columns
            .map(|change| size_of::<ColumnChange>() + change.value.bytes())
            .sum();
        self.bytes += values + write.row_id.as_ref().map_or(0, |id| id.as_str().len());
        self.rows.push(write);
        self.check_room()
    }

    /// A new row; none when one of its id was there before and the statement wants the first.
    fn new_row(
        &mut self,
        batch: &Batch<'_>,
        row: usize,
        (nth, insert): (usize, &InsertAction),
    ) -> QueryResult<Option<RowWrite>> {
        let mut columns = self.changes(batch, row, (nth, &insert.columns))?;
        let ready = &batch.actions[nth];
        columns.extend(ready.missing.iter().map(|column| ColumnChange {
            column: column.clone(),
            value: Value::Null,
        }));
        let given = ready.given.as_ref().filter(|ids| !ids.is_null(row));
        let given = given.map(|ids| ids.value(row)).filter(|id| !id.is_empty());
        let row_id = given.map(row_id).transpose()?;
        if insert.repeats == Repeats::First {
            let value = |name: &str| {
                let change = columns.iter().find(|change| change.column.as_str() == name);
                change.map(|change| change.value.clone())
            };
            let key = self.columns.schema.row_id(&value).ok().flatten();
            if let Some(id) = key.or_else(|| row_id.clone())
                && !self.touched.insert(id)
            {
                return Ok(None);
            }
        }
        Ok(Some(RowWrite {
            op: Op::Insert,
            row_id,
            columns,
        }))
    }

    fn changes(
        &self,
        batch: &Batch<'_>,
        row: usize,
        (nth, columns): (usize, &[Assigned]),
    ) -> QueryResult<Vec<ColumnChange>> {
        let pairs = columns.iter().zip(&batch.actions[nth].converted);
        pairs
            .map(|(assigned, converted)| {
                let value = converted.value(row)?;
                Ok(ColumnChange {
                    column: assigned.column.clone(),
                    value: value.map_err(|reason| self.refused(batch, row, (assigned, &reason)))?,
                })
            })
            .collect()
    }

    /// Refuses a row that the statement has touched before.
    fn once(&mut self, id: &RowId) -> QueryResult<()> {
        if self.touched.insert(id.clone()) {
            return Ok(());
        }
        let table = &self.columns.schema.table;
        Err(refused(match self.plan.verb {
            Verb::Merge => format!(
                "row `{id}` of `{table}` is matched by more than one row of the source, and a MERGE changes a row once; \
                 make the source unique in what ON compares"
            ),
            verb => format!(
                "row `{id}` of `{table}` is matched by more than one row of FROM, so the {verb} has more than one value \
                 for it; make FROM unique, or aggregate it"
            ),
        }))
    }

    fn check_room(&self) -> QueryResult<()> {
        let (table, verb) = (&self.columns.schema.table, self.plan.verb);
        let split = match verb {
            Verb::Insert => "split it, or load the file with `lakesync push`",
            _ => "split it by a range of the key in WHERE",
        };
        let Room { rows, bytes } = self.room;
        if self.rows.len() > rows {
            return Err(refused(format!(
                "one {verb} may write {rows} rows of `{table}`, this one writes more; {split}"
            )));
        }
        if self.bytes > bytes {
            return Err(refused(format!(
                "one {verb} may write {bytes} bytes of values to `{table}`, this one writes more; {split}"
            )));
        }
        Ok(())
    }

    /// The error of a value.
    fn refused(
        &self,
        batch: &Batch<'_>,
        row: usize,
        (assigned, reason): (&Assigned, &str),
    ) -> DataFusionError {
        let id = batch.ids.as_ref().filter(|ids| !ids.is_null(row));
        let place = match id {
            Some(ids) => format!(
                "row `{}` of `{}`",
                ids.value(row),
                self.columns.schema.table
            ),
            None => format!("row {} of the {}", self.read + row + 1, self.plan.verb),
        };
        refused(format!("{place}, column `{}`: {reason}", assigned.column))
    }
}

impl Batch<'_> {
    fn id(&self, row: usize) -> QueryResult<RowId> {
        let ids = self.ids.as_ref().filter(|ids| !ids.is_null(row));
        let ids = ids.ok_or_else(|| exec_datafusion_err!("a row to write has no row id"))?;
        row_id(ids.value(row))
    }
}

fn row_id(text: &str) -> QueryResult<RowId> {
    let reason = |error: lakesync_proto::IdError| Error::RowId {
        reason: error.to_string(),
    };
    Ok(RowId::parse(text).map_err(reason)?)
}

/// A column of texts, whatever layout the plan gives it.
fn texts(batch: &RecordBatch, at: usize) -> QueryResult<StringArray> {
    let texts = arrow::compute::cast(batch.column(at), &DataType::Utf8)?;
    Ok(texts.as_string::<i32>().clone())
}

fn refused(reason: String) -> DataFusionError {
    DataFusionError::External(Box::new(WriteError::Refused { reason }))
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Int64Array};
    use arrow::datatypes::{Field, Schema};
    use lakesync_proto::{ColumnName, TableDefinition, TableSchema};

    use super::*;

    /// A table without a key whose column `v` has this type.
    fn columns(column_type: &str, stored: DataType) -> Columns {
        let definition =
            format!(r#"{{"table": "t", "columns": [{{"name": "v", "type": "{column_type}"}}]}}"#);
        let definition = TableDefinition::from_json(definition.as_bytes()).unwrap();
        let fields = vec![Field::new("v", stored, true)];
        Columns {
            schema: Arc::new(TableSchema::from_definition(&definition).unwrap()),
            arrow: Arc::new(Schema::new(fields)),
        }
    }

    fn v(input: usize) -> Vec<Assigned> {
        let column = ColumnName::parse("v").unwrap();
        vec![Assigned { column, input }]
    }

    fn gather(
        plan: &WritePlan,
        columns: &Columns,
        batches: &[RecordBatch],
    ) -> Result<Vec<RowWrite>, String> {
        let mut gathered = Gathered::new(plan, columns);
        for batch in batches {
            let added = gathered.add(batch);
            added.map_err(|error| error.to_string())?;
        }
        Ok(gathered.rows)
    }

    fn batch<const N: usize>(arrays: [ArrayRef; N]) -> RecordBatch {
        let names = ["a", "b", "c", "d"];
        RecordBatch::try_from_iter(names.into_iter().zip(arrays)).unwrap()
    }

    fn texts(texts: &[Option<&str>]) -> ArrayRef {
        Arc::new(StringArray::from(texts.to_vec()))
    }

    fn insert_json(cells: &[Option<&str>]) -> Result<Vec<Value>, String> {
        let insert = InsertAction {
            row_id: None,
            columns: v(0),
            repeats: Repeats::Refused,
        };
        let columns = columns("json", DataType::Utf8);
        let rows = gather(
            &WritePlan::insert(insert),
            &columns,
            &[batch([texts(cells)])],
        )?;
        let changes = rows.into_iter().flat_map(|row| row.columns);
        Ok(changes.map(|change| change.value).collect())
    }

    #[test]
    fn json_is_taken_as_people_write_it_and_kept_in_normal_form() {
        let cells = [Some(r#"{ "b": 1.0, "a": [ ] }"#), Some("null"), None];
        let normal = Value::Json(r#"{"a":[],"b":1}"#.to_owned());
        assert_eq!(
            insert_json(&cells).unwrap(),
            [normal, Value::Null, Value::Null]
        );
    }

    #[test]
    fn text_that_is_no_json_is_refused_by_row_and_column() {
        let error = insert_json(&[Some("{}"), Some("{oops")]).unwrap_err();
        assert!(
            error.contains("row 2 of the INSERT, column `v`") && error.contains("oops"),
            "{error}"
        );
    }

    #[test]
    fn an_update_names_the_row_and_the_value_that_does_not_fit() {
        let columns = columns("long", DataType::Int64);
        let plan = WritePlan::update(v(1));
        let rows = |second| {
            batch([
                texts(&[Some("r1"), Some("r2")]),
                texts(&[Some("7"), second]),
            ])
        };
        let written = gather(&plan, &columns, &[rows(None)]).unwrap();
        let values = written.iter().map(|row| row.columns[0].value.clone());
        assert_eq!(values.collect::<Vec<_>>(), [Value::Long(7), Value::Null]);
        let error = gather(&plan, &columns, &[rows(Some("x"))]).unwrap_err();
        assert!(
            error.contains("row `r2` of `t`, column `v`: `x` cannot be stored as long"),
            "{error}"
        );
    }

    #[test]
    fn a_row_is_updated_once_and_deleted_as_often_as_it_is_named() {
        let columns = columns("long", DataType::Int64);
        let ids = || texts(&[Some("r1"), Some("r1")]);
        let values: ArrayRef = Arc::new(Int64Array::from(vec![1, 1]));
        let updated = gather(
            &WritePlan::update(v(1)),
            &columns,
            &[batch([ids(), Arc::clone(&values)])],
        );
        assert!(updated.unwrap_err().contains("row `r1` of `t` is matched"));
        let deleted = gather(
            &WritePlan::delete(),
            &columns,
            &[batch([ids()]), batch([ids()])],
        );
        assert_eq!(deleted.unwrap().len(), 1);
        let merged = gather(
            &WritePlan::merge(vec![Action::Delete]),
            &columns,
            &[batch([ids(), Arc::new(Int64Array::from(vec![0, 0]))])],
        );
        assert!(
            merged
                .unwrap_err()
                .contains("more than one row of the source")
        );
    }

    #[test]
    fn a_statement_that_writes_more_than_there_is_room_for_says_what_to_do() {
        let columns = columns("long", DataType::Int64);
        let plan = WritePlan::delete();
        let mut gathered = Gathered::new(&plan, &columns);
        gathered.room = Room { rows: 2, bytes: 4 };
        let two = batch([texts(&[Some("r1"), Some("r2")])]);
        gathered.add(&two).unwrap();
        let error = gathered.add(&batch([texts(&[Some("r3")])])).unwrap_err();
        let said = "one DELETE may write 2 rows of `t`, this one writes more; split it by a range of the key";
        assert!(error.to_string().contains(said), "{error}");
        let mut gathered = Gathered::new(&plan, &columns);
        gathered.room = Room { rows: 2, bytes: 4 };
        let error = gathered.add(&batch([texts(&[Some("a row")])])).unwrap_err();
        assert!(error.to_string().contains("may write 4 bytes"), "{error}");
    }

    #[test]
    fn a_row_without_a_clause_is_left_alone() {
        let columns = columns("long", DataType::Int64);
        let clauses = Int64Array::from(vec![None, Some(-1), Some(9), Some(1)]);
        let ids = texts(&[Some("a"), Some("b"), Some("c"), Some("d")]);
        let values: ArrayRef = Arc::new(Int64Array::from(vec![4, 4, 4, 4]));
        let plan = WritePlan::merge(vec![Action::Delete, Action::Update(v(2))]);
        let rows = gather(&plan, &columns, &[batch([ids, Arc::new(clauses), values])]).unwrap();
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0].row_id.as_ref().unwrap().as_str(), "d");
        assert_eq!(rows[0].op, Op::Update);
    }
}
