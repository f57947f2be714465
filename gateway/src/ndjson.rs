//! Deltas as plain files beside the lake, one JSON delta a line, for people without a catalog.
//!
//! ```text
//! <folder>/<gateway>/<table>/<arrival day>/<first seq>-<last seq>.ndjson
//! {"op":"INSERT","table":"t","rowId":"r1","clientId":"ana","columns":[…],"hlc":"…","deltaId":"…","seq":"1"}
//! ```
//! Steps of a flush: remove what a flush that did not get to its commit has left → write each day's file under
//! another name → fsync → rename → fsync the folder. Only then the log's commit.
//!
//! **Invariant:** every flushed delta stands in exactly one file. A crash before the commit, or a commit of which
//! nobody knows what became, leaves files that go beyond the log's last seq; the next flush takes away what is beyond
//! it, because it writes those deltas again.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lakesync_proto::{Epoch, Notes, PullPage, Seq, SeqDelta, encode_page_json};
use serde::Deserialize;
use serde_json::value::RawValue;
use uuid::Uuid;

/// How many deltas are in memory as text at a time.
const CHUNK_DELTAS: usize = 1_000;
const DAY_MS: u64 = 24 * 60 * 60 * 1000;
const EXTENSION: &str = "ndjson";

/// The deltas of one table that a flush is about to commit.
#[derive(Debug)]
pub(crate) struct TableFiles {
    /// The table's folder.
    pub(crate) folder: PathBuf,
    /// Everything up to this seq is in the log.
    pub(crate) flushed: Seq,
    /// The deltas by arrival day, ascending by seq.
    days: BTreeMap<u64, Vec<Arc<SeqDelta>>>,
}

impl TableFiles {
    /// Deltas above `flushed` with the moments they arrived (milliseconds since 1970), ascending by seq.
    pub(crate) fn new<'a>(
        folder: PathBuf,
        flushed: Seq,
        deltas: impl Iterator<Item = (&'a Arc<SeqDelta>, u64)>,
    ) -> Self {
        let mut days: BTreeMap<u64, Vec<Arc<SeqDelta>>> = BTreeMap::new();
        for (delta, arrived_ms) in deltas {
            let day = days.entry(arrived_ms / DAY_MS).or_default();
            day.push(Arc::clone(delta));
        }
        Self {
            folder,
            flushed,
            days,
        }
    }

    /// Writes the files; when this returns they survive a power cut. It blocks.
    pub(crate) fn write(&self) -> io::Result<()> {
        for (day, deltas) in &self.days {
            let folder = self.folder.join(day_name(*day));
            create_durably(&folder)?;
            remove_uncommitted(&folder, self.flushed)?;
            write_file(&folder, deltas)?;
        }
        Ok(())
    }
}

/// Makes a folder and those above it, with their names on disk.
fn create_durably(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let parent = folder.parent().filter(|parent| *parent != Path::new(""));
    if let Some(parent) = parent {
        create_durably(parent)?;
    }
    match fs::create_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    sync_folder(parent.unwrap_or(Path::new(".")))
}

/// Takes away what a flush wrote that was not committed: whole files, files that were cut off while they were written,
/// and the end of one that began with deltas that are committed by now.
fn remove_uncommitted(folder: &Path, flushed: Seq) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let Some((first, last)) = name.and_then(seqs) else {
            // Somebody else's file.
            continue;
        };
        let finished = path.extension().is_some_and(|end| end == EXTENSION);
        if first > flushed.as_u64() || !finished {
            fs::remove_file(&path)?;
        } else if last > flushed.as_u64() {
            cut(&path, (first, flushed))?;
        }
    }
    Ok(())
}

/// The first and the last seq that a name of ours says; with `.part` behind it the file was never finished.
fn seqs(name: &str) -> Option<(u64, u64)> {
    let name = name.strip_suffix(".part").unwrap_or(name);
    let range = name.strip_suffix(EXTENSION)?.strip_suffix('.')?;
    let (first, last) = range.split_once('-')?;
    Some((first.parse().ok()?, last.parse().ok()?))
}

