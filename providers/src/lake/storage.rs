//! Iceberg's file access over the object store that DataFusion reads with.
//!
//! **Invariant**: a file that this storage reports as written is durable: its bytes, its name and
//! the directories above it. An object store promises that by itself; the local one does not, so
//! [`disk::Disk`] does it. The catalog's swap may therefore follow a write immediately.
//!
//! Iceberg wants a storage that can be serialised. What is serialised is the root's name; the live
//! handle is found again in a registry of the open ones.

mod disk;

use std::collections::HashMap;
use std::fs::Metadata;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use iceberg::io::{
    FileMetadata, FileRead, FileWrite, InputFile, OutputFile, Storage, StorageConfig,
    StorageFactory,
};
use iceberg::{Error, ErrorKind, Result};
use object_store::buffered::BufWriter;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use serde::{Deserialize, Serialize};

use disk::Disk;
pub(in crate::lake) use disk::{create_directory, sync_directory};

/// Bytes kept in memory before a file is streamed in parts of this size.
const PART_BYTES: usize = 10 * 1024 * 1024;

/// The open handles by root, so that a deserialised storage finds its store again.
static OPEN: LazyLock<Mutex<HashMap<String, Weak<Handle>>>> = LazyLock::new(Mutex::default);

/// One open root: the store, and the disk below it when it is local.
#[derive(Debug)]
struct Handle {
    root: String,
    scheme: Scheme,
    store: Arc<dyn ObjectStore>,
}

/// How a file's URI becomes a path in the store.
#[derive(Debug)]
enum Scheme {
    /// `file:///a/b` is `a/b` in a store rooted at `/`.
    Local(Disk),
    /// `<prefix>a/b` is `a/b`; the prefix ends in a slash.
    Remote { prefix: String },
}

/// [`Storage`] (and its factory) over an `Arc<dyn ObjectStore>`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "Root", into = "Root")]
pub struct LakeStorage {
    handle: Arc<Handle>,
}

/// What is left of a [`LakeStorage`] when it is serialised.
#[derive(Serialize, Deserialize)]
struct Root {
    root: String,
}

impl From<LakeStorage> for Root {
    fn from(storage: LakeStorage) -> Self {
        Self {
            root: storage.handle.root.clone(),
        }
    }
}

impl TryFrom<Root> for LakeStorage {
    type Error = String;

    fn try_from(Root { root }: Root) -> std::result::Result<Self, String> {
        let open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        open.get(&root)
            .and_then(Weak::upgrade)
            .map(|handle| Self { handle })
            .ok_or_else(|| format!("no lake is open at {root}: open it first"))
    }
}

impl LakeStorage {
    /// A storage on the local file system. `store` must be rooted at `/`. Directories up to
    /// `durable_root` are made durable with each file; the root itself is the caller's.
    #[must_use]
    pub fn local(store: Arc<dyn ObjectStore>, durable_root: PathBuf) -> Self {
        let root = format!("file://{}", durable_root.display());
        Self::open(root, Scheme::Local(Disk::new(durable_root)), store)
    }

    /// A storage on an object store; `prefix` is the URI of the store's root (`s3://bucket/`).
    #[must_use]
    pub fn remote(store: Arc<dyn ObjectStore>, prefix: &str) -> Self {
        let prefix = format!("{}/", prefix.trim_end_matches('/'));
        Self::open(prefix.clone(), Scheme::Remote { prefix }, store)
    }

