//! `kill -9` in the middle of pushes, flushes and compactions, fifty times in a row.
//!
//! After every start: each acknowledged delta is there once, in pull and in SQL, and a batch is whole or absent.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc;

use crate::server::{Server, TABLE, answer, delta, push_body};

const KILLS: u64 = 50;
const BATCH: u64 = 5;
/// Long ago, so that no machine's clock refuses the stamps as too far ahead.
const START_MS: u64 = 1_700_000_000_000;

#[test]
fn fifty_kills_lose_no_acknowledged_delta_and_tear_no_batch() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("data");
    let mut sent = 0;
    let mut acknowledged = BTreeSet::new();
    for round in 0..KILLS {
        let mut server = Server::start(&dir);
        if round == 0 {
            assert_eq!(
                server.post("/v1/admin/schema/public", TABLE.as_bytes()).0,
                200
            );
        }
        verify(&server, sent, &acknowledged, round);
        // The batch whose answer the kill swallowed is sent again: it counts once, whatever became of it.
        let first = sent.saturating_sub(1);
        let (acks, ack) = mpsc::channel();
        let url = server.url.clone();
        let pushing = std::thread::spawn(move || push_until_killed(&url, first, &acks));
        let maintaining = maintain(&server.url, round);
        for _ in 0..=(round * 7 % 23) {
            acknowledged.insert(ack.recv().expect("the server answers until it is killed"));
        }
        server.kill();
        sent = pushing.join().unwrap();
        maintaining.join().unwrap();
        acknowledged.extend(ack.try_iter());
    }
    let server = Server::start(&dir);
    verify(&server, sent, &acknowledged, KILLS);
    assert!(
        acknowledged.len() > 300,
        "only {} batches were acknowledged",
        acknowledged.len()
    );
}

/// Pushes batch after batch until the server is gone; gives the number of the batch after the last one sent.
fn push_until_killed(url: &str, first: u64, acks: &mpsc::Sender<u64>) -> u64 {
    let mut batch = first;
    loop {
        let deltas = (0..BATCH).map(|n| {
            delta(
                "pusher",
                &format!("{batch}-{n}"),
                START_MS + batch,
                batch.cast_signed(),
            )
        });
        match answer(url, "/v1/sync/public/push", &push_body(deltas.collect())) {
            Ok((200, ack)) => {
                assert_eq!(ack["accepted"], BATCH);
                acks.send(batch).expect("the test listens");
            }
            Ok((status, said)) => panic!("batch {batch}: {status} {said}"),
            Err(_) => return batch + 1,
        }
        batch += 1;
    }
}

/// Flushes, or flushes and compacts, while the pushes go on; whether it gets that far is the kill's choice.
fn maintain(url: &str, round: u64) -> std::thread::JoinHandle<()> {
    let url = url.to_owned();
    std::thread::spawn(move || {
        let steps: &[(&str, &str)] = match round % 4 {
            0 => &[],
            1 => &[("/v1/admin/flush/public", "")],
            _ => &[
                ("/v1/admin/flush/public", ""),
                ("/v1/admin/sql", r#"{"sql": "call system.compact('t')"}"#),
            ],
        };
        for (path, body) in steps {
            match answer(&url, path, body.as_bytes()) {
                Ok((status, said)) => assert_eq!(status, 200, "{path}: {said}"),
                Err(_) => return,
            }
        }
    })
}

fn verify(server: &Server, sent: u64, acknowledged: &BTreeSet<u64>, round: u64) {
    let pulled = pull_all(server);
    let mut batches: BTreeMap<u64, u64> = BTreeMap::new();
    for row in &pulled {
        let batch = row.split('-').next().unwrap().parse().unwrap();
        *batches.entry(batch).or_default() += 1;
    }
    for (batch, count) in &batches {
        assert!(*batch < sent, "round {round}: batch {batch} was never sent");
        assert_eq!(
            *count, BATCH,
            "round {round}: batch {batch} is torn or there twice"
        );
    }
    for batch in acknowledged {
        assert!(
            batches.contains_key(batch),
            "round {round}: acknowledged batch {batch} is lost"
        );
    }
    let distinct: BTreeSet<&String> = pulled.iter().collect();
    assert_eq!(
        distinct.len(),
        pulled.len(),
        "round {round}: a row came twice"
    );
    for (table, column) in [("t", "row_id"), ("\"t$deltas\"", "_seq")] {
        let counted = server.sql(&format!(
            "select count(*) as n, count(distinct {column}) as d from {table}"
        ));
        assert_eq!(counted[0]["n"], pulled.len(), "round {round}: {table}");
        assert_eq!(counted[0]["d"], pulled.len(), "round {round}: {table}");
    }
}

/// Every row id, in arrival order; the seqs are 1, 2, 3, ….
fn pull_all(server: &Server) -> Vec<String> {
    let mut rows = Vec::new();
    let mut since = "0".to_owned();
    loop {
        let (status, page) = server.get(&format!(
            "/v1/sync/public/pull?since={since}&clientId=reader&limit=500"
        ));
        assert_eq!(status, 200, "{page}");
        for delta in page["deltas"].as_array().unwrap() {
            let seq: usize = delta["seq"].as_str().unwrap().parse().unwrap();
            rows.push(delta["rowId"].as_str().unwrap().to_owned());
            assert_eq!(seq, rows.len(), "seqs are dense");
        }
        since = page["serverHlc"].as_str().unwrap().to_owned();
        if page["hasMore"] == false {
            return rows;
        }
    }
}
