//! The named defects of the TypeScript client (WIRE B 1.18 and C.1) against the real gateway, over HTTP.
//!
//! Invariant: each test is the shortest story in which that client lost, repeated or withheld an edit.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lakesync_client::{LocalDb, OutboxCounts, Refusal, TransportError};
use lakesync_gateway::GatewayConfig;
use lakesync_proto::{
    ClientId, ColumnChange, ColumnName, DeltaKey, Hlc, Op, Push, RowDelta, RowId, Seq, TableName,
    Value, WallClock as _,
};

use super::link::unreachable;
use super::served::{Meddling, Served};

const HOUR_MS: u64 = 3_600_000;

/// The titles of a database, sorted.
fn titles(db: &LocalDb) -> Vec<String> {
    let rows = db.rows("todos").unwrap();
    let titles = rows.values().map(|row| match row.get("title") {
        Some(Value::String(title)) => title.clone(),
        other => panic!("a title {other:?}"),
    });
    let mut titles: Vec<String> = titles.collect();
    titles.sort();
    titles
}

fn add(db: &LocalDb, title: &str) -> RowId {
    db.insert("todos", &[("title", title.into())]).unwrap()
}

/// Nothing waits, nothing is refused.
fn is_settled(db: &LocalDb) -> bool {
    let counts = db.outbox_counts().unwrap();
    counts
        == OutboxCounts {
            kept: counts.kept,
            ..OutboxCounts::default()
        }
}

/// How often the gateway's log has an edit with this title.
fn arrived(served: &Served, title: &str) -> usize {
    let page = served.gateway();
    let page = served
        .runtime
        .block_on(page.pull(Seq::ZERO, 10_000))
        .unwrap();
    let wrote = |delta: &RowDelta| {
        let value = Value::from(title);
        delta.columns.iter().any(|change| change.value == value)
    };
    page.deltas
        .iter()
        .filter(|delta| wrote(&delta.delta))
        .count()
}

fn delta(op: Op, row: &str, stamp: Hlc, (column, value): (&str, Value)) -> RowDelta {
    let key = DeltaKey {
        table: TableName::parse("todos").unwrap(),
        row_id: RowId::parse(row).unwrap(),
        client_id: ClientId::parse("somebody").unwrap(),
        hlc: stamp,
    };
    let column = ColumnName::parse(column).unwrap();
    RowDelta::new(op, key, vec![ColumnChange { column, value }])
}

