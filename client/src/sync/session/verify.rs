//! Comparing the rows here with the gateway's.
//!
//! Invariant: digests are compared at one cursor only. Tables that differ are loaded anew once; what still differs then is
//! said, and left alone.

use lakesync_proto::{Cursor, TableName};

use super::Session;
use super::errors::protocol;
use crate::apply;
use crate::digest::GatewayDigest;
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
        let Some(differing) = own.differing(&theirs) else {
            self.machine.verify_again();
            if self.machine.verify() == Verify::No {
                self.say("the rows could not be compared with the gateway's: it was written to all the time".to_owned());
            }
            return Ok(());
        };
        if differing.is_empty() {
            self.machine.verified();
            return Ok(());
        }
        self.mismatches += u64::try_from(differing.len()).unwrap_or(u64::MAX);
        // A table that the gateway lacks cannot be loaded from it.
        let there = |table: &&TableName| theirs.tables.iter().any(|digest| digest.table == **table);
        let loadable: Vec<TableName> = differing.iter().filter(there).cloned().collect();
        if self.is_reloaded || loadable.is_empty() {
            self.machine.verified();
            let names: Vec<&str> = differing.iter().map(TableName::as_str).collect();
            self.say(format!(
                "these tables differ from the gateway's, and loading them anew does not help: {}",
                names.join(", ")
            ));
            return Ok(());
        }
        match self.reload(&loadable, &theirs.cursor) {
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
