//! Comparing the rows here with the gateway's.
//!
//! Invariant: digests are compared at one cursor only. Tables that differ are loaded anew once; what still differs then is
//! said, and left alone.

use std::collections::BTreeMap;

use lakesync_proto::{Cursor, TableName};

use super::Session;
use super::errors::protocol;
use crate::apply;
use crate::digest::{GatewayDigest, TableDigest};
use crate::error::{ClientError, ErrorKind};
use crate::sync::machine::{Exchange, Lane, Verify};
use crate::transport::TransportError;

impl Session {
    pub(super) fn on_digest(
        &mut self,
        result: Result<GatewayDigest, TransportError>,
    ) -> Result<(), ClientError> {
        let theirs = match result {
            Ok(theirs) => theirs,
            Err(error) => return self.failed(Exchange::Digest, error),
        };
        let own = match self.db.digest() {
            Ok(own) => own,
            Err(error) => return Err(self.failed_here(Exchange::Digest, error)),
        };
        self.answered(Exchange::Digest);
        if own.cursor.as_deref() != Some(theirs.cursor.as_str()) {
            self.machine.verify_again();
            if self.machine.verify() == Verify::No {
                self.say("the rows could not be compared with the gateway's: it was written to all the time".to_owned());
            }
            return Ok(());
        }
        let differing = differing(&own.tables, &theirs.tables);
        if differing.is_empty() {
            self.machine.verified();
            return Ok(());
        }
        self.mismatches += u64::try_from(differing.len()).unwrap_or(u64::MAX);
        if self.is_reloaded {
            self.machine.verified();
            let names: Vec<&str> = differing.iter().map(TableName::as_str).collect();
            self.say(format!(
                "these tables differ from the gateway's even after they were loaded anew: {}",
                names.join(", ")
            ));
            return Ok(());
        }
        match self.reload(&differing, &theirs.cursor) {
            Ok(()) => {
                self.is_reloaded = true;
                self.machine.verify_again();
                Ok(())
            }
            Err(error) => Err(self.failed_here(Exchange::Digest, error)),
        }
    }

    fn reload(&self, tables: &[TableName], cursor: &str) -> Result<(), ClientError> {
        let then: Cursor = cursor
            .parse()
            .map_err(|error| protocol(format!("a digest's cursor: {error}")))?;
        self.db
            .keep(|work| apply::begin_checkpoint(work, tables, Some(&then)))?;
        Ok(())
    }

    fn say(&mut self, message: String) {
        let now_ms = self.now_ms();
        self.errors
            .show(Lane::Verify, ErrorKind::Local, message, now_ms);
    }
}

/// The gateway's tables that are others here.
fn differing(own: &[TableDigest], theirs: &[TableDigest]) -> Vec<TableName> {
    let own: BTreeMap<&TableName, &TableDigest> =
        own.iter().map(|digest| (&digest.table, digest)).collect();
    let is_same = |theirs: &TableDigest| match own.get(&theirs.table) {
        Some(own) => *own == theirs,
        None => theirs.rows == 0,
    };
    let others = theirs.iter().filter(|theirs| !is_same(theirs));
    others.map(|theirs| theirs.table.clone()).collect()
}
