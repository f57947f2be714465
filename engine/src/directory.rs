//! The data directory: what lies where, and that one process owns it.
//!
//! ```text
//! lakesync-data/
//! ├── lakesync.json       {"format": 1}
//! ├── lakesync.lock       locked while a process owns the directory; says who and where it listens
//! ├── catalog.db          the Iceberg catalog (PyIceberg opens it too)
//! ├── lakesync.toml       the configuration, when somebody wrote one
//! ├── gateways/<g>.db     one durable log a gateway
//! ├── gateways/<g>.actions.db  its actions that wait for a webhook, when there are connectors
//! ├── ndjson/             flushed deltas as plain files, when flush.format says so
//! └── warehouse/          Iceberg tables: Parquet and metadata
//! ```
//! **Invariant:** the lock is the operating system's, so it ends with the process, however that ends.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lakesync_proto::GatewayId;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

const FORMAT: u64 = 1;

/// The process that owns a data directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Its process id.
    pub pid: u32,
    /// The base URL of its server, when it serves.
    pub url: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Format {
    format: u64,
}

/// A data directory that this process owns.
#[derive(Debug)]
pub struct DataDirectory {
    root: PathBuf,
    lock: Arc<File>,
}

impl DataDirectory {
    /// Takes the directory at `root`, making it when there is none.
    ///
    /// # Errors
    /// [`Error::Held`] when another process owns it, [`Error::Directory`] when it cannot be used or was
    /// written by a newer format.
    pub fn take(root: &Path) -> Result<Self> {
        let at = |path: &Path, error: std::io::Error| Error::Directory {
            path: path.to_owned(),
            reason: error.to_string(),
        };
        make_private(root).map_err(|error| at(root, error))?;
        fs::create_dir_all(root.join("gateways")).map_err(|error| at(root, error))?;
        let root = root.canonicalize().map_err(|error| at(root, error))?;
        let path = root.join("lakesync.lock");
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let mut lock = options.open(&path).map_err(|error| at(&path, error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                lock.read_to_string(&mut text)
                    .map_err(|error| at(&path, error))?;
                return Err(Error::Held {
                    path: root,
                    holder: serde_json::from_str(&text).ok(),
                });
            }
            Err(TryLockError::Error(error)) => return Err(at(&path, error)),
        }
        let directory = Self {
            root,
            lock: Arc::new(lock),
        };
        directory.check_format()?;
        directory.say(None)?;
        Ok(directory)
    }

    /// Writes into the lock where this process listens, so that others find the server.
    ///
    /// # Errors
    /// [`Error::Directory`] when the file cannot be written.
    pub fn say(&self, url: Option<&str>) -> Result<()> {
        let holder = Holder {
            pid: std::process::id(),
            url: url.map(str::to_owned),
        };
        let text = serde_json::to_vec(&holder).expect("a process id and a text are JSON");
        let mut lock = self.lock.as_ref();
        let written = lock
            .set_len(0)
            .and_then(|()| lock.rewind())
            .and_then(|()| lock.write_all(&text));
        written.map_err(|error| Error::Directory {
            path: self.root.join("lakesync.lock"),
            reason: error.to_string(),
        })
    }

    /// The lock itself: whoever holds it keeps the directory.
    pub(crate) fn lock(&self) -> Arc<File> {
        Arc::clone(&self.lock)
    }

    /// The directory, absolute.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The folder of the gateways' databases.
    #[must_use]
    pub fn gateway_folder(&self) -> PathBuf {
        self.root.join("gateways")
    }

    /// The database of a gateway's actions. No gateway is called so: a name has no dot.
    pub(crate) fn actions_database(&self, gateway: &GatewayId) -> PathBuf {
        self.gateway_folder().join(format!("{gateway}.actions.db"))
    }

    /// The names of the gateways that have a database here.
    ///
    /// # Errors
    /// [`Error::Directory`] when the folder cannot be listed.
    pub fn gateways(&self) -> Result<Vec<String>> {
        let folder = self.gateway_folder();
        let at = |error: std::io::Error| Error::Directory {
            path: folder.clone(),
            reason: error.to_string(),
        };
        let mut names = Vec::new();
        for entry in fs::read_dir(&folder).map_err(at)? {
            let name = entry.map_err(at)?.file_name();
            let name = name.to_str().and_then(|name| name.strip_suffix(".db"));
            names.extend(name.filter(|name| !name.contains('.')).map(str::to_owned));
        }
        names.sort();
        Ok(names)
    }

    /// Under another name first, so that a crash never leaves half a file.
    fn write_format(&self, path: &Path) -> std::io::Result<()> {
        let text = serde_json::to_vec(&Format { format: FORMAT }).expect("a number is JSON");
        let draft = path.with_extension("json.new");
        let mut file = File::create(&draft)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&draft, path)?;
        File::open(&self.root)?.sync_all()
    }

    fn check_format(&self) -> Result<()> {
        let path = self.root.join("lakesync.json");
        let wrong = |reason: String| Error::Directory {
            path: path.clone(),
            reason,
        };
        match fs::read(&path) {
            Ok(text) => {
                let found: Format = serde_json::from_slice(&text).map_err(|error| {
                    wrong(format!("is not what LakeSync writes there ({error}); restore it as {{\"format\": {FORMAT}}}"))
                })?;
                match found.format {
                    FORMAT => Ok(()),
                    newer => Err(wrong(format!(
                        "the directory has format {newer}, this program knows {FORMAT}; open it with the version that \
                         wrote it, or a later one"
                    ))),
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => self
                .write_format(&path)
                .map_err(|error| wrong(error.to_string())),
            Err(error) => Err(wrong(error.to_string())),
        }
    }
}

/// Makes a directory that only its owner enters: databases and Parquet files are readable to whoever reaches them.
fn make_private(root: &Path) -> std::io::Result<()> {
    const OTHERS: u32 = 0o077;
    if let Some(parent) = root.parent() {
        fs::create_dir_all(parent)?;
    }
    match DirBuilder::new().mode(0o700).create(root) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            let mode = fs::metadata(root)?.permissions().mode();
            if mode & OTHERS != 0 {
                tracing::warn!(
                    directory = %root.display(),
                    mode = format!("{:03o}", mode & 0o777),
                    "other users of this machine may read the data; `chmod 700` the directory unless they should"
                );
            }
            Ok(())
        }
        made => made,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_owner_is_told_who_holds_the_directory() {
        let folder = tempfile::tempdir().unwrap();
        let first = DataDirectory::take(folder.path()).unwrap();
        first.say(Some("http://127.0.0.1:1")).unwrap();
        let Err(Error::Held { holder, .. }) = DataDirectory::take(folder.path()) else {
            panic!("two owners");
        };
        let expected = Holder {
            pid: std::process::id(),
            url: Some("http://127.0.0.1:1".to_owned()),
        };
        assert_eq!(holder, Some(expected));
        drop(first);
        DataDirectory::take(folder.path()).unwrap();
    }

    #[test]
    fn a_new_directory_is_its_owners_alone() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("new").join("data");
        DataDirectory::take(&root).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&root), 0o700);
        fs::set_permissions(&root, fs::Permissions::from_mode(0o755)).unwrap();
        DataDirectory::take(&root).unwrap();
        assert_eq!(mode(&root), 0o755, "what somebody chose stays");
    }

    #[test]
    fn a_newer_format_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("lakesync.json"), r#"{"format": 2}"#).unwrap();
        let error = DataDirectory::take(folder.path()).unwrap_err().to_string();
        assert!(error.contains("format 2"), "{error}");
    }
}
