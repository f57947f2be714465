//! Which filters may be checked against the bounds of a file or row group.
//!
//! DataFusion 53.1 checks `cast(c) < x` by casting the bounds of `c`. That is right for casts that keep the order of
//! values and wrong for others: all of a day's times lie between those of two evenings, and `true` is both of −1 and 1. So
//! a filter with such a cast is kept from the Parquet reader; the filter above the scan applies it.
//!
//! **Invariant:** in a filter that is let through every cast keeps order: what lies between two values lies, cast, between
//! theirs.

use std::sync::Arc;

use arrow::datatypes::{DataType, Schema};
use datafusion::common::tree_node::{TreeNode as _, TreeNodeRecursion};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{CastExpr, TryCastExpr};
use datafusion::physical_expr::utils::collect_columns;

/// Whether bounds of columns of `schema` may decide the filter.
pub(super) fn bounds_decide(filter: &Arc<dyn PhysicalExpr>, schema: &Schema) -> bool {
    let mut decide = true;
    let walked = filter.apply(|node| {
        let any = node.as_any();
        let cast = match (any.downcast_ref(), any.downcast_ref()) {
            (Some(cast), _) => Some((CastExpr::expr(cast), CastExpr::cast_type(cast))),
            (_, Some(cast)) => Some((TryCastExpr::expr(cast), TryCastExpr::cast_type(cast))),
            _ => None,
        };
        // Of a value of the query's own, every row has the same.
        if let Some((from, to)) = cast
            && !collect_columns(from).is_empty()
        {
            decide &= keeps_order(&from.data_type(schema)?, to);
        }
        Ok(match decide {
            true => TreeNodeRecursion::Continue,
            false => TreeNodeRecursion::Stop,
        })
    });
    walked.is_ok() && decide
}

/// Whether a cast keeps the order of values, where it gives any.
fn keeps_order(from: &DataType, to: &DataType) -> bool {
    use DataType::{Boolean, Date32, Date64, Int32, Int64, Timestamp};
    if from == to {
        return true;
    }
    match (from, to) {
        (Boolean, to) => to.is_numeric(),
        // The same moments, shown elsewhere.
        (Timestamp(_, Some(_)), Timestamp(_, Some(_))) => true,
        (from, to) if is_moment(from) && is_moment(to) => true,
        (Timestamp(..) | Date32 | Date64, Int32 | Int64) => true,
        (Int32 | Int64, Timestamp(..) | Date32 | Date64) => true,
        (from, to) => (from.is_numeric() && to.is_numeric()) || (is_text(from) && is_text(to)),
    }
}

/// Dates, and times of a clock that is never turned back: in a zone with summer time an hour comes twice.
fn is_moment(data_type: &DataType) -> bool {
    match data_type {
        DataType::Date32 | DataType::Date64 | DataType::Timestamp(_, None) => true,
        DataType::Timestamp(_, Some(zone)) => {
            matches!(zone.as_ref(), "UTC" | "Z") || zone.starts_with(['+', '-'])
        }
        _ => false,
    }
}

fn is_text(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View
    )
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{Field, TimeUnit};
    use datafusion::common::DFSchema;
    use datafusion::prelude::SessionContext;

    use super::*;

    fn micros(zone: Option<&str>) -> DataType {
        DataType::Timestamp(TimeUnit::Microsecond, zone.map(Into::into))
    }

    #[test]
    fn casts_that_keep_the_order_of_values_are_known_and_no_others() {
        let berlin = || micros(Some("Europe/Berlin"));
        let utc = || micros(Some("+00:00"));
        for (from, to) in [
            (DataType::Int32, DataType::Int64),
            (DataType::Int64, DataType::Float64),
            (DataType::Float64, DataType::Decimal128(20, 2)),
            (DataType::Boolean, DataType::Int64),
            (utc(), berlin()),
            (utc(), micros(None)),
            (utc(), DataType::Date32),
            (DataType::Date32, micros(None)),
            (DataType::Utf8, DataType::Utf8View),
            (utc(), DataType::Int64),
        ] {
            assert!(keeps_order(&from, &to), "{from} to {to}");
        }
        let time = DataType::Time64(TimeUnit::Microsecond);
        for (from, to) in [
            (utc(), time.clone()),
            (micros(None), time),
            (DataType::Int64, DataType::Boolean),
            (berlin(), micros(None)),
            (micros(None), berlin()),
            (berlin(), DataType::Date32),
            (DataType::Utf8, DataType::Int64),
            (DataType::Int64, DataType::Utf8),
            (DataType::Int64, DataType::Binary),
        ] {
            assert!(!keeps_order(&from, &to), "{from} to {to}");
        }
    }

    #[test]
    fn a_cast_is_found_however_deep_in_a_filter() {
        let schema = Schema::new(vec![
            Field::new("at", micros(Some("+00:00")), true),
            Field::new("v", DataType::Int64, true),
        ]);
        let ctx = SessionContext::new();
        let named = DFSchema::try_from(schema.clone()).unwrap();
        for (sql, decide) in [
            ("v > 3 and at > '2024-01-01T00:00:00Z'", true),
            ("v > 3.5 or cast(at as date) = date '2024-01-01'", true),
            (
                "v > 3 and (v < 2 or cast(at as time) > time '12:00:00')",
                false,
            ),
            ("cast(v as boolean)", false),
            ("v in (1, 2) and not try_cast(v as boolean)", false),
        ] {
            let filter = ctx.parse_sql_expr(sql, &named).unwrap();
            let filter = ctx.create_physical_expr(filter, &named).unwrap();
            assert_eq!(bounds_decide(&filter, &schema), decide, "{sql}");
        }
    }
}