fn push(served: &Served, deltas: Vec<RowDelta>) {
    let push = Push {
        client_id: ClientId::parse("somebody").unwrap(),
        deltas,
        last_seen: Seq::ZERO,
        schemas: None,
    };
    let gateway = served.gateway();
    served.runtime.block_on(gateway.push(push)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_1500_deltas_behind_gets_all_of_them() {
    Served::tell(GatewayConfig::default(), |served| {
        let (ana, bo) = (served.open("ana"), served.open("bo"));
        bo.sync(&served.transport()).unwrap();
        let sql = "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 1500)
                   INSERT INTO todos (row_id, title) SELECT 'row ' || n, 'title ' || n FROM n";
        ana.execute(sql, []).unwrap();
        ana.sync(&served.transport()).unwrap();
        let synced = bo.sync(&served.transport()).unwrap();
        assert_eq!(synced.applied, 1_500);
        assert_eq!(titles(&bo), titles(&ana));
        assert_eq!(titles(&bo).len(), 1_500);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_own_inserts_do_not_stand_in_the_way_of_others() {
    Served::tell(GatewayConfig::default(), |served| {
        let ana = served.open("ana");
        add(&ana, "own");
        ana.sync(&served.transport()).unwrap();
        drop(ana);
        let bo = served.open("bo");
        add(&bo, "of bo");
        bo.sync(&served.transport()).unwrap();
        let ana = served.open("ana");
        for _ in 0..3 {
            ana.sync(&served.transport()).unwrap();
            assert_eq!(titles(&ana), ["of bo", "own"]);
        }
        assert!(is_settled(&ana));
        assert_eq!(arrived(&served, "own"), 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_push_between_a_pull_and_a_push_is_seen() {
    Served::tell(GatewayConfig::default(), |served| {
        let (ana, bo) = (served.open("ana"), served.open("bo"));
        ana.sync(&served.transport()).unwrap();
        add(&ana, "own");
        add(&bo, "of bo");
        let mut meddling = Meddling::new(served.transport());
        meddling.before = Box::new(|| {
            bo.sync(&served.transport()).unwrap();
        });
        ana.sync(&meddling).unwrap();
        assert_eq!(titles(&ana), ["of bo", "own"]);
        bo.sync(&served.transport()).unwrap();
        assert_eq!(titles(&bo), ["of bo", "own"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_being_sent_when_the_program_ended_is_sent_again_and_counts_once() {
    Served::tell(GatewayConfig::default(), |served| {
        for (title, arrives) in [("lost on its way", false), ("lost on the way back", true)] {
            let ana = served.open("ana");
            add(&ana, title);
            let mut meddling = Meddling::new(served.transport());
            // The program ends in the middle of the exchange: the session never hears of it.
            match arrives {
                false => meddling.before = Box::new(|| panic!("the program ends")),
                true => meddling.after = Box::new(|_| panic!("the program ends")),
            }
            let ended = std::panic::AssertUnwindSafe(|| ana.sync(&meddling));
            assert!(std::panic::catch_unwind(ended).is_err());
            assert_eq!(arrived(&served, title), usize::from(arrives));
            drop(ana);
            let ana = served.open("ana");
            ana.sync(&served.transport()).unwrap();
            assert_eq!(arrived(&served, title), 1, "{title}");
            assert!(is_settled(&ana));
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_outlives_any_number_of_failures() {
    Served::tell(GatewayConfig::default(), |served| {
        let ana = served.open("ana");
        add(&ana, "stubborn");
        let failures = AtomicU64::new(0);
        for nth in 0..24 {
            let mut meddling = Meddling::new(served.transport());
            meddling.after = Box::new(|_| {
                failures.fetch_add(1, Ordering::Relaxed);
                match nth % 2 {
                    0 => Err(unreachable()),
                    _ => Err(TransportError::Refused(Box::new(Refusal {
                        status: 500,
                        code: "INTERNAL_ERROR".to_owned(),
                        message: "the server failed".to_owned(),
                        index: None,
                        request_id: None,
                        retry_after: None,
                        details: serde_json::Map::new(),
                    }))),
                }
            });
            ana.sync(&meddling).unwrap_err();
            let counts = ana.outbox_counts().unwrap();
            assert_eq!((counts.pending, counts.rejected), (1, 0), "{nth}");
        }
        assert!(failures.load(Ordering::Relaxed) >= 24);
        ana.sync(&served.transport()).unwrap();
        assert!(is_settled(&ana));
        assert_eq!(arrived(&served, "stubborn"), 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_edit_is_kept_with_its_reason_until_somebody_decides() {
    let config = GatewayConfig {
        late_window: Some(Duration::from_millis(HOUR_MS)),
        ..GatewayConfig::default()
    };
    Served::tell(config, |served| {
        let clock = Served::clock(2 * HOUR_MS);
        let ana = served.open_at("ana", std::sync::Arc::clone(&clock) as _);
        let too_late = add(&ana, "long ago");
        assert_eq!(titles(&ana), ["long ago"], "it is stamped by now");
        clock.advance(2 * HOUR_MS);
        add(&ana, "just now");
        let told = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let tell = std::sync::Arc::clone(&told);
        let _subscription = ana.on_dead_letter(move |letter| {
            tell.lock().unwrap().push(letter.row_id.clone());
        });
        for _ in 0..12 {
            ana.sync(&served.transport()).unwrap();
            let letters = ana.dead_letters(10).unwrap();
            assert_eq!(letters.len(), 1);
            assert_eq!(letters[0].row_id, too_late.as_str());
            assert_eq!(letters[0].reason.code, "LATE_DELTA");
            assert!(letters[0].is_too_late());
            assert_eq!(titles(&ana), ["just now"], "it shows no longer");
        }
        assert_eq!(*told.lock().unwrap(), [too_late.as_str()]);
        assert_eq!(arrived(&served, "just now"), 1, "it blocks nobody");
        let letters = ana.dead_letters(10).unwrap();
        ana.retry(letters[0].entry).unwrap();
        assert_eq!(titles(&ana), ["just now", "long ago"]);
        ana.sync(&served.transport()).unwrap();
        assert_eq!(arrived(&served, "long ago"), 1);
        assert!(is_settled(&ana));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_of_a_row_that_was_never_heard_of_shows() {
    Served::tell(GatewayConfig::default(), |served| {
        let ana = served.open("ana");
        ana.sync(&served.transport()).unwrap();
        let now = Hlc::new(lakesync::SystemClock.now_ms(), 0).unwrap();
        push(
            &served,
            vec![delta(Op::Update, "r", now, ("title", "sparse".into()))],
        );
        ana.sync(&served.transport()).unwrap();
        assert_eq!(titles(&ana), ["sparse"]);
        // Nor is one withheld because the row is deleted here and not sent yet.
        ana.delete("todos", "r").unwrap();
        let later = Hlc::new(now.wall_ms() + 2_000, 0).unwrap();
        push(
            &served,
            vec![delta(Op::Update, "r", later, ("title", "revived".into()))],
        );
        ana.sync(&served.transport()).unwrap();
        assert_eq!(titles(&ana), ["revived"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_of_what_was_seen_is_newer_than_it_though_its_writer_had_a_fast_clock() {
    Served::tell(GatewayConfig::default(), |served| {
        let (ana, bo) = (served.open("ana"), served.open("bo"));
        let ahead = Hlc::new(lakesync::SystemClock.now_ms() + 4_000, 7).unwrap();
        push(
            &served,
            vec![delta(Op::Insert, "r", ahead, ("title", "ahead".into()))],
        );
        ana.sync(&served.transport()).unwrap();
        ana.update("todos", "r", &[("title", "after".into())])
            .unwrap();
        assert_eq!(titles(&ana), ["after"]);
        ana.sync(&served.transport()).unwrap();
        bo.sync(&served.transport()).unwrap();
        assert_eq!(
            (titles(&ana), titles(&bo)),
            (vec!["after".into()], vec!["after".into()])
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_clients_that_write_different_columns_of_a_row_both_keep_theirs() {
    Served::tell(GatewayConfig::default(), |served| {
        let (ana, bo) = (served.open("ana"), served.open("bo"));
        let row = add(&ana, "shared");
        ana.sync(&served.transport()).unwrap();
        bo.sync(&served.transport()).unwrap();
        ana.update("todos", row.as_str(), &[("title", "of ana".into())])
            .unwrap();
        bo.update(
            "todos",
            row.as_str(),
            &[("done", true.into()), ("n", Value::Null)],
        )
        .unwrap();
        for db in [&bo, &ana, &bo] {
            db.sync(&served.transport()).unwrap();
        }
        let expected = BTreeMap::from([
            (ColumnName::parse("title").unwrap(), Value::from("of ana")),
            (ColumnName::parse("done").unwrap(), Value::Boolean(true)),
            (ColumnName::parse("n").unwrap(), Value::Null),
        ]);
        for db in [&ana, &bo] {
            assert_eq!(
                db.rows("todos").unwrap()[&row],
                expected,
                "{:?}",
                db.client_id()
            );
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_delta_and_many_of_one_stamp_reach_a_reader_whose_cursor_is_beyond_their_stamps() {
    Served::tell(GatewayConfig::default(), |served| {
        let ana = served.open("ana");
        let now_ms = lakesync::SystemClock.now_ms();
        let stamp = |behind_ms: u64| Hlc::new(now_ms - behind_ms, 0).unwrap();
        push(
            &served,
            vec![delta(Op::Insert, "new", stamp(0), ("title", "new".into()))],
        );
        ana.sync(&served.transport()).unwrap();
        let mut late: Vec<RowDelta> = (0..2_500)
            .map(|n| {
                delta(
                    Op::Insert,
                    &format!("same {n}"),
                    stamp(60_000),
                    ("title", "same".into()),
                )
            })
            .collect();
        late.push(delta(
            Op::Update,
            "new",
            stamp(30_000),
            ("title", "older".into()),
        ));
        push(&served, late);
        ana.sync(&served.transport()).unwrap();
        let titles = titles(&ana);
        assert_eq!(titles.len(), 2_501);
        assert_eq!(titles[0], "new", "the late one lost its cell");
    })
    .await;
}
