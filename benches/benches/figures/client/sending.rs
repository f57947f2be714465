//! 100,000 edits that were made offline, to a real gateway over HTTP.

use std::time::Duration;

use lakesync_benches::Figures;
use lakesync_client::{HttpTransport, Transport as _};
use lakesync_proto::{
    ClientId, DeltaKey, GatewayId, Push, RowDelta, Seq, encode_push_protobuf, limits,
};

use super::capture::fill;
use super::pages::insert;
use super::rows::{definition, delta};
use super::{figure, median, open, timed};
use crate::server::ServerProcess;

const EDITS: usize = 100_000;

pub(super) fn measure(figures: &mut Figures) {
    let took = median(push);
    let bare = median(push_bare);
    let limit = median(|| {
        let folder = tempfile::tempdir().expect("a folder");
        insert(&folder.path().join("plain.db"), (EDITS, 1_000))
    });
    figures.0.push(figure(
        "client: 100,000 pending edits pushed, and heard back".to_owned(),
        EDITS,
        (took, limit),
        "-",
    ));
    figures.0.push(figure(
        "client: the same deltas pushed by nobody's database".to_owned(),
        EDITS,
        (bare, limit),
        "-",
    ));
}

fn transport(server: &ServerProcess) -> HttpTransport {
    let gateway = GatewayId::parse("public").expect("an id");
    let transport = HttpTransport::new(&server.url, gateway).expect("an address");
    transport.put_schema(&definition()).expect("a table");
    transport
}

/// From the first request until everything is acknowledged and confirmed by pages.
fn push() -> Duration {
    let folder = tempfile::tempdir().expect("a folder");
    let lake = folder.path().join("lake");
    std::fs::create_dir(&lake).expect("a folder");
    let server = ServerProcess::start(&lake);
    let transport = transport(&server);
    let db = open(&folder.path().join("client.db"));
    fill(&db, EDITS);
    timed(|| {
        let synced = db.sync(&transport).expect("synced");
        let edits = u64::try_from(EDITS).expect("a small number");
        assert_eq!((synced.acknowledged, synced.rejected), (edits, 0));
    })
}

/// The same bodies, made beforehand.
fn push_bare() -> Duration {
    let folder = tempfile::tempdir().expect("a folder");
    let lake = folder.path().join("lake");
    std::fs::create_dir(&lake).expect("a folder");
    let server = ServerProcess::start(&lake);
    transport(&server);
    let bodies: Vec<Vec<u8>> = (0..EDITS)
        .step_by(limits::PUSH_DELTAS_MAX / 2)
        .map(body)
        .collect();
    let url = format!("{}/v1/sync/public/push", server.url);
    let agent = ureq::Agent::new_with_defaults();
    timed(|| {
        for body in &bodies {
            let answer = agent
                .post(&url)
                .header("content-type", "application/x-protobuf")
                .send(body.as_slice());
            assert_eq!(answer.expect("accepted").status(), 200);
        }
    })
}

fn body(first: usize) -> Vec<u8> {
    let client_id = ClientId::parse("bench").expect("an id");
    let own = |n: usize| {
        let delta = delta(n);
        let key = DeltaKey {
            client_id: client_id.clone(),
            ..delta.key()
        };
        RowDelta::new(delta.op, key, delta.columns)
    };
    encode_push_protobuf(&Push {
        deltas: (first..first + limits::PUSH_DELTAS_MAX / 2)
            .map(own)
            .collect(),
        client_id: client_id.clone(),
        last_seen: Seq::ZERO,
        schemas: None,
    })
}
