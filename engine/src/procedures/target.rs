//! What a procedure's table name is looked up in.
//!
//! **Invariant:** of gateways that the caller does not reach nothing is found, and an unknown table is an error here, never
//! an empty answer.

use std::sync::Arc;

use lakesync_gateway::Gateway;
use lakesync_gateway::auth::Identity;
use lakesync_proto::TableName;

use super::Asked;
use crate::error::{Error, Result};
use crate::lake::Lake;
use crate::maintenance::run::Place;
use crate::syntax::Call;

/// Where a call's names are looked up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target<'a> {
    pub(super) lake: &'a Lake,
    identity: &'a Identity,
    /// Where a name without a gateway is.
    pub(super) gateway: &'a Arc<Gateway>,
}

impl<'a> Target<'a> {
    pub(crate) fn new(lake: &'a Lake, identity: &'a Identity, gateway: &'a Arc<Gateway>) -> Self {
        Self {
            lake,
            identity,
            gateway,
        }
    }

    /// The table that `[g.]t` names.
    fn find(self, call: &Call, name: &str) -> Result<Place> {
        let (gateway, table) = match name.split_once('.') {
            Some((gateway, table)) => (self.lake.gateway_for(gateway, self.identity)?, table),
            None => (Arc::clone(self.gateway), name),
        };
        let found = TableName::parse(table).ok();
        match found.filter(|_| gateway.live().view(table).is_some()) {
            Some(table) => Ok(self.place(&gateway, table)),
            None => Err(Error::Call {
                procedure: format!("{}.{}", call.schema, call.procedure),
                reason: format!(
                    "table `{table}` does not exist in `{}`; `show tables` lists those that do",
                    gateway.id()
                ),
            }),
        }
    }

    fn place(self, gateway: &Arc<Gateway>, table: TableName) -> Place {
        Place {
            lake: self.lake.clone(),
            gateway: Arc::clone(gateway),
            table,
        }
    }

    /// All tables of the statement's gateway.
    fn all(self) -> Vec<Place> {
        let tables = self.gateway.live().tables();
        tables
            .into_iter()
            .map(|size| self.place(self.gateway, size.table))
            .collect()
    }
}

impl Asked<'_> {
    /// The table that the call is about.
    pub(super) fn table(&self) -> Result<Place> {
        let name = self.arguments.string("table")?;
        let name = name.ok_or_else(|| {
            self.arguments.refused(
                "table",
                "table is NULL",
                "give the name of a table, as in 't' or 'gateway.t'",
            )
        })?;
        self.target
            .find(self.call, name.strip_suffix(LOG).unwrap_or(name))
    }

    /// Whether the call is about the table's log, `t$deltas`.
    pub(super) fn is_of_log(&self) -> Result<bool> {
        let name = self.arguments.string("table")?;
        Ok(name.is_some_and(|name| name.ends_with(LOG)))
    }

    /// The tables that the call is about: all of the gateway when it names none.
    pub(super) fn tables(&self) -> Result<Vec<Place>> {
        match self.arguments.strings("table")? {
            Some(names) => names
                .into_iter()
                .map(|name| self.target.find(self.call, name))
                .collect(),
            None => Ok(self.target.all()),
        }
    }

    /// Whether nothing is to be done, only told.
    pub(super) fn is_dry(&self) -> Result<bool> {
        Ok(self.arguments.boolean("dry_run")?.unwrap_or(false))
    }

    /// How many files make a rewrite worth it.
    pub(super) fn files_min(&self, parameter: &'static str) -> Result<usize> {
        match self.arguments.long(parameter)? {
            None => Ok(FILES_MIN),
            Some(number) => {
                let number = usize::try_from(number).ok().filter(|number| *number >= 2);
                Ok(number.ok_or_else(|| {
                    let message = format!("{parameter} is too small");
                    self.arguments.refused(parameter, message, "give 2 or more")
                })?)
            }
        }
    }
}

/// How the name of a table's log ends.
const LOG: &str = "$deltas";

/// How many small files of like size a rewrite that somebody asks for takes at least: Spark's default.
const FILES_MIN: usize = 5;