/// Replaces a file by one with only its lines up to `flushed`.
fn cut(path: &Path, (first, flushed): (u64, Seq)) -> io::Result<()> {
    #[derive(Deserialize)]
    struct Line {
        seq: String,
    }
    let folder = path.parent().unwrap_or(Path::new("."));
    let draft = folder.join(format!("{first}-{flushed}.{EXTENSION}.part"));
    let mut out = BufWriter::new(File::create(&draft)?);
    let mut last = first;
    for line in BufReader::new(File::open(path)?).lines() {
        let line = line?;
        let of: Line = serde_json::from_str(&line)?;
        let seq: u64 = of.seq.parse().map_err(io::Error::other)?;
        if seq > flushed.as_u64() {
            break;
        }
        last = seq;
        writeln!(out, "{line}")?;
    }
    let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.sync_all()?;
    fs::rename(&draft, folder.join(format!("{first}-{last}.{EXTENSION}")))?;
    fs::remove_file(path)?;
    sync_folder(folder)
}

fn write_file(folder: &Path, deltas: &[Arc<SeqDelta>]) -> io::Result<()> {
    let (Some(first), Some(last)) = (deltas.first(), deltas.last()) else {
        return Ok(());
    };
    let name = format!("{}-{}.{EXTENSION}", first.seq, last.seq);
    let draft = folder.join(format!("{name}.part"));
    let mut out = BufWriter::new(File::create(&draft)?);
    for chunk in deltas.chunks(CHUNK_DELTAS) {
        write_lines(chunk, &mut out)?;
    }
    let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.sync_all()?;
    fs::rename(&draft, folder.join(name))?;
    sync_folder(folder)
}

