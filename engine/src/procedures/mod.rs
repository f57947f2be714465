//! `CALL system.…`: maintenance as SQL.
//!
//! ```text
//!   CALL system.compact('t', dry_run => true)
//!        │              └── arguments, bound by place or name to the procedure's parameters (arguments.rs)
//!        └── one line of the table of procedures (registry.rs): parameters, columns, help, and what runs
//! ```
//! Names and columns are those of Spark's procedures for Iceberg where there is one. A table is `t` in the statement's
//! gateway or `g.t`.
//!
//! **Invariant:** a procedure that is not in the table does not exist; one that is does what its line says, and every
//! argument is used or refused with its place.

mod answer;
mod control;
mod files;
mod help;
mod past;
mod registry;
mod target;

use arrow::array::{ArrayRef, StringArray};
use arrow::record_batch::RecordBatch;
use datafusion::prelude::{DataFrame, SessionContext};
use std::sync::Arc;

use crate::error::Result;
use crate::syntax::{Call, SyntaxError};

use answer::{arrow_error, batch};
use registry::{PROCEDURES, Procedure};

pub(crate) use target::Target;

/// A call of a procedure, with its arguments bound.
struct Asked<'a> {
    target: Target<'a>,
    call: &'a Call,
    arguments: crate::syntax::Arguments<'a>,
}

/// Runs a procedure of a statement.
pub(crate) async fn call(
    ctx: &SessionContext,
    call: &Call,
    target: Target<'_>,
) -> Result<DataFrame> {
    let procedure = find(call)?;
    let names = procedure.parameter_names();
    let rows = (procedure.run)(procedure.bind(call, &names, target)?).await?;
    Ok(ctx.read_batch(batch(procedure.columns, rows)?)?)
}

/// The plan of a procedure that is one.
pub(crate) async fn explain(
    ctx: &SessionContext,
    call: &Call,
    target: Target<'_>,
) -> Result<DataFrame> {
    let procedure = find(call)?;
    let Some(explain) = procedure.explain else {
        let with: Vec<&str> = PROCEDURES
            .iter()
            .filter(|known| known.explain.is_some())
            .map(|known| known.name)
            .collect();
        let next = format!(
            "those with one are {}; dry_run => true tells what others would do",
            with.join(", ")
        );
        return Err(call
            .refused(
                format!("system.{} has no plan to explain", procedure.name),
                next,
            )
            .into());
    };
    let names = procedure.parameter_names();
    let shown = explain(procedure.bind(call, &names, target)?).await?;
    let (kinds, plans): (Vec<String>, Vec<String>) = shown.into_iter().unzip();
    let batch = RecordBatch::try_from_iter([
        ("plan_type", Arc::new(StringArray::from(kinds)) as ArrayRef),
        ("plan", Arc::new(StringArray::from(plans))),
    ]);
    Ok(ctx.read_batch(batch.map_err(arrow_error)?)?)
}

impl Procedure {
    fn parameter_names(&self) -> Vec<&'static str> {
        self.parameters
            .iter()
            .map(|parameter| parameter.name)
            .collect()
    }

    /// Gives every argument to its parameter.
    fn bind<'a>(
        &self,
        call: &'a Call,
        names: &'a [&'a str],
        target: Target<'a>,
    ) -> Result<Asked<'a>, SyntaxError> {
        let arguments = call.bind(names)?;
        for parameter in self
            .parameters
            .iter()
            .filter(|parameter| parameter.default.is_none())
        {
            if !arguments.is_given(parameter.name) {
                let message = format!("system.{} needs its {}", self.name, parameter.name);
                let next = format!("write CALL {}", self.usage());
                return Err(arguments.refused(parameter.name, message, next));
            }
        }
        Ok(Asked {
            target,
            call,
            arguments,
        })
    }
}

fn find(call: &Call) -> Result<&'static Procedure, SyntaxError> {
    let name = call.procedure.as_str();
    PROCEDURES
        .iter()
        .find(|known| known.name == name)
        .ok_or_else(|| {
            let known: Vec<&str> = PROCEDURES.iter().map(|known| known.name).collect();
            let near = crate::config::nearest(name, known.iter().copied());
            let next = match near {
                Some(near) => format!("is it system.{near}? CALL system.help() lists them all"),
                None => format!(
                    "there are {}; CALL system.help('…') tells what each takes",
                    known.join(", ")
                ),
            };
            call.refused(format!("there is no procedure system.{name}"), next)
        })
}
