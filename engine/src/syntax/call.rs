//! `CALL system.procedure(…)`: a procedure's name and its literal arguments.
//!
//! Invariant: a [`Call`] holds everything that was written; what it cannot hold (an expression as argument, an
//! unknown or repeated name) is an error with the place in the SQL text, so no option is ever ignored.

use arrow::compute::kernels::cast_utils::{
    parse_interval_month_day_nano, string_to_timestamp_nanos,
};
use datafusion::sql::sqlparser::ast::{
    DataType, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgOperator, FunctionArguments,
    Interval, ObjectNamePart, Spanned, UnaryOperator, Value,
};

use super::error::{Position, SyntaxError, SyntaxErrorKind};
use super::lookup_name;

/// The schema that all procedures are in.
pub const PROCEDURE_SCHEMA: &str = "system";

/// One `CALL`.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// The schema of the procedure: always [`PROCEDURE_SCHEMA`].
    pub schema: String,
    /// The name of the procedure, in lower case unless it was quoted.
    pub procedure: String,
    /// The arguments in the order they were written; the named ones come after the others.
    pub arguments: Vec<CallArgument>,
    /// Where the procedure's name is.
    position: Option<Position>,
    /// Where each argument is.
    positions: Vec<Option<Position>>,
}

/// One argument of a [`Call`].
#[derive(Clone, Debug, PartialEq)]
pub struct CallArgument {
    /// The parameter's name, in lower case, when the argument was written as `name => value`.
    pub name: Option<String>,
    /// The value.
    pub value: CallValue,
}

/// A literal.
#[derive(Clone, Debug, PartialEq)]
pub enum CallValue {
    /// A string.
    String(String),
    /// A number, as it was written.
    Number(String),
    /// `true` or `false`.
    Bool(bool),
    /// `TIMESTAMP '…'`, and what is in the quotes.
    Timestamp(String),
    /// `INTERVAL '…'`, in whole milliseconds; a month has 30 days.
    Interval(i64),
    /// `ARRAY[…]` or `[…]`.
    List(Vec<CallValue>),
    /// `NULL`: means that the parameter has its default.
    Null,
}

/// A moment, or how long ago it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Milliseconds since 1970.
    At(i64),
    /// Milliseconds before now.
    Ago(u64),
}

/// The arguments of a [`Call`], each with the parameter it is for.
#[derive(Debug)]
pub struct Arguments<'a> {
    parameters: &'a [&'a str],
    call: &'a Call,
    /// For each parameter, the place of its argument.
    places: Vec<Option<usize>>,
}

impl Call {
    pub(super) fn from_function(function: Function) -> Result<Call, SyntaxError> {
        let at = Position::of(function.name.span());
        let (schema, procedure) = match function.name.0.as_slice() {
            [
                ObjectNamePart::Identifier(schema),
                ObjectNamePart::Identifier(procedure),
            ] => (lookup_name(schema), lookup_name(procedure)),
            _ => (String::new(), function.name.to_string()),
        };
        if schema != PROCEDURE_SCHEMA {
            return Err(wrong(
                format!("{} is not a procedure", function.name),
                format!("procedures are called as CALL {PROCEDURE_SCHEMA}.<name>(…)"),
            )
            .at(at));
        }
        let arguments = arguments_of(function).map_err(|error| error.or_at(at))?;
        let (arguments, positions) = arguments.into_iter().unzip();
        Ok(Call {
            schema,
            procedure,
            arguments,
            position: at,
            positions,
        })
    }

    /// A mistake in the call as a whole.
    pub(crate) fn refused(
        &self,
        message: impl Into<String>,
        next: impl Into<String>,
    ) -> SyntaxError {
        wrong(message, next).at(self.position)
    }

    /// Gives every argument to one of the procedure's `parameters`, by name or else by place.
    ///
    /// # Errors
    /// `Call` for an unknown name, for two values of one parameter, and for more values than parameters.
    pub fn bind<'a>(&'a self, parameters: &'a [&'a str]) -> Result<Arguments<'a>, SyntaxError> {
        let known = || format!("its parameters are {}", parameters.join(", "));
        let mut places: Vec<Option<usize>> = vec![None; parameters.len()];
        for (place, argument) in self.arguments.iter().enumerate() {
            let refused =
                |message: String, next: String| wrong(message, next).at(self.positions[place]);
            let index = match &argument.name {
                None => place,
                Some(name) => parameters
                    .iter()
                    .position(|parameter| parameter == name)
                    .ok_or_else(|| {
                        refused(
                            format!("{} has no parameter {name}", self.procedure),
                            known(),
                        )
                    })?,
            };
            let Some(slot) = places.get_mut(index) else {
                let most = match parameters.len() {
                    1 => "one argument".to_owned(),
                    count => format!("{count} arguments"),
                };
                let message = format!("{} takes at most {most}", self.procedure);
                return Err(refused(message, known()));
            };
            if slot.replace(place).is_some() {
                let message = format!("{} is given twice", parameters[index]);
                return Err(refused(message, "give it once".to_owned()));
            }
        }
        Ok(Arguments {
            parameters,
            call: self,
            places,
        })
    }
}