/// The deltas in the form that the wire has them in, one a line.
fn write_lines(deltas: &[Arc<SeqDelta>], out: &mut impl Write) -> io::Result<()> {
    #[derive(Deserialize)]
    struct Page {
        deltas: Vec<Box<RawValue>>,
    }
    // Of the page only its deltas are written.
    let epoch = Epoch::parse(&Uuid::nil().to_string()).expect("a UUID is an epoch");
    let page = encode_page_json(&PullPage {
        deltas: deltas.to_vec(),
        cursor: Seq::ZERO,
        removed: Vec::new(),
        has_more: false,
        epoch,
        notes: Notes::default(),
    });
    let page: Page = serde_json::from_slice(&page)?;
    for line in page.deltas {
        out.write_all(line.get().as_bytes())?;
        out.write_all(b"\n")?;
    }
    Ok(())
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// The day (since 1970-01-01) as `YYYY-MM-DD`.
fn day_name(day: u64) -> String {
    let seconds = i64::try_from(day * DAY_MS / 1_000).unwrap_or(i64::MAX);
    // A clock that is off by more than 200,000 years has one day.
    let at = chrono::DateTime::from_timestamp(seconds, 0).unwrap_or_default();
    at.date_naive().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use lakesync_proto::{ClientId, DeltaKey, Hlc, Op, RowDelta, RowId, TableName};

    fn delta(seq: u64, row: &str) -> Arc<SeqDelta> {
        let key = DeltaKey {
            table: TableName::parse("t").unwrap(),
            row_id: RowId::parse(row).unwrap(),
            client_id: ClientId::parse("ana").unwrap(),
            hlc: Hlc::new(1_000, 0).unwrap(),
        };
        let delta = RowDelta::new(Op::Insert, key, Vec::new());
        let seq = Seq::from_u64(seq).unwrap();
        Arc::new(SeqDelta { seq, delta })
    }

    fn write(folder: &Path, flushed: u64, deltas: &[(Arc<SeqDelta>, u64)]) {
        let deltas = deltas.iter().map(|(delta, arrived)| (delta, *arrived));
        let flushed = Seq::from_u64(flushed).unwrap();
        TableFiles::new(folder.to_owned(), flushed, deltas)
            .write()
            .unwrap();
    }

    /// Every file's path below `folder`, with the row ids that its lines hold.
    fn files(folder: &Path) -> BTreeMap<String, Vec<String>> {
        let mut found = BTreeMap::new();
        for day in fs::read_dir(folder).unwrap() {
            for file in fs::read_dir(day.unwrap().path()).unwrap() {
                let path = file.unwrap().path();
                let name = path.strip_prefix(folder).unwrap().display().to_string();
                let text = fs::read_to_string(&path).unwrap();
                let rows = text.lines().map(|line| {
                    let delta: serde_json::Value = serde_json::from_str(line).unwrap();
                    delta["rowId"].as_str().unwrap().to_owned()
                });
                found.insert(name, rows.collect());
            }
        }
        found
    }

    fn expect(pairs: &[(&str, &[&str])]) -> BTreeMap<String, Vec<String>> {
        pairs
            .iter()
            .map(|(name, rows)| {
                let rows = rows.iter().map(|row| (*row).to_owned()).collect();
                ((*name).to_owned(), rows)
            })
            .collect()
    }

    #[test]
    fn days_have_their_names_in_the_calendar() {
        for (day, name) in [
            (0, "1970-01-01"),
            (59, "1970-03-01"),
            (11_016, "2000-02-29"),
            (20_454, "2026-01-01"),
            (47_540, "2100-02-28"),
            (47_541, "2100-03-01"),
        ] {
            assert_eq!(day_name(day), name);
        }
    }

    #[test]
    fn each_arrival_day_has_a_file_named_by_its_seqs_even_for_rows_with_line_breaks() {
        let folder = tempfile::tempdir().unwrap();
        let deltas = [(delta(3, "a\nb"), 5), (delta(4, "c"), DAY_MS)];
        write(folder.path(), 2, &deltas);
        assert_eq!(
            files(folder.path()),
            expect(&[
                ("1970-01-01/3-3.ndjson", &["a\nb"]),
                ("1970-01-02/4-4.ndjson", &["c"])
            ])
        );
    }

    #[test]
    fn what_a_flush_without_its_commit_has_left_is_replaced_and_what_was_committed_stays() {
        let folder = tempfile::tempdir().unwrap();
        let day = folder.path().join("1970-01-01");
        write(folder.path(), 0, &[(delta(1, "a"), 0)]);
        // Committed up to 1; the next flush writes 2 and dies, another one dies while it writes.
        write(folder.path(), 1, &[(delta(2, "b"), 0)]);
        fs::write(day.join("2-9.ndjson.part"), "{\"op").unwrap();
        fs::write(day.join("notes.txt"), "{\"rowId\":\"mine\"}").unwrap();
        write(folder.path(), 1, &[(delta(2, "b"), 0), (delta(3, "c"), 0)]);
        assert_eq!(
            files(folder.path()),
            expect(&[
                ("1970-01-01/1-1.ndjson", &["a"]),
                ("1970-01-01/2-3.ndjson", &["b", "c"]),
                ("1970-01-01/notes.txt", &["mine"]),
            ])
        );
    }

    #[test]
    fn a_file_that_goes_beyond_what_was_committed_is_cut_to_it() {
        let folder = tempfile::tempdir().unwrap();
        // What became of a flush up to 1 is not known, and what is flushed could not be looked up either: the next
        // one writes it all again. It turns out that 1 was committed, and nothing else.
        write(folder.path(), 0, &[(delta(1, "a\nb"), 0)]);
        let both = [(delta(1, "a\nb"), 0), (delta(3, "c"), 0)];
        write(folder.path(), 0, &both);
        write(folder.path(), 1, &[(delta(3, "c"), 0), (delta(4, "d"), 0)]);
        let expected = expect(&[
            ("1970-01-01/1-1.ndjson", &["a\nb"]),
            ("1970-01-01/3-4.ndjson", &["c", "d"]),
        ]);
        assert_eq!(files(folder.path()), expected);
        write(folder.path(), 4, &[(delta(5, "e"), DAY_MS)]);
        let mut later = expected;
        later.extend(expect(&[("1970-01-02/5-5.ndjson", &["e"])]));
        assert_eq!(files(folder.path()), later, "what is committed stays");
    }
}
