//! Own edits on their way.
//!
//! Invariant: a batch is in flight in the file before its step is given out. When an answer cannot be written down, the
//! batch counts as unanswered: it goes again, in doubt.

use lakesync_proto::{Push, PushAck, Seq};

use super::errors::protocol;
use super::facts::outbox_mark;
use super::{PUSH_DELTAS, Session, log};
use crate::error::ClientError;
use crate::outbox::{self, Acknowledged, Batch, Refused};
use crate::state;
use crate::sync::machine::{Exchange, Read, Sent};
use crate::sync::options::KeepUntil;
use crate::sync::step::Step;
use crate::transport::{Refusal, TransportError};

impl Session {
    /// The next push; none when there is nothing to send.
    pub(super) fn push_step(&mut self) -> Result<Option<Step>, ClientError> {
        if let Some(batch) = &self.batch {
            let batch = batch.clone();
            return self.push_of(batch).map(Some);
        }
        let (limit, must_recover) = (self.push_limit, !self.is_recovered);
        let (batch, mark) = self.db.keep(|work| {
            if must_recover {
                outbox::recover(work)?;
            }
            let batch = outbox::take(work, limit)?;
            Ok((batch, outbox_mark(work.tx)?))
        })?;
        self.is_recovered = true;
        match batch {
            None => {
                self.machine.nothing_to_send(mark);
                Ok(None)
            }
            Some(batch) => {
                self.batch = Some(batch.clone());
                self.push_of(batch).map(Some)
            }
        }
    }

    fn push_of(&self, batch: Batch) -> Result<Step, ClientError> {
        let local = self.db.local();
        Ok(Step::Push(Push {
            client_id: local.client_id.clone(),
            deltas: batch.deltas,
            last_seen: state::seq(&local.connection)?,
            schemas: state::schemas_hash(&local.connection)?,
        }))
    }

    pub(super) fn on_pushed(
        &mut self,
        result: Result<PushAck, TransportError>,
    ) -> Result<(), ClientError> {
        let Some(batch) = self.batch.take() else {
            return Ok(());
        };
        let taken = match result {
            Ok(ack) => self.on_acknowledged(&batch, &ack),
            Err(TransportError::Refused(refusal)) => return self.on_refused(&batch, refusal),
            Err(error) => {
                let doubted = self.db.keep(|work| outbox::doubt(work, &batch));
                return match doubted {
                    Ok(()) => self.failed(Exchange::Push, error),
                    Err(local) => Err(self.push_failed_here(local)),
                };
            }
        };
        taken.map_err(|error| self.push_failed_here(error))
    }

    fn on_acknowledged(&mut self, batch: &Batch, ack: &PushAck) -> Result<(), ClientError> {
        let forgets = self.options.keep_until == KeepUntil::Confirmed;
        let acknowledged = self.db.keep(|work| {
            let acknowledged = outbox::acknowledge(work, batch, ack)?;
            match acknowledged {
                Acknowledged::OtherLog => log::follow(work, &ack.epoch)?,
                Acknowledged::Noted if forgets => outbox::forget(work, Seq::MAX)?,
                Acknowledged::Noted => {}
            }
            Ok(acknowledged)
        })?;
        let now_ms = self.now_ms();
        self.answered(Exchange::Push);
        self.push_limit = self.push_limit.saturating_mul(2).min(PUSH_DELTAS);
        let waits = match acknowledged {
            Acknowledged::Noted => self.machine.sent(Sent::Taken, now_ms),
            Acknowledged::OtherLog => self.machine.pulled(Read::StartOver, now_ms),
        };
        self.heed(&ack.notes);
        if let Some(lane) = waits {
            let error = protocol("its log is another one every time");
            self.errors.note(lane, error, now_ms);
        }
        Ok(())
    }

    fn on_refused(&mut self, batch: &Batch, refusal: Box<Refusal>) -> Result<(), ClientError> {
        let refused = match self.db.keep(|work| outbox::refuse(work, batch, &refusal)) {
            Ok(refused) => refused,
            Err(error) => return Err(self.push_failed_here(error)),
        };
        let sent = match refused {
            Refused::Rejected { .. } => Sent::Smaller,
            Refused::Split { limit } => {
                self.push_limit = limit.max(1);
                Sent::Smaller
            }
            Refused::Restamped { .. } => Sent::Restamped,
            Refused::Held { .. } => Sent::Held,
            Refused::Whole => {
                return self.failed(Exchange::Push, TransportError::Refused(refusal));
            }
        };
        let now_ms = self.now_ms();
        self.answered(Exchange::Push);
        match self.machine.sent(sent, now_ms) {
            None => Ok(()),
            Some(lane) => {
                let error = TransportError::Refused(refusal);
                Err(self.errors.note(lane, error.into(), now_ms))
            }
        }
    }

    /// The answer could not be written down.
    fn push_failed_here(&mut self, error: ClientError) -> ClientError {
        self.is_recovered = false;
        self.failed_here(Exchange::Push, error)
    }
}
