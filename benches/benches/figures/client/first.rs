//! The first sync: a million rows from an encoded checkpoint, in a process of its own, so that its memory is told from the
//! harness's.

use std::fs::File;
use std::io::{BufWriter, Read as _, Write as _};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use lakesync_benches::{Figure, Figures, peak_memory_mib, rate};
use lakesync_client::{LocalDb, Reply, Session, SessionOptions, Step};
use lakesync_proto::{ChunkReader, PullPage, Schemas, decode_chunk, encode_chunk};

use super::pages::{insert, rows};
use super::rows::{delta, page, schema, settled};
use super::{figure, open};

/// The argument that makes this program a client that syncs for the first time.
pub(crate) const FIRST_SYNC: &str = "first-sync-for-bench";

const ROWS: usize = 1_000_000;

/// Rows of a chunk: about the mebibyte that gateways aim for.
const CHUNK: usize = 4_000;

/// Bytes that a socket would give at a time.
const READ_BYTES: usize = 64 << 10;

pub(super) fn measure(figures: &mut Figures) {
    let folder = tempfile::tempdir().expect("a folder");
    let limit = insert(&folder.path().join("plain.db"), (ROWS, CHUNK));
    for (what, settled_rows) in [("settled rows", true), ("rows with clocks", false)] {
        write_checkpoint(&folder.path().join("checkpoint"), settled_rows);
        let (took, memory_mib) = in_a_process(folder.path());
        std::fs::remove_file(folder.path().join("client.db")).expect("it was there");
        figures.0.push(figure(
            format!("client: first sync of 1 M {what}"),
            ROWS,
            (took, limit),
            "-",
        ));
        figures.0.push(Figure {
            what: format!("client: first sync of 1 M {what}: peak memory"),
            figure: format!("{memory_mib} MiB"),
            limit: "-".to_owned(),
            ratio: format!("{:.0} rows/s", rate(ROWS, took)),
            target: "flat: <= 100 MiB",
        });
    }
}

fn write_checkpoint(path: &Path, settled_rows: bool) {
    let mut file = BufWriter::new(File::create(path).expect("a file"));
    for end in (CHUNK..=ROWS).step_by(CHUNK) {
        let numbers = end - CHUNK..end;
        let deltas = match settled_rows {
            true => numbers.flat_map(settled).collect(),
            false => numbers.map(delta).collect(),
        };
        let mut chunk: PullPage = page(deltas, ROWS, end < ROWS);
        chunk.notes.resume = Some(end.to_string());
        let bytes = encode_chunk(&chunk).expect("a small chunk");
        file.write_all(&bytes).expect("written");
    }
    file.flush().expect("written");
}

/// How long a client in its own process takes, and its greatest resident memory in MiB.
fn in_a_process(folder: &Path) -> (Duration, u64) {
    let program = std::env::current_exe().expect("this program");
    let output = Command::new(program)
        .arg(FIRST_SYNC)
        .arg(folder)
        .output()
        .expect("it starts");
    assert!(output.status.success(), "{output:?}");
    let told = String::from_utf8(output.stdout).expect("two numbers");
    let mut numbers = told
        .split_whitespace()
        .map(|number| number.parse().expect("a number"));
    let mut next = || numbers.next().expect("two numbers");
    (Duration::from_millis(next()), next())
}

/// Syncs `client.db` of a folder from its `checkpoint`; tells milliseconds and mebibytes.
#[expect(clippy::print_stdout, reason = "the harness reads the figures there")]
pub(crate) fn first_sync(folder: &Path) {
    let db = open(&folder.join("client.db"));
    let begun = Instant::now();
    load(&db, &folder.join("checkpoint"));
    let took_ms = begun.elapsed().as_millis();
    assert_eq!(rows(&db), ROWS);
    println!("{took_ms} {}", peak_memory_mib());
}

fn load(db: &LocalDb, checkpoint: &Path) {
    let mut session = Session::new(db.clone(), SessionOptions::once());
    let mut stream: Option<(Stream, _)> = None;
    loop {
        let reply = match session.next().expect("a step") {
            Step::Schemas => Reply::Schemas(Ok(vec![schema()])),
            Step::Checkpoint(request) => {
                let opened = Stream::open(checkpoint);
                let (opened, schemas) = stream.insert((opened, request.schemas));
                Reply::Chunk(Ok(opened.next(schemas.as_ref())))
            }
            Step::Chunk => {
                let (opened, schemas) = stream.as_mut().expect("it is open");
                Reply::Chunk(Ok(opened.next(schemas.as_ref())))
            }
            Step::Pull(_) => Reply::Pulled(Ok(page(Vec::new(), ROWS, false))),
            Step::Wait { .. } | Step::Stopped => break,
            other => panic!("a first sync asks for {other:?}"),
        };
        session.on_reply(reply).expect("applied");
    }
}

/// A checkpoint as it comes from a socket.
struct Stream {
    file: File,
    reader: ChunkReader,
}

impl Stream {
    fn open(path: &Path) -> Stream {
        Stream {
            file: File::open(path).expect("a checkpoint"),
            reader: ChunkReader::new(),
        }
    }

    fn next(&mut self, schemas: &dyn Schemas) -> Option<PullPage> {
        let mut buffer = vec![0; READ_BYTES];
        loop {
            if let Some(message) = self.reader.next_message().expect("a sound stream") {
                return Some(decode_chunk(&message, schemas).expect("a chunk"));
            }
            match self.file.read(&mut buffer).expect("read") {
                0 => return None,
                bytes => self.reader.feed(&buffer[..bytes]),
            }
        }
    }
}
