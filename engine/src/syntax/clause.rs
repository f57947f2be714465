//! One time-travel clause: which coordinates it has, and the expressions that say where they are.
//!
//! ```text
//! VERSION AS OF v        TIMESTAMP AS OF e        FOR SYSTEM_TIME AS OF e
//! AT (VERSION => v | TIMESTAMP => e | SEQ => e [, HLC => e])        AT (HLC => e)
//! ```
//! `v` is a snapshot id, or a text with the name of a tag or branch; `e` is an expression without columns.
//!
//! Invariant: a [`Clause`] holds everything that was written, so nothing of it is ignored later.

use std::ops::ControlFlow;

use datafusion::common::ScalarValue;
use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgOperator, FunctionArguments, Spanned,
    TableVersion, Value, visit_expressions,
};
use lakesync_providers::Arrival;
use lakesync_providers::{AsOf, hlc_of, micros_of, seq_of, version_of};

use super::error::{Position, SyntaxError, SyntaxErrorKind};

/// What works, for whoever wrote something else.
pub(super) const WORKS: &str = "what works is t VERSION AS OF <snapshot id or 'tag'>, t TIMESTAMP AS OF <time> and \
     t AT (SEQ => <seq>, HLC => <hlc or time>), with one of SEQ, VERSION and TIMESTAMP, or HLC, or both; \
     snapshots and seqs are in the table t$snapshots";

/// A kind of coordinate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Version,
    Timestamp,
    Seq,
    Hlc,
}

impl Kind {
    fn parse(name: &str) -> Option<Kind> {
        let all = [Kind::Version, Kind::Timestamp, Kind::Seq, Kind::Hlc];
        all.into_iter()
            .find(|kind| kind.name().eq_ignore_ascii_case(name))
    }

    fn name(self) -> &'static str {
        match self {
            Kind::Version => "VERSION",
            Kind::Timestamp => "TIMESTAMP",
            Kind::Seq => "SEQ",
            Kind::Hlc => "HLC",
        }
    }
}

/// The coordinates of a clause: one or two, of which at most one is of arrival.
#[derive(Debug)]
pub(super) struct Clause<'a> {
    coordinates: Vec<(Kind, &'a Expr)>,
}

