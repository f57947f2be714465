//! Rows against a slow model, and a database driven by hand for all who test them.

mod gateway;
mod histories;
mod own_edits;
pub(crate) mod world;

use lakesync_proto::Seq;

pub(crate) fn seq(number: u64) -> Seq {
    Seq::from_u64(number).unwrap()
}