impl<'a> Arguments<'a> {
    /// The string given for a parameter; none when it is absent or NULL.
    ///
    /// # Errors
    /// `Call` when the value is no string.
    pub fn string(&self, parameter: &str) -> Result<Option<&'a str>, SyntaxError> {
        self.value(parameter, "a string like 'x'", |value| match value {
            CallValue::String(text) => Some(text.as_str()),
            _ => None,
        })
    }

    /// The strings given for a parameter, one or a list of them; none when it is absent or NULL.
    ///
    /// # Errors
    /// `Call` when it is something else.
    pub fn strings(&self, parameter: &str) -> Result<Option<Vec<&'a str>>, SyntaxError> {
        fn string(value: &CallValue) -> Option<&str> {
            match value {
                CallValue::String(text) => Some(text),
                _ => None,
            }
        }
        let wanted = "a string like 'x', or a list like ARRAY['x', 'y']";
        self.value(parameter, wanted, |value| match value {
            CallValue::List(values) => values.iter().map(string).collect(),
            one => string(one).map(|one| vec![one]),
        })
    }

    /// Whether a parameter has an argument.
    #[must_use]
    pub fn is_given(&self, parameter: &str) -> bool {
        self.place(parameter).is_some()
    }

    /// The boolean given for a parameter; none when it is absent or NULL.
    ///
    /// # Errors
    /// `Call` when the value is neither true nor false.
    pub fn boolean(&self, parameter: &str) -> Result<Option<bool>, SyntaxError> {
        self.value(parameter, "true or false", |value| match value {
            CallValue::Bool(bool) => Some(*bool),
            _ => None,
        })
    }

    /// The whole number given for a parameter; none when it is absent or NULL.
    ///
    /// # Errors
    /// `Call` when the value is no whole number or does not fit 64 bits.
    pub fn long(&self, parameter: &str) -> Result<Option<i64>, SyntaxError> {
        self.value(parameter, "a whole number", |value| match value {
            CallValue::Number(digits) => digits.parse().ok(),
            _ => None,
        })
    }

    /// The whole numbers given for a parameter, one or a list of them; none when it is absent or NULL.
    ///
    /// # Errors
    /// `Call` when it is something else.
    pub fn longs(&self, parameter: &str) -> Result<Option<Vec<i64>>, SyntaxError> {
        let long = |value: &CallValue| match value {
            CallValue::Number(digits) => digits.parse().ok(),
            _ => None,
        };
        self.value(parameter, "a list like ARRAY[1, 2]", |value| match value {
            CallValue::List(values) => values.iter().map(long).collect(),
            one => long(one).map(|one| vec![one]),
        })
    }

    /// The moment given for a parameter: a time, or an interval, which is so long before now; none when it is absent or
    /// NULL.
    ///
    /// # Errors
    /// `Call` when it is something else, or an interval into the future.
    pub fn when(&self, parameter: &str) -> Result<Option<When>, SyntaxError> {
        let wanted = "a time like TIMESTAMP '2026-01-31 12:00:00', in UTC unless it says so, or how long ago it was like \
                      INTERVAL '7 days'";
        self.value(parameter, wanted, |value| match value {
            CallValue::String(text) | CallValue::Timestamp(text) => {
                let nanos = string_to_timestamp_nanos(text).ok()?;
                Some(When::At(nanos.div_euclid(1_000_000)))
            }
            CallValue::Interval(ms) => u64::try_from(*ms).ok().map(When::Ago),
            _ => None,
        })
    }

    /// A mistake in the value of a parameter.
    pub(crate) fn refused(
        &self,
        parameter: &str,
        message: impl Into<String>,
        next: impl Into<String>,
    ) -> SyntaxError {
        let at = match self.place(parameter) {
            Some(place) => self.call.positions[place],
            None => self.call.position,
        };
        wrong(message, next).at(at)
    }

    fn place(&self, parameter: &str) -> Option<usize> {
        let index = self.parameters.iter().position(|known| *known == parameter);
        index.and_then(|index| self.places[index])
    }

    fn value<T>(
        &self,
        parameter: &str,
        wanted: &str,
        read: impl Fn(&'a CallValue) -> Option<T>,
    ) -> Result<Option<T>, SyntaxError> {
        let Some(place) = self.place(parameter) else {
            return Ok(None);
        };
        match &self.call.arguments[place].value {
            CallValue::Null => Ok(None),
            value => match read(value) {
                Some(value) => Ok(Some(value)),
                None => Err(wrong(
                    format!("{parameter} has a value of the wrong type"),
                    format!("give {wanted}"),
                )
                .at(self.call.positions[place])),
            },
        }
    }
}

fn wrong(message: impl Into<String>, next: impl Into<String>) -> SyntaxError {
    SyntaxError::new(SyntaxErrorKind::Call, message, next)
}

