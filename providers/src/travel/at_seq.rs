//! `view_at_seq(view, seq)`: what a view's table was when the gateway had accepted everything up to a seq.
//!
//! ```text
//!   seq  …… older base ……… seq ……… base of the view ………… view
//!                └── log ──┘                                   below the view's base: an older base and the log
//!   seq  …… base of the view ……… seq ……… view
//!                   └─── hot ───┘                              else the same base and fewer hot deltas
//! ```
//! **Invariant:** a view at a seq depends on what was accepted up to it only, so it is the same view whenever it is
//! made, as long as the lake keeps a base that is old enough.

use std::sync::Arc;

use lakesync_proto::Seq;

use super::Cut;
use super::past::parts;
use crate::error::Result;
use crate::view::ReadView;

/// The table of `view` as of `seq`; none when `seq` is beyond the view, or older than what the lake still has.
///
/// The view's own schema is kept: a column that was added later is null in it.
///
/// # Errors
/// When the base's summaries or the log cannot be read.
pub async fn view_at_seq(view: &Arc<ReadView>, seq: Seq) -> Result<Option<Arc<ReadView>>> {
    if seq > view.seq {
        return Ok(None);
    }
    if seq == view.seq {
        return Ok(Some(Arc::clone(view)));
    }
    let cut = Cut { seq, hlc: None };
    match parts(view, cut)? {
        Some(parts) => Ok(Some(Arc::new(parts.view(view, cut).await?))),
        None => Ok(None),
    }
}
