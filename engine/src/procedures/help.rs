//! `CALL system.help(['procedure'])`.
//!
//! **Invariant:** it tells what the table of procedures says, nothing else.

use super::Asked;
use super::answer::{Cell, Rows, text};
use super::registry::{PROCEDURES, Procedure};
use crate::error::Result;

pub(super) fn help(asked: Asked<'_>) -> Result<Rows> {
    let Some(name) = asked.arguments.string("procedure")? else {
        return Ok(PROCEDURES.iter().map(summary).collect());
    };
    let name = name.trim_start_matches("system.");
    let Some(procedure) = PROCEDURES.iter().find(|known| known.name == name) else {
        let message = format!("there is no procedure system.{name}");
        let next = "CALL system.help() lists them all";
        return Err(asked.arguments.refused("procedure", message, next).into());
    };
    let parameters = procedure.parameters.iter().map(|parameter| {
        vec![
            text(procedure.name),
            text(parameter.name),
            text(parameter.kind),
            text(parameter.default.unwrap_or("must be given")),
            text(parameter.does),
        ]
    });
    Ok([summary(procedure)].into_iter().chain(parameters).collect())
}

fn summary(procedure: &Procedure) -> Vec<Cell> {
    let help = format!("{} {}", procedure.usage(), procedure.does);
    vec![
        text(procedure.name),
        Cell::Null,
        Cell::Null,
        Cell::Null,
        text(help),
    ]
}
