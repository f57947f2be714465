//! Durability on a local disk, which the local object store does not give.
//!
//! **Invariant**: after [`Disk::settle`] a crash of the machine loses neither the file nor any
//! directory between it and the root. A directory is synced once and then remembered: seeing that it
//! exists is not enough, because another writer may have made it a moment ago and not synced it yet.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use object_store::buffered::BufWriter;
use tokio::io::AsyncWrite;

/// The local disk below one root directory.
#[derive(Debug, Clone)]
pub(super) struct Disk {
    root: PathBuf,
    /// Directories whose entry in their parent is durable.
    settled: Arc<Mutex<HashSet<PathBuf>>>,
}

impl Disk {
    pub(super) fn new(root: PathBuf) -> Self {
        Self {
            root,
            settled: Arc::default(),
        }
    }

    /// Syncs a written file, its directory, and the entries of the directories above it.
    pub(super) async fn settle(&self, file: PathBuf) -> io::Result<()> {
        let disk = self.clone();
        blocking(move || {
            File::open(&file)?.sync_all()?;
            let Some(parent) = file.parent() else {
                return Ok(());
            };
            sync_directory(parent)?;
            disk.settle_directories(parent)
        })
        .await
    }

    /// Removes a directory with all that is in it; anything else is left alone.
    pub(super) async fn remove_tree(&self, directory: PathBuf) -> io::Result<()> {
        let settled = Arc::clone(&self.settled);
        blocking(move || {
            if !directory.is_dir() {
                return Ok(());
            }
            let mut settled = settled.lock().unwrap_or_else(PoisonError::into_inner);
            settled.retain(|known| !known.starts_with(&directory));
            drop(settled);
            std::fs::remove_dir_all(&directory)
        })
        .await
    }

    /// The drafts below a directory: what is left of a file that was being written when the process ended. The store
    /// writes under `<name>#<number>` until a file is whole, and neither lists nor deletes such a name itself.
    pub(super) async fn drafts(&self, directory: PathBuf) -> io::Result<Vec<(PathBuf, Metadata)>> {
        blocking(move || {
            let (mut open, mut found) = (vec![directory], Vec::new());
            while let Some(directory) = open.pop() {
                let entries = match std::fs::read_dir(&directory) {
                    Ok(entries) => entries,
                    Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                    Err(e) => return Err(e),
                };
                for entry in entries {
                    let entry = entry?;
                    let kind = entry.file_type()?;
                    if kind.is_dir() {
                        open.push(entry.path());
                    } else if kind.is_file() && is_draft(&entry.file_name()) {
                        found.push((entry.path(), entry.metadata()?));
                    }
                }
            }
            Ok(found)
        })
        .await
    }

    /// Removes a draft; one that is gone already is as good as removed, and any other file stays.
    pub(super) async fn remove_draft(&self, file: PathBuf) -> io::Result<()> {
        blocking(move || {
            if !file.file_name().is_some_and(is_draft) {
                return Err(io::Error::other("it is no draft"));
            }
            match std::fs::remove_file(&file) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
                _ => Ok(()),
            }
        })
        .await
    }

    fn settle_directories(&self, deepest: &Path) -> io::Result<()> {
        let new: Vec<&Path> = deepest
            .ancestors()
            .take_while(|directory| *directory != self.root && directory.starts_with(&self.root))
            .take_while(|directory| !self.is_settled(directory))
            .collect();
        for parent in new.iter().filter_map(|directory| directory.parent()) {
            sync_directory(parent)?;
        }
        // Only now, and all at once: who sees one of them relies on those above it.
        let mut settled = self.settled.lock().unwrap_or_else(PoisonError::into_inner);
        settled.extend(new.into_iter().map(Path::to_owned));
        Ok(())
    }

    fn is_settled(&self, directory: &Path) -> bool {
        let settled = self.settled.lock().unwrap_or_else(PoisonError::into_inner);
        settled.contains(directory)
    }
}

/// Creates a directory and its parents, and makes the new entries durable.
pub(in crate::lake) fn create_directory(directory: &Path) -> io::Result<()> {
    let missing: Vec<&Path> = directory
        .ancestors()
        .take_while(|path| !path.as_os_str().is_empty() && !path.exists())
        .collect();
    std::fs::create_dir_all(directory)?;
    for made in missing.iter().rev() {
        if let Some(parent) = made.parent() {
            let here = parent.as_os_str().is_empty();
            sync_directory(if here { Path::new(".") } else { parent })?;
        }
    }
    Ok(())
}

/// Makes a directory's entries durable.
pub(in crate::lake) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Sends what a buffered writer still holds and waits for the store's answer.
pub(super) async fn shut_down(writer: &mut BufWriter) -> io::Result<()> {
    std::future::poll_fn(|cx| Pin::new(&mut *writer).poll_shutdown(cx)).await
}

/// Whether the store gives this name to files that are not whole yet.
fn is_draft(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    let number = name.split_once('#').map(|(_, number)| number);
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|c| c.is_ascii_digit()))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(stopped) => Err(io::Error::other(stopped)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_remembered_once_it_is_synced() {
        let root = tempfile::tempdir().unwrap();
        let deep = root.path().join("a/b");
        std::fs::create_dir_all(&deep).unwrap();
        let disk = Disk::new(root.path().to_owned());
        disk.settle_directories(&deep).unwrap();
        assert!(disk.is_settled(&deep));
        assert!(disk.is_settled(&root.path().join("a")));
        assert!(!disk.is_settled(root.path()));
    }

    #[tokio::test]
    async fn a_removed_tree_is_forgotten() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("a/b/f");
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, b"x").unwrap();
        let disk = Disk::new(root.path().to_owned());
        disk.settle(file.clone()).await.unwrap();
        disk.remove_tree(root.path().join("a")).await.unwrap();
        assert!(!disk.is_settled(&root.path().join("a/b")));
        assert!(!root.path().join("a").exists());
    }

    #[tokio::test]
    async fn a_missing_file_cannot_be_settled() {
        let root = tempfile::tempdir().unwrap();
        let disk = Disk::new(root.path().to_owned());
        let missing = disk.settle(root.path().join("nothing")).await;
        assert_eq!(missing.unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[tokio::test]
    async fn drafts_are_what_the_store_left_unfinished_and_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        let deep = root.path().join("a/b");
        std::fs::create_dir_all(&deep).unwrap();
        for name in ["f.parquet", "f.parquet#1", "g#12", "h#", "i#x1"] {
            std::fs::write(deep.join(name), b"x").unwrap();
        }
        let disk = Disk::new(root.path().to_owned());
        let found = disk.drafts(root.path().to_owned()).await.unwrap();
        let mut names: Vec<_> = found.into_iter().map(|(path, _)| path).collect();
        names.sort();
        assert_eq!(names, [deep.join("f.parquet#1"), deep.join("g#12")]);
        disk.remove_draft(deep.join("g#12")).await.unwrap();
        disk.remove_draft(deep.join("g#12")).await.unwrap();
        assert!(disk.remove_draft(deep.join("f.parquet")).await.is_err());
        assert!(deep.join("f.parquet").exists() && !deep.join("g#12").exists());
        let missing = disk.drafts(root.path().join("missing")).await.unwrap();
        assert!(missing.is_empty());
    }
}
