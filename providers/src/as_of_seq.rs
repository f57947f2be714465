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
use tokio::sync::OnceCell;

use crate::error::Result;
use crate::hot_pushes::HotPush;
use crate::log::read_log;
use crate::session::session;
use crate::travel::{base_at, past};
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
    if seq >= view.base.base_seq {
        return Ok(Some(Arc::new(ReadView {
            warehouse: view.warehouse.clone(),
            gateway: view.gateway.clone(),
            schema: Arc::clone(&view.schema),
            base: Arc::clone(&view.base),
            log: Arc::clone(&view.log),
            seq,
            hot: up_to(view.hot.iter(), seq).into(),
            overlay: Arc::default(),
            resolved: OnceCell::new(),
        })));
    }
    let Some(base) = base_at(view, seq)? else {
        return Ok(None);
    };
    let ctx = session(&view.warehouse);
    let span = (base.base_seq, seq);
    let deltas = read_log(&ctx, &view.warehouse, (&view.log, &view.schema), span).await?;
    let hot = Arc::new(HotPush {
        arrived_ms: 0,
        deltas,
    });
    Ok(Some(Arc::new(past(view, base, seq, vec![hot]))))
}

/// The pushes up to `seq`; only one that it cuts is made anew.
fn up_to<'a>(hot: impl Iterator<Item = &'a Arc<HotPush>>, seq: Seq) -> Vec<Arc<HotPush>> {
    let mut kept = Vec::new();
    for push in hot {
        let within = push.deltas.partition_point(|delta| delta.seq <= seq);
        match within {
            0 => continue,
            all if all == push.deltas.len() => kept.push(Arc::clone(push)),
            some => kept.push(Arc::new(HotPush {
                arrived_ms: push.arrived_ms,
                deltas: push.deltas[..some].to_vec(),
            })),
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use lakesync_proto::{ClientId, DeltaKey, Hlc, Op, RowDelta, RowId, SeqDelta, TableName};

    use super::*;

    fn push(seqs: std::ops::Range<u64>) -> Arc<HotPush> {
        let delta = |seq| {
            let key = DeltaKey {
                table: TableName::parse("t").unwrap(),
                row_id: RowId::parse("r").unwrap(),
                client_id: ClientId::parse("c").unwrap(),
                hlc: Hlc::new(seq, 0).unwrap(),
            };
            Arc::new(SeqDelta {
                seq: Seq::from_u64(seq).unwrap(),
                delta: RowDelta::new(Op::Update, key, Vec::new()),
            })
        };
        Arc::new(HotPush {
            arrived_ms: 7,
            deltas: seqs.map(delta).collect(),
        })
    }

    #[test]
    fn pushes_up_to_a_seq_are_shared_and_the_one_that_it_cuts_is_shortened() {
        let hot = [push(1..4), push(6..9), push(9..10)];
        let seqs = |up: u64| -> Vec<u64> {
            let kept = up_to(hot.iter(), Seq::from_u64(up).unwrap());
            assert!(kept.iter().all(|push| push.arrived_ms == 7));
            let deltas = kept.iter().flat_map(|push| &push.deltas);
            deltas.map(|delta| delta.seq.as_u64()).collect()
        };
        assert_eq!(seqs(0), [0_u64; 0]);
        assert_eq!(seqs(2), [1, 2]);
        assert_eq!(seqs(5), [1, 2, 3]);
        assert_eq!(seqs(6), [1, 2, 3, 6]);
        assert_eq!(seqs(9), [1, 2, 3, 6, 7, 8, 9]);
        let kept = up_to(hot.iter(), Seq::from_u64(7).unwrap());
        assert!(Arc::ptr_eq(&kept[0], &hot[0]), "a whole push is not copied");
    }
}
