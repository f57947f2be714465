//! How large the result of a function will be, from its arguments: an upper bound in bytes, before it runs.
//!
//! **Invariant:** no estimate allocates more than a few bytes a row, and none is below what the function then allocates
//! for its values.

use arrow::array::{Array as _, ArrayRef, AsArray as _};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type, IntervalMonthDayNanoType, TimeUnit};
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::logical_expr::ColumnarValue;

/// The arguments of one call and how many rows they are for.
pub(crate) struct Call<'a> {
    pub(crate) args: &'a [ColumnarValue],
    pub(crate) rows: usize,
}

/// An upper bound of the bytes of a call's result.
pub(crate) type Growth = fn(&Call<'_>) -> Result<u128>;

/// Nanoseconds of a day, the shortest that a month may have, and the days of the shortest month.
const DAY_NS: i128 = 86_400_000_000_000;
const MONTH_DAYS: i128 = 28;
/// What an element of a list may take beside its value: an offset and an index to take it from.
const ELEMENT_BYTES: u128 = 16;
/// The bytes of the longest character.
const CHARACTER_BYTES: u128 = 4;

impl Call<'_> {
    fn sum(&self, row: impl Fn(usize) -> u128) -> u128 {
        (0..self.rows).fold(0, |sum, index| sum.saturating_add(row(index)))
    }

    fn sizes(&self, index: usize) -> Result<Column<u128>> {
        match self.args.get(index) {
            None => Ok(Column::Same(0)),
            Some(ColumnarValue::Scalar(value)) => Ok(Column::Same(size_of(value)?)),
            Some(ColumnarValue::Array(array)) => Ok(Column::Each(sizes(array)?)),
        }
    }

    /// The numbers of an argument, `missing` where there is no such argument; a null is none.
    fn numbers(&self, index: usize, missing: i64) -> Result<Column<Option<i128>>> {
        Ok(match self.args.get(index) {
            None => Column::Same(Some(missing.into())),
            Some(ColumnarValue::Scalar(value)) => {
                Column::Same(numbers(&value.to_array()?)?.pop().flatten())
            }
            Some(ColumnarValue::Array(array)) => Column::Each(numbers(array)?),
        })
    }

    fn counts(&self, index: usize) -> Result<impl Fn(usize) -> u128> {
        let numbers = self.numbers(index, 0)?;
        Ok(move |row| u128::try_from(numbers.at(row).unwrap_or(0)).unwrap_or(0))
    }
}

/// A value a row, or one for all.
enum Column<T> {
    Same(T),
    Each(Vec<T>),
}

impl<T: Copy> Column<T> {
    fn at(&self, row: usize) -> T {
        match self {
            Self::Same(value) => *value,
            Self::Each(values) => values[row],
        }
    }
}

fn size_of(value: &ScalarValue) -> Result<u128> {
    Ok(match value {
        ScalarValue::Utf8(text) | ScalarValue::LargeUtf8(text) | ScalarValue::Utf8View(text) => {
            wide(text.as_ref().map_or(0, String::len))
        }
        value => sizes(&value.to_array()?)?.pop().unwrap_or(0),
    })
}

fn sizes(array: &ArrayRef) -> Result<Vec<u128>> {
    let text = |sizes: Vec<usize>| sizes.into_iter().map(wide).collect();
    Ok(match array.data_type() {
        DataType::Utf8 => text(lengths(array.as_string::<i32>().iter())),
        DataType::LargeUtf8 => text(lengths(array.as_string::<i64>().iter())),
        DataType::Utf8View => text(lengths(array.as_string_view().iter())),
        kind if kind.is_primitive() => {
            let width = kind.primitive_width().map_or(ELEMENT_BYTES, wide);
            vec![width; array.len()]
        }
        _ => {
            let sizes = (0..array.len()).map(|row| {
                let slice = array.slice(row, 1).to_data();
                slice.get_slice_memory_size().map(wide)
            });
            sizes.collect::<Result<_, _>>()?
        }
    })
}

