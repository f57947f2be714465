//! W3: live fan-out: a thousand WebSocket readers, a thousand deltas a second in pushes of 100.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::{Stream, StreamExt as _};
use lakesync_benches::load::{marked_push, marker};
use lakesync_benches::{Figure, Figures, cpu_time, p99};
use lakesync_proto::encode_push_json;
use tokio::runtime::Runtime;
use tokio_tungstenite::connect_async;

use crate::server::ServerProcess;

const READERS: usize = 1_000;
const PUSHES: usize = 100;
const EVERY: Duration = Duration::from_millis(100);

/// When each push was sent, and how long each reader waited for each.
#[derive(Default)]
struct Clockwork {
    sent: Mutex<Vec<Instant>>,
    waits: Mutex<Vec<Duration>>,
    frames: AtomicUsize,
}

pub(crate) fn measure(figures: &mut Figures) {
    let folder = tempfile::tempdir().expect("a folder");
    let server = ServerProcess::start(folder.path());
    let runtime = Runtime::new().expect("a runtime");
    let clockwork = Arc::new(Clockwork::default());
    let address = server.url.replace("http://", "ws://");
    let readers = runtime.block_on(async {
        let mut readers = Vec::new();
        for n in 0..READERS {
            let url = format!("{address}/v1/sync/public/ws?clientId=reader-{n}");
            let (socket, _) = connect_async(url).await.expect("a socket");
            readers.push(tokio::spawn(read(socket, Arc::clone(&clockwork))));
        }
        readers
    });
    let idle = server.resident_bytes();
    let (server_before, harness_before) = (server.cpu_time(), cpu_time());
    let begun = Instant::now();
    runtime.block_on(push_all(&server.url, &clockwork));
    runtime.block_on(async {
        for reader in readers {
            reader.await.expect("a reader that read everything");
        }
    });
    let (wall, server_cpu, harness_cpu) = (
        begun.elapsed(),
        server.cpu_time() - server_before,
        cpu_time() - harness_before,
    );
    let waits = std::mem::take(
        &mut *clockwork
            .waits
            .lock()
            .unwrap_or_else(PoisonError::into_inner),
    );
    assert_eq!(waits.len(), READERS * PUSHES);
    figures.0.push(Figure {
        what: format!("live, {READERS} WebSocket readers, 1,000 deltas/s in pushes of 100: p99 until read"),
        figure: format!(
            "{:.1} ms ({} frames; server {:.1} CPU-s, harness {:.1} CPU-s of {:.1} s; {} MB resident with all connected)",
            p99(waits).as_secs_f64() * 1e3,
            clockwork.frames.load(Ordering::Relaxed),
            server_cpu.as_secs_f64(),
            harness_cpu.as_secs_f64(),
            wall.as_secs_f64(),
            idle / 1_000_000
        ),
        limit: "-".to_owned(),
        ratio: "-".to_owned(),
        target: "<= 50 ms",
    });
}

async fn push_all(url: &str, clockwork: &Arc<Clockwork>) {
    let mut tick = tokio::time::interval(EVERY);
    for n in 0..PUSHES {
        tick.tick().await;
        let body = encode_push_json(&marked_push(0, 100, n));
        let url = format!("{url}/v1/sync/public/push");
        let clockwork = Arc::clone(clockwork);
        let sent = tokio::task::spawn_blocking(move || {
            clockwork
                .sent
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(Instant::now());
            let answer = ureq::post(&url)
                .header("content-type", "application/json")
                .send(&body);
            assert_eq!(answer.expect("accepted").status(), 200);
        });
        sent.await.expect("sent");
    }
}

/// Reads until the last push has come; a frame is one push.
async fn read<S>(mut socket: S, clockwork: Arc<Clockwork>)
where
    S: Stream<
            Item = Result<
                tokio_tungstenite::tungstenite::Message,
                tokio_tungstenite::tungstenite::Error,
            >,
        > + Unpin,
{
    let last = marker(PUSHES - 1);
    let mut waits = Vec::with_capacity(PUSHES);
    loop {
        let frame = socket
            .next()
            .await
            .expect("the socket stays open")
            .expect("a frame")
            .into_data();
        if frame.is_empty() {
            continue;
        }
        clockwork.frames.fetch_add(1, Ordering::Relaxed);
        // The marker stands in the first delta: no need to decode, which would measure the harness.
        let head = &frame[..frame.len().min(400)];
        let at = head
            .windows(5)
            .position(|window| window == b"push-")
            .expect("a marked push");
        let found = str::from_utf8(&head[at..at + 13]).expect("digits");
        let n: usize = found[5..].parse().expect("a number");
        let sent = clockwork
            .sent
            .lock()
            .unwrap_or_else(PoisonError::into_inner)[n];
        waits.push(sent.elapsed());
        if found == last {
            break;
        }
    }
    clockwork
        .waits
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .extend(waits);
}
