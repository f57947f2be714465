//! `CALL system.procedure(…)`: a procedure's name and its literal arguments.
//!
//! Invariant: a [`Call`] holds everything that was written; what it cannot hold (an expression as argument, an
//! unknown or repeated name) is an error with the place in the SQL text, so no option is ever ignored.

use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgOperator, FunctionArguments,
    ObjectNamePart, Spanned, UnaryOperator, Value,
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
    /// `NULL`: means that the parameter has its default.
    Null,
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
            positions,
        })
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

    fn value<T>(
        &self,
        parameter: &str,
        wanted: &str,
        read: impl Fn(&'a CallValue) -> Option<T>,
    ) -> Result<Option<T>, SyntaxError> {
        let index = self.parameters.iter().position(|known| *known == parameter);
        let Some(place) = index.and_then(|index| self.places[index]) else {
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
    match literal(&value) {
        Some(value) => Ok((CallArgument { name, value }, at)),
        None => Err(wrong(
            format!("argument {place} is not a literal"),
            "give a string like 'x', a number, true, false or NULL",
        )
        .at(at)),
    }
}

fn literal(written: &FunctionArgExpr) -> Option<CallValue> {
    let FunctionArgExpr::Expr(expr) = written else {
        return None;
    };
    let (value, sign) = match expr {
        Expr::Value(value) => (&value.value, ""),
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