fn lengths<'a>(texts: impl Iterator<Item = Option<&'a str>>) -> Vec<usize> {
    texts.map(|text| text.map_or(0, str::len)).collect()
}

/// Integers, days, or nanoseconds of moments.
fn numbers(array: &ArrayRef) -> Result<Vec<Option<i128>>> {
    let (array, unit) = match array.data_type() {
        DataType::Date32 => (cast(array, &DataType::Int32)?, 1),
        DataType::Date64 => (cast(&cast(array, &DataType::Date32)?, &DataType::Int32)?, 1),
        DataType::Timestamp(unit, _) => (
            cast(array, &DataType::Int64)?,
            match unit {
                TimeUnit::Second => 1_000_000_000,
                TimeUnit::Millisecond => 1_000_000,
                TimeUnit::Microsecond => 1000,
                TimeUnit::Nanosecond => 1,
            },
        ),
        _ => (ArrayRef::clone(array), 1),
    };
    let array = cast(&array, &DataType::Int64)?;
    let numbers = array.as_primitive::<Int64Type>().iter();
    Ok(numbers
        .map(|number| number.map(|number| i128::from(number) * unit))
        .collect())
}

fn wide(bytes: usize) -> u128 {
    bytes.try_into().expect("128 bits hold a length")
}

/// `repeat(text, count)`.
pub(crate) fn repeat(call: &Call<'_>) -> Result<u128> {
    let (sizes, counts) = (call.sizes(0)?, call.counts(1)?);
    Ok(call.sum(|row| sizes.at(row).saturating_mul(counts(row))))
}

/// `lpad(text, characters[, fill])`: a text that is longer is cut, so its own length does not count.
pub(crate) fn pad(call: &Call<'_>) -> Result<u128> {
    let counts = call.counts(1)?;
    Ok(call.sum(|row| counts(row).saturating_mul(CHARACTER_BYTES)))
}

/// `array_repeat(element, count)`.
pub(crate) fn array_repeat(call: &Call<'_>) -> Result<u128> {
    let (sizes, counts) = (call.sizes(0)?, call.counts(1)?);
    Ok(call.sum(|row| counts(row).saturating_mul(sizes.at(row) + ELEMENT_BYTES)))
}

/// `array_resize(list, count[, element])`.
pub(crate) fn array_resize(call: &Call<'_>) -> Result<u128> {
    let (lists, counts, sizes) = (call.sizes(0)?, call.counts(1)?, call.sizes(2)?);
    Ok(call.sum(|row| {
        let added = counts(row).saturating_mul(sizes.at(row) + ELEMENT_BYTES);
        added.saturating_add(lists.at(row))
    }))
}

/// `range([start, ]stop[, step])` and `generate_series`.
pub(crate) fn range(call: &Call<'_>) -> Result<u128> {
    let (first, last) = match call.args.len() {
        1 => (None, 0),
        _ => (Some(0), 1),
    };
    let starts = first.map_or(Ok(Column::Same(Some(0))), |index| call.numbers(index, 0))?;
    let stops = call.numbers(last, 0)?;
    let steps = steps(call)?;
    Ok(call.sum(|row| {
        let (Some(start), Some(stop), Some(step)) = (starts.at(row), stops.at(row), steps.at(row))
        else {
            return 0;
        };
        // A step of nothing is refused by the function itself; a range that leads away from its end is empty.
        if step == 0 || (stop != start && (stop > start) != (step > 0)) {
            return 0;
        }
        let count = stop.abs_diff(start) / step.unsigned_abs() + 2;
        count.saturating_mul(ELEMENT_BYTES)
    }))
}

