//! What clients hear that know of no rules: bare seqs, and DELETEs for what left their sight.
//!
//! **Invariant checked:** such a client is told of everything that left its sight, or that it has to start over; it is
//! never left with a row that it should not have.

use std::time::Duration;

use lakesync_proto::{ErrorCode, PullPage, Seq};

use super::scene::{MINE, Place, client, delta, gone, heard, push, refusal, set, start, who};
use crate::auth::Role;
use crate::error::Result;
use crate::gateway::Gateway;
use crate::pull::{Pull, Since};

/// The same rows for the same people, by other words.
const MINE_AGAIN: &str = r#"{"version": 1, "buckets": [{"name": "mine", "tables": ["t"],
    "where": "owner = jwt('sub')"}]}"#;

async fn pull(gateway: &Gateway, since: Since, limit: usize) -> Result<PullPage> {
    let pull = Pull {
        since,
        limit,
        schemas: None,
    };
    let ana = client("ana");
    let id = ana.subject.clone().unwrap();
    gateway.pull_by(&pull, &ana, &id).await
}

fn at(seq: u64) -> Since {
    Since::Seq(Seq::from_u64(seq).unwrap())
}

fn start_over(page: Result<PullPage>) {
    let error = refusal(page);
    assert_eq!(error.code, ErrorCode::CursorExpired);
    assert_eq!(error.details["checkpoint"], "/v1/sync/g/checkpoint");
}

#[tokio::test(flavor = "multi_thread")]
async fn deletes_from_before_other_rules_are_not_passed_over_in_silence() {
    let place = Place::new();
    let gateway = place.open().await;
    set(&gateway, MINE).await.unwrap();
    let admin = who("root", Role::Admin);
    let rows = ["kept", "gone", "away"].map(|row| delta("x", (row, 0), Some("ana"), 1));
    push(&gateway, &admin, rows.to_vec()).await.unwrap();
    assert_eq!(heard(&pull(&gateway, at(0), 100).await.unwrap()).len(), 3);
    let steps = vec![gone("x", "gone", 1), delta("x", ("away", 1), Some("bo"), 2)];
    push(&gateway, &admin, steps).await.unwrap();
    set(&gateway, MINE_AGAIN).await.unwrap();
    start_over(pull(&gateway, at(3), 100).await);
    start_over(pull(&gateway, at(4), 100).await);
    // Who has nothing begins by what rows are now, when one page is enough; else there is no going on.
    let page = pull(&gateway, at(0), 100).await.unwrap();
    assert_eq!(heard(&page), ["+kept"]);
    start_over(pull(&gateway, at(0), 1).await);
    let here = start(&gateway);
    push(&gateway, &admin, vec![gone("x", "kept", 2)])
        .await
        .unwrap();
    assert_eq!(heard(&pull(&gateway, here, 100).await.unwrap()), ["-kept"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn deletes_that_only_the_flushed_log_has_are_not_passed_over_in_silence() {
    let mut place = Place::new();
    place.config.pull_window = Duration::ZERO;
    let gateway = place.open().await;
    set(&gateway, MINE).await.unwrap();
    let admin = who("root", Role::Admin);
    let rows = ["kept", "gone"].map(|row| delta("x", (row, 0), Some("ana"), 1));
    push(&gateway, &admin, rows.to_vec()).await.unwrap();
    push(&gateway, &admin, vec![gone("x", "gone", 1)])
        .await
        .unwrap();
    place.clock.advance(1);
    gateway.flush(None).await.unwrap();
    drop(gateway);
    let gateway = place.open().await;
    start_over(pull(&gateway, at(2), 100).await);
    let page = pull(&gateway, at(0), 100).await.unwrap();
    assert_eq!(heard(&page), ["+kept"]);
    start_over(pull(&gateway, at(0), 1).await);
    let here = pull(&gateway, start(&gateway), 100).await.unwrap();
    assert_eq!(heard(&here), [""; 0]);
}
