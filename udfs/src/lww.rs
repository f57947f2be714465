//! `lww(value, stamp)`: the value of the write with the greatest stamp.
//!
//! A null value is a value (somebody wrote null); a null stamp is no write and is passed over. With
//! `filter (where is_set(_set, n))` it gives a column's last write out of the log.
//!
//! **Invariant:** the result depends on the set of (stamp, value) pairs only, never on row order,
//! partitioning or repetition: stamps are unique per write, and the greater one wins at every step.

use std::any::Any;
use std::mem::size_of_val;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, BinaryArray};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, ScalarValue, exec_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{
    Accumulator, AggregateUDFImpl, GroupsAccumulator, Signature, Volatility,
};

use crate::argument::as_type;
use crate::lww_groups::LwwGroups;

/// The aggregate function `lww`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Lww {
    signature: Signature,
}

impl Lww {
    pub(crate) fn new() -> Self {
        Self {
            signature: Signature::any(2, Volatility::Immutable),
        }
    }
}

impl AggregateUDFImpl for Lww {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn name(&self) -> &'static str {
        "lww"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        match arg_types {
            [
                value,
                DataType::Binary | DataType::LargeBinary | DataType::BinaryView,
            ] => Ok(value.clone()),
            _ => exec_err!(
                "lww(value, stamp) takes any value and a binary stamp; make one with stamp(_hlc, _client, _delta_id)"
            ),
        }
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(LwwAccumulator {
            stamp: None,
            value: ScalarValue::try_from(args.return_type())?,
        }))
    }

    fn groups_accumulator_supported(&self, _args: AccumulatorArgs<'_>) -> bool {
        true
    }

    fn create_groups_accumulator(
        &self,
        args: AccumulatorArgs<'_>,
    ) -> Result<Box<dyn GroupsAccumulator>> {
        Ok(Box::new(LwwGroups::new(args.return_type().clone())))
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        let value = args.return_field.data_type().clone();
        Ok(vec![
            Arc::new(Field::new(
                format!("{}_stamp", args.name),
                DataType::Binary,
                true,
            )),
            Arc::new(Field::new(format!("{}_value", args.name), value, true)),
        ])
    }
}

/// The winner so far: no stamp means that no write was seen.
#[derive(Debug)]
struct LwwAccumulator {
    stamp: Option<Vec<u8>>,
    value: ScalarValue,
}

impl LwwAccumulator {
    fn fold(&mut self, values: &ArrayRef, stamps: &ArrayRef) -> Result<()> {
        let stamps = as_type(stamps, &DataType::Binary)?;
        if let Some(row) = newest(stamps.as_binary::<i32>(), self.stamp.as_deref()) {
            self.stamp = Some(stamps.as_binary::<i32>().value(row).to_vec());
            self.value = ScalarValue::try_from_array(values, row)?;
            self.value.compact();
        }
        Ok(())
    }
}

/// The row with the greatest stamp, when it is above `held`.
fn newest(stamps: &BinaryArray, held: Option<&[u8]>) -> Option<usize> {
    let mut best = held;
    let mut at = None;
    for row in 0..stamps.len() {
        if !stamps.is_null(row) && best.is_none_or(|best| stamps.value(row) > best) {
            best = Some(stamps.value(row));
            at = Some(row);
        }
    }
    at
}

impl Accumulator for LwwAccumulator {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        match values {
            [values, stamps] => self.fold(values, stamps),
            _ => exec_err!("lww takes two arguments, got {}", values.len()),
        }
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        match states {
            [stamps, values] => self.fold(values, stamps),
            _ => exec_err!("a state of lww has two columns, got {}", states.len()),
        }
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![
            ScalarValue::Binary(self.stamp.clone()),
            self.value.clone(),
        ])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(self.value.clone())
    }

    fn size(&self) -> usize {
        let stamp = self.stamp.as_ref().map_or(0, Vec::capacity);
        size_of_val(self) + stamp + self.value.size() - size_of_val(&self.value)
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::util::pretty::pretty_format_batches;
    use datafusion::prelude::SessionContext;

    async fn check(values: &str, expected: &str) {
        let ctx = SessionContext::new();
        crate::register(&ctx);
        let sql = format!(
            "select k, lww(v, stamp(h, c, d)) as v from (values {values}) as w(k, v, h, c, d) group by k order by k"
        );
        let batches = ctx.sql(&sql).await.unwrap().collect().await.unwrap();
        let shown = pretty_format_batches(&batches).unwrap().to_string();
        let rows: Vec<String> = shown
            .lines()
            .skip(3)
            .filter(|l| !l.starts_with('+'))
            .map(|l| l.replace(' ', ""))
            .collect();
        assert_eq!(rows.join(""), expected, "{values}");
    }

    #[tokio::test]
    async fn the_greatest_stamp_wins_by_hlc_then_client_then_delta_id() {
        check(
            "('a',1,5,'x','00'),('a',2,7,'x','00'),('a',3,6,'x','00')",
            "|a|2|",
        )
        .await;
        check(
            "('a',1,5,'b','00'),('a',2,5,'ab','00'),('a',3,5,'a','00')",
            "|a|1|",
        )
        .await;
        check("('a',1,5,'a','01'),('a',2,5,'ab','00')", "|a|2|").await;
        check("('a',1,5,'a','01'),('a',2,5,'a','02')", "|a|2|").await;
    }

    #[tokio::test]
    async fn an_explicit_null_is_a_value_and_a_null_stamp_is_no_write() {
        check("('a',1,5,'x','00'),('a',null,7,'x','00')", "|a||").await;
        check("('a',1,5,'x','00'),('a',2,null,'x','00')", "|a|1|").await;
    }
}