    fn open(root: String, scheme: Scheme, store: Arc<dyn ObjectStore>) -> Self {
        let handle = Arc::new(Handle {
            root: root.clone(),
            scheme,
            store,
        });
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|_, handle| handle.strong_count() > 0);
        open.insert(root, Arc::downgrade(&handle));
        Self { handle }
    }

    /// The path in the object store of a file's URI.
    ///
    /// # Errors
    /// `DataInvalid` when the URI lies outside this storage.
    pub fn object_path(&self, uri: &str) -> Result<Path> {
        let relative = match &self.handle.scheme {
            Scheme::Local(_) => Some(strip_file_scheme(uri)),
            Scheme::Remote { prefix } => uri.strip_prefix(prefix.as_str()),
        };
        let relative = relative.ok_or_else(|| {
            Error::new(
                ErrorKind::DataInvalid,
                format!("{uri} lies outside {}", self.handle.root),
            )
        })?;
        Path::parse(relative).map_err(|e| {
            Error::new(ErrorKind::DataInvalid, format!("bad file name {uri}")).with_source(e)
        })
    }

    /// The URI of a path in the object store: what [`Self::object_path`] reads.
    #[must_use]
    pub fn uri(&self, path: &Path) -> String {
        match &self.handle.scheme {
            Scheme::Local(_) => format!("file:///{path}"),
            Scheme::Remote { prefix } => format!("{prefix}{path}"),
        }
    }

    /// The files below a folder that were never finished, where the store keeps such ones and does not list them.
    ///
    /// # Errors
    /// When a directory cannot be read.
    pub(in crate::lake) async fn drafts(&self, folder: &str) -> Result<Vec<(String, Metadata)>> {
        let Scheme::Local(disk) = &self.handle.scheme else {
            return Ok(Vec::new());
        };
        let drafts = disk.drafts(PathBuf::from(strip_file_scheme(folder))).await;
        let drafts = drafts.map_err(|e| {
            let message = format!("cannot list the unfinished files below {folder}");
            Error::new(ErrorKind::Unexpected, message).with_source(e)
        })?;
        let named = |(path, known): (PathBuf, Metadata)| {
            Some((format!("file://{}", path.to_str()?), known))
        };
        Ok(drafts.into_iter().filter_map(named).collect())
    }

    /// Removes a file that [`Self::drafts`] told of.
    pub(in crate::lake) async fn remove_draft(&self, uri: &str) -> std::io::Result<()> {
        match &self.handle.scheme {
            Scheme::Local(disk) => {
                disk.remove_draft(PathBuf::from(strip_file_scheme(uri)))
                    .await
            }
            Scheme::Remote { .. } => {
                Err(std::io::Error::other("this store has no unfinished files"))
            }
        }
    }

    /// Makes a written file durable where the store does not do it by itself.
    async fn settle(&self, uri: &str) -> Result<()> {
        match &self.handle.scheme {
            Scheme::Local(disk) => disk
                .settle(PathBuf::from(strip_file_scheme(uri)))
                .await
                .map_err(|e| {
                    Error::new(ErrorKind::Unexpected, format!("cannot sync {uri}")).with_source(e)
                }),
            Scheme::Remote { .. } => Ok(()),
        }
    }
}

/// `file:///a`, `file:/a` and `/a` all name `/a`. Nothing is percent-decoded, as in PyIceberg.
fn strip_file_scheme(uri: &str) -> &str {
    uri.strip_prefix("file://")
        .or_else(|| uri.strip_prefix("file:"))
        .unwrap_or(uri)
}

fn refused(action: &'static str, uri: &str) -> impl FnOnce(object_store::Error) -> Error {
    let message = format!("cannot {action} {uri}");
    move |source| Error::new(ErrorKind::Unexpected, message).with_source(source)
}

