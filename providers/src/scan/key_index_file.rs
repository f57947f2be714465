//! The file beside a data file in which its key index is kept: `<data file>.keys`.
//!
//! No manifest names it, so no reader of the table takes it for data; it may be deleted at any time.
//!
//! **Invariant:** an index that is read is the one of the data file, whole and undamaged, or it is not used.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _, PutPayload};

use super::data_file::DataFile;
use super::key_index::{KeyIndex, OfFile};
use crate::lake::DataFileInfo;

/// How the name of an index's file ends.
const ENDING: &str = ".keys";

/// Files with fewer rows (10,000) get none: their row ids are read as fast.
pub(super) const KEPT_ROWS_MIN: u64 = 10_000;

/// So much larger than usual an index may be (1 MiB): those of files with very many row groups are.
const SLACK_BYTES: u64 = 1 << 20;

/// Whether it has been said that indexes cannot be kept: once is enough, there may be thousands of files.
static TOLD: AtomicBool = AtomicBool::new(false);

/// Where the key index of the data file at `uri` is kept: who deletes the data file deletes it too.
pub(crate) fn key_index_uri(uri: &str) -> String {
    format!("{uri}{ENDING}")
}

/// The place of one file's index.
#[derive(Clone, Debug)]
pub(super) struct KeyIndexFile {
    store: Arc<dyn ObjectStore>,
    path: Path,
    of: OfFile,
}

impl KeyIndexFile {
    /// That of `file`; none when the file is too small for one, or cannot be named.
    pub(super) fn of(file: &DataFile) -> Option<Self> {
        let info = file.info();
        let warehouse = file.table.warehouse();
        let path = warehouse.object_path(&key_index_uri(&info.path)).ok();
        path.filter(|_| info.rows >= KEPT_ROWS_MIN)
            .map(|path| Self {
                store: warehouse.object_store(),
                path,
                of: of_file(info),
            })
    }

    /// The index that is kept; none when it is missing, damaged, or of another file.
    pub(super) async fn load(self) -> Option<KeyIndex> {
        let found = match self.store.get(&self.path).await {
            Ok(found) => found,
            Err(object_store::Error::NotFound { .. }) => return None,
            Err(error) => {
                tracing::warn!(path = %self.path, %error, "a key index cannot be read; it is made anew");
                return None;
            }
        };
        let reason = if found.meta.size > KeyIndex::bytes_for(self.of.rows) + SLACK_BYTES {
            "it is too long".to_owned()
        } else {
            let of = self.of;
            let bytes = found.bytes().await.map_err(|error| error.to_string());
            let read = move || KeyIndex::read(bytes?, of).map_err(ToOwned::to_owned);
            // The checksum of some megabytes takes milliseconds.
            match tokio::task::spawn_blocking(read).await {
                Ok(Ok(index)) => return Some(index),
                Ok(Err(reason)) => reason,
                Err(stopped) => stopped.to_string(),
            }
        };
        tracing::warn!(path = %self.path, reason, "a key index is passed over; it is made anew");
        None
    }

    /// Keeps an index, whole or not at all. What prevents it is logged: the next process then makes the index anew.
    pub(super) async fn save(self, index: &KeyIndex) {
        let bytes = PutPayload::from(index.bytes().clone());
        if let Err(error) = self.store.put(&self.path, bytes).await {
            match TOLD.swap(true, Ordering::Relaxed) {
                false => {
                    tracing::warn!(path = %self.path, %error, "a key index cannot be kept; it is made anew after a restart");
                }
                true => tracing::debug!(path = %self.path, %error, "a key index cannot be kept"),
            }
        }
    }
}

/// What an index of a data file says of it.
pub(super) fn of_file(info: &DataFileInfo) -> OfFile {
    OfFile {
        bytes: info.bytes,
        rows: info.rows,
    }
}