impl<'a> Clause<'a> {
    /// Takes a clause apart.
    ///
    /// # Errors
    /// `TimeTravel` for anything but the forms above.
    pub(super) fn of(version: &'a TableVersion) -> Result<Clause<'a>, SyntaxError> {
        let coordinates = match version {
            TableVersion::VersionAsOf(value) => vec![(Kind::Version, value)],
            TableVersion::TimestampAsOf(value) | TableVersion::ForSystemTimeAsOf(value) => {
                vec![(Kind::Timestamp, value)]
            }
            TableVersion::Function(Expr::Function(function)) => arguments(function)?,
            TableVersion::Function(other) => {
                return Err(refuse(
                    format!("{other} is not a time-travel clause"),
                    WORKS,
                ));
            }
        };
        for (kind, value) in &coordinates {
            check_constant(*kind, value)
                .map_err(|error| error.or_at(Position::of(value.span())))?;
        }
        Ok(Clause { coordinates })
    }

    /// The moment, with `evaluate` for the expressions; none as long as it does not know one of them.
    ///
    /// # Errors
    /// `TimeTravel` for a value that is no such coordinate, and what `evaluate` says.
    pub(super) fn as_of(
        &self,
        evaluate: impl Fn(&Expr) -> Result<Option<ScalarValue>, SyntaxError>,
    ) -> Result<Option<AsOf>, SyntaxError> {
        let (mut arrival, mut hlc) = (None, None);
        for (kind, expr) in &self.coordinates {
            let at = Position::of(expr.span());
            let value = evaluate(expr).map_err(|error| error.or_at(at))?;
            let Some(value) = value else {
                return Ok(None);
            };
            let taken = match kind {
                Kind::Version => version_of(&value).map(|version| arrival = Some(version)),
                Kind::Seq => seq_of(&value).map(|seq| arrival = Some(Arrival::Seq(seq))),
                Kind::Timestamp => {
                    micros_of(&value).map(|micros| arrival = Some(Arrival::Timestamp(micros)))
                }
                Kind::Hlc => hlc_of(&value).map(|latest| hlc = Some(latest)),
            };
            taken.map_err(|wrong| refuse(wrong, WORKS).at(at))?;
        }
        Ok(AsOf::new(arrival, hlc))
    }
}

/// A literal's value; none for everything that has to be evaluated.
pub(super) fn literal(expr: &Expr) -> Option<ScalarValue> {
    let Expr::Value(value) = expr else {
        return None;
    };
    let value = &value.value;
    Some(match value {
        Value::Number(digits, _) => match (digits.parse::<i64>(), digits.parse::<u64>()) {
            (Ok(number), _) => ScalarValue::from(number),
            (_, Ok(number)) => ScalarValue::from(number),
            _ => ScalarValue::from(digits.parse::<f64>().ok()?),
        },
        Value::Null => ScalarValue::Null,
        Value::SingleQuotedString(text) | Value::EscapedStringLiteral(text) => {
            ScalarValue::from(text.as_str())
        }
        Value::DollarQuotedString(text) => ScalarValue::from(text.value.as_str()),
        _ => return None,
    })
}

pub(super) fn refuse(message: impl Into<String>, next: impl Into<String>) -> SyntaxError {
    SyntaxError::new(SyntaxErrorKind::TimeTravel, message, next)
}

/// The arguments of `AT (…)`.
fn arguments(function: &Function) -> Result<Vec<(Kind, &Expr)>, SyntaxError> {
    let name = function.name.to_string();
    if name.eq_ignore_ascii_case("BEFORE") {
        return Err(refuse("BEFORE (…) is not supported", WORKS));
    }
    let plain = function.filter.is_none()
        && function.over.is_none()
        && function.null_treatment.is_none()
        && function.within_group.is_empty()
        && function.parameters == FunctionArguments::None;
    let FunctionArguments::List(list) = &function.args else {
        return Err(refuse(format!("{name} takes named coordinates"), WORKS));
    };
    if !plain || !list.clauses.is_empty() || list.duplicate_treatment.is_some() {
        let more = format!("{function} is more than a time-travel clause");
        return Err(refuse(more, WORKS));
    }
    let mut coordinates: Vec<(Kind, &Expr)> = Vec::new();
    for argument in &list.args {
        let (kind, value) = argument_of(&name, argument)?;
        let is_hlc = |kind: Kind| kind == Kind::Hlc;
        if let Some((other, _)) = coordinates
            .iter()
            .find(|(other, _)| is_hlc(*other) == is_hlc(kind))
        {
            let both = match *other == kind {
                true => format!("{} stands twice", kind.name()),
                false => format!("{} and {} are both of arrival", other.name(), kind.name()),
            };
            return Err(refuse(both, WORKS));
        }
        coordinates.push((kind, value));
    }
    if coordinates.is_empty() {
        return Err(refuse(format!("{name} takes named coordinates"), WORKS));
    }
    Ok(coordinates)
}

fn argument_of<'a>(
    clause: &str,
    argument: &'a FunctionArg,
) -> Result<(Kind, &'a Expr), SyntaxError> {
    let FunctionArg::Named {
        name,
        arg: FunctionArgExpr::Expr(value),
        operator: FunctionArgOperator::RightArrow,
    } = argument
    else {
        let wrong = format!("{clause} takes named coordinates, not {argument}");
        return Err(refuse(wrong, WORKS));
    };
    let kind = Kind::parse(&name.value).filter(|_| name.quote_style.is_none());
    match kind {
        Some(kind) => Ok((kind, value)),
        None => {
            Err(refuse(format!("{clause} has no coordinate {name}"), WORKS)
                .at(Position::of(name.span)))
        }
    }
}

/// Refuses what can have no one value in the whole statement. Functions are looked at when they are evaluated.
fn check_constant(kind: Kind, value: &Expr) -> Result<(), SyntaxError> {
    let is_literal = matches!(value, Expr::Value(_));
    if kind == Kind::Version && !is_literal {
        return Err(refuse(format!("{value} is not a snapshot id"), WORKS));
    }
    let wrong = visit_expressions(value, |part| match part {
        Expr::Identifier(name) if name.quote_style == Some('"') => ControlFlow::Break(refuse(
            format!("{name} names a column, and a moment is a constant"),
            "write a text in single quotes",
        )),
        Expr::Identifier(_) | Expr::CompoundIdentifier(_) => ControlFlow::Break(refuse(
            format!("{part} names a column, and a moment is a constant"),
            "write a literal, or an expression such as now() - interval '1 hour'",
        )),
        Expr::Subquery(_) | Expr::Exists { .. } | Expr::InSubquery { .. } => {
            ControlFlow::Break(refuse(
                "a subquery has no value before the statement runs, and a moment is a constant",
                "ask for the value first, and write it into the clause",
            ))
        }
        _ => ControlFlow::Continue(()),
    });
    match wrong {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) => Ok(()),
    }
}