#[async_trait]
#[typetag::serde]
impl Storage for LakeStorage {
    async fn exists(&self, uri: &str) -> Result<bool> {
        match self.handle.store.head(&self.object_path(uri)?).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(e) => Err(refused("look for", uri)(e)),
        }
    }

    async fn metadata(&self, uri: &str) -> Result<FileMetadata> {
        let meta = self.handle.store.head(&self.object_path(uri)?).await;
        let size = meta.map_err(refused("read the size of", uri))?.size;
        Ok(FileMetadata { size })
    }

    async fn read(&self, uri: &str) -> Result<Bytes> {
        let path = self.object_path(uri)?;
        let found = self.handle.store.get(&path).await;
        let found = found.map_err(refused("open", uri))?;
        found.bytes().await.map_err(refused("read", uri))
    }

    async fn reader(&self, uri: &str) -> Result<Box<dyn FileRead>> {
        Ok(Box::new(Reader {
            path: self.object_path(uri)?,
            storage: self.clone(),
            uri: uri.to_owned(),
        }))
    }

    async fn write(&self, uri: &str, bytes: Bytes) -> Result<()> {
        let path = self.object_path(uri)?;
        let put = self.handle.store.put(&path, bytes.into()).await;
        put.map_err(refused("write", uri))?;
        self.settle(uri).await
    }

    async fn writer(&self, uri: &str) -> Result<Box<dyn FileWrite>> {
        let store = Arc::clone(&self.handle.store);
        let path = self.object_path(uri)?;
        Ok(Box::new(Writer {
            inner: Some(BufWriter::with_capacity(store, path, PART_BYTES)),
            storage: self.clone(),
            uri: uri.to_owned(),
        }))
    }

    async fn delete(&self, uri: &str) -> Result<()> {
        match self.handle.store.delete(&self.object_path(uri)?).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(e) => Err(refused("delete", uri)(e)),
        }
    }

    async fn delete_prefix(&self, uri: &str) -> Result<()> {
        if let Scheme::Local(disk) = &self.handle.scheme {
            let removed = disk
                .remove_tree(PathBuf::from(strip_file_scheme(uri)))
                .await;
            return removed.map_err(|e| {
                Error::new(ErrorKind::Unexpected, format!("cannot delete {uri}")).with_source(e)
            });
        }
        let prefix = self.object_path(uri)?;
        let store = &self.handle.store;
        let found = store.list(Some(&prefix)).map_ok(|meta| meta.location);
        store
            .delete_stream(found.boxed())
            .try_for_each(|_| std::future::ready(Ok(())))
            .await
            .map_err(refused("delete", uri))
    }

    async fn delete_stream(&self, mut uris: BoxStream<'static, String>) -> Result<()> {
        while let Some(uri) = uris.next().await {
            self.delete(&uri).await?;
        }
        Ok(())
    }

    fn new_input(&self, uri: &str) -> Result<InputFile> {
        Ok(InputFile::new(Arc::new(self.clone()), uri.to_owned()))
    }

    fn new_output(&self, uri: &str) -> Result<OutputFile> {
        Ok(OutputFile::new(Arc::new(self.clone()), uri.to_owned()))
    }
}

#[typetag::serde]
impl StorageFactory for LakeStorage {
    fn build(&self, _config: &StorageConfig) -> Result<Arc<dyn Storage>> {
        Ok(Arc::new(self.clone()))
    }
}

struct Reader {
    storage: LakeStorage,
    path: Path,
    uri: String,
}

#[async_trait]
impl FileRead for Reader {
    async fn read(&self, range: Range<u64>) -> Result<Bytes> {
        let read = self.storage.handle.store.get_range(&self.path, range);
        read.await.map_err(refused("read", &self.uri))
    }
}

struct Writer {
    storage: LakeStorage,
    inner: Option<BufWriter>,
    uri: String,
}

impl Writer {
    fn closed(&self) -> Error {
        Error::new(
            ErrorKind::DataInvalid,
            format!("{} is closed already", self.uri),
        )
    }
}

#[async_trait]
impl FileWrite for Writer {
    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        let Some(inner) = self.inner.as_mut() else {
            return Err(self.closed());
        };
        inner.put(bytes).await.map_err(refused("write", &self.uri))
    }

    async fn close(&mut self) -> Result<()> {
        let Some(mut inner) = self.inner.take() else {
            return Err(self.closed());
        };
        disk::shut_down(&mut inner).await.map_err(|e| {
            let message = format!("cannot finish writing {}", self.uri);
            Error::new(ErrorKind::Unexpected, message).with_source(e)
        })?;
        self.storage.settle(&self.uri).await
    }
}