/// An argument and where it is.
type Placed = (CallArgument, Option<Position>);

fn arguments_of(function: Function) -> Result<Vec<Placed>, SyntaxError> {
    let plain = function.filter.is_none()
        && function.over.is_none()
        && function.null_treatment.is_none()
        && function.within_group.is_empty()
        && function.parameters == FunctionArguments::None;
    let shown = "write CALL system.<name>('value', parameter => value)";
    if !plain {
        return Err(wrong("a CALL has only arguments", shown));
    }
    let list = match function.args {
        FunctionArguments::None => return Ok(Vec::new()),
        FunctionArguments::Subquery(_) => {
            return Err(wrong("a query cannot be an argument of CALL", shown));
        }
        FunctionArguments::List(list) => list,
    };
    if list.duplicate_treatment.is_some() || !list.clauses.is_empty() {
        return Err(wrong("a CALL has only arguments", shown));
    }
    let mut arguments = Vec::with_capacity(list.args.len());
    for written in list.args {
        arguments.push(argument(written, &arguments)?);
    }
    Ok(arguments)
}

fn argument(written: FunctionArg, before: &[Placed]) -> Result<Placed, SyntaxError> {
    let mut at = Position::of(written.span());
    let place = before.len() + 1;
    let (name, value) = match written {
        FunctionArg::Named {
            name,
            arg,
            operator: FunctionArgOperator::RightArrow | FunctionArgOperator::Assignment,
        } => {
            at = Position::of(name.span).or(at);
            (Some(lookup_name(&name)), arg)
        }
        FunctionArg::Unnamed(arg) => (None, arg),
        FunctionArg::Named { .. } | FunctionArg::ExprNamed { .. } => {
            let message = format!("argument {place} is not written as parameter => value");
            return Err(wrong(message, "put => between name and value").at(at));
        }
    };
    if name.is_none() && before.last().is_some_and(|(last, _)| last.name.is_some()) {
        let message = format!("argument {place} has no name but follows one that has");
        return Err(wrong(message, "write it as parameter => value").at(at));
    }
    let literal = match &value {
        FunctionArgExpr::Expr(expr) => literal(expr),
        _ => None,
    };
    match literal {
        Some(value) => Ok((CallArgument { name, value }, at)),
        None => Err(wrong(
            format!("argument {place} is not a literal"),
            "give a string like 'x', a number, true, false, NULL, a list like ARRAY[1, 2], TIMESTAMP '…' or INTERVAL '…'",
        )
        .at(at)),
    }
}

/// How deep lists are read: a procedure takes none in another.
const LIST_DEPTH_MAX: usize = 1;

fn literal(expr: &Expr) -> Option<CallValue> {
    literal_within(expr, LIST_DEPTH_MAX)
}

fn literal_within(expr: &Expr, depth: usize) -> Option<CallValue> {
    let (value, sign) = match expr {
        Expr::Value(value) => (&value.value, ""),
        Expr::Array(list) if depth > 0 => {
            let values = list.elem.iter().map(|expr| literal_within(expr, depth - 1));
            return values.collect::<Option<_>>().map(CallValue::List);
        }
        Expr::TypedString(typed) if matches!(typed.data_type, DataType::Timestamp(..)) => {
            return match &typed.value.value {
                Value::SingleQuotedString(text) => Some(CallValue::Timestamp(text.clone())),
                _ => None,
            };
        }
        Expr::Interval(interval) => return interval_ms(interval).map(CallValue::Interval),
        Expr::UnaryOp {
            op: UnaryOperator::Minus,
            expr,
        } => match expr.as_ref() {
            Expr::Value(number) if matches!(number.value, Value::Number(..)) => {
                (&number.value, "-")
            }
            _ => return None,
        },
        _ => return None,
    };
    match value {
        Value::SingleQuotedString(text) | Value::EscapedStringLiteral(text) => {
            Some(CallValue::String(text.clone()))
        }
        Value::DollarQuotedString(text) => Some(CallValue::String(text.value.clone())),
        Value::Number(digits, _) => Some(CallValue::Number(format!("{sign}{digits}"))),
        Value::Boolean(bool) => Some(CallValue::Bool(*bool)),
        Value::Null => Some(CallValue::Null),
        _ => None,
    }
}

/// `INTERVAL '7 days'`, `INTERVAL '7' DAY`, `INTERVAL 7 DAY`.
fn interval_ms(interval: &Interval) -> Option<i64> {
    let number = match interval.value.as_ref() {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) => text.clone(),
            Value::Number(digits, _) => digits.clone(),
            _ => return None,
        },
        _ => return None,
    };
    let text = match &interval.leading_field {
        Some(unit) if interval.last_field.is_none() => format!("{number} {unit}"),
        Some(_) => return None,
        None => number,
    };
    let parsed = parse_interval_month_day_nano(&text).ok()?;
    let days = i64::from(parsed.months) * 30 + i64::from(parsed.days);
    Some(days.checked_mul(86_400_000)? + parsed.nanoseconds / 1_000_000)
}