/// The shortest that one step can be, in the unit of the range, by its sign.
fn steps(call: &Call<'_>) -> Result<Column<Option<i128>>> {
    let Some(step) = call.args.get(2) else {
        return Ok(Column::Same(Some(1)));
    };
    if !matches!(step.data_type(), DataType::Interval(_)) {
        return call.numbers(2, 1);
    }
    let days = matches!(
        call.args[0].data_type(),
        DataType::Date32 | DataType::Date64
    );
    let array = match step {
        ColumnarValue::Scalar(value) => value.to_array()?,
        ColumnarValue::Array(array) => ArrayRef::clone(array),
    };
    let array = cast(
        &array,
        &DataType::Interval(arrow::datatypes::IntervalUnit::MonthDayNano),
    )?;
    let steps = array.as_primitive::<IntervalMonthDayNanoType>().iter();
    let steps = steps.map(|step| step.map(|step| shortest(step, days)).transpose());
    let mut steps = steps.collect::<Result<Vec<_>>>()?;
    Ok(match step {
        ColumnarValue::Scalar(_) => Column::Same(steps.pop().flatten()),
        ColumnarValue::Array(_) => Column::Each(steps),
    })
}

fn shortest(step: arrow::datatypes::IntervalMonthDayNano, days: bool) -> Result<i128> {
    let parts = [
        i128::from(step.months),
        step.days.into(),
        step.nanoseconds.into(),
    ];
    if parts.iter().any(|part| *part < 0) && parts.iter().any(|part| *part > 0) {
        // Such a step may lead forwards in one month and backwards in another, and never arrive.
        return plan_err!(
            "the step of a range has parts forwards and backwards; give months, days and time the same sign"
        );
    }
    let whole = parts[0] * MONTH_DAYS + parts[1];
    Ok(match days {
        true => whole,
        // A day on which clocks are put forward has 23 hours.
        false => whole * (DAY_NS / 24 * 23) + parts[2],
    })
}

/// What only puts its arguments together: `concat`, `make_array`.
pub(crate) fn together(call: &Call<'_>) -> Result<u128> {
    let sizes = (0..call.args.len()).map(|index| call.sizes(index));
    let sizes = sizes.collect::<Result<Vec<_>>>()?;
    Ok(call.sum(|row| sizes.iter().map(|column| column.at(row)).sum()))
}

/// `concat_ws(separator, text, …)`.
pub(crate) fn concat_ws(call: &Call<'_>) -> Result<u128> {
    let separators = call.sizes(0)?;
    let between = wide(call.args.len());
    let own = call.sum(|row| separators.at(row).saturating_mul(between));
    Ok(together(call)?.saturating_add(own))
}

/// `replace(text, from, to)`.
pub(crate) fn replace(call: &Call<'_>) -> Result<u128> {
    let (texts, from, to) = (call.sizes(0)?, call.sizes(1)?, call.sizes(2)?);
    Ok(call.sum(|row| {
        let places = texts.at(row) / from.at(row).max(1) + 1;
        places
            .saturating_mul(to.at(row))
            .saturating_add(texts.at(row))
    }))
}

/// `regexp_replace(text, pattern, to[, flags])`: once, or with the flag `g` at every place, where `\1` may be all of it.
pub(crate) fn regexp_replace(call: &Call<'_>) -> Result<u128> {
    let (texts, to) = (call.sizes(0)?, call.sizes(2)?);
    let once = call.args.len() < 4;
    Ok(call.sum(|row| {
        let (text, to) = (texts.at(row), to.at(row));
        let captured = (to / 2).saturating_mul(text);
        let places = if once { 1 } else { text + 1 };
        places
            .saturating_mul(to)
            .saturating_add(captured)
            .saturating_add(text)
    }))
}

/// `array_to_string(list, delimiter[, null])`: a number takes at most some dozen characters.
pub(crate) fn array_to_string(call: &Call<'_>) -> Result<u128> {
    const ELEMENT_TEXT: u128 = 4;
    let (lists, between, null) = (call.sizes(0)?, call.sizes(1)?, call.sizes(2)?);
    Ok(call.sum(|row| {
        // An element takes a byte at least in its list, or a bit.
        let elements = lists.at(row);
        let each = between.at(row) + null.at(row) + ELEMENT_TEXT;
        elements.saturating_mul(each)
    }))
}
