//! The objects of a lake's store below a folder, whoever wrote them, and deleting some.
//!
//! **Invariant**: what is listed is what the store has, not what tables say; and a deletion is of exactly the named
//! objects: one that is gone already is as good as deleted.

use std::fs::Metadata;
use std::time::UNIX_EPOCH;

use futures::stream::BoxStream;
use futures::{StreamExt as _, stream};
use iceberg::{Error, ErrorKind};
use object_store::ObjectStoreExt as _;
use object_store::path::Path;

use super::error::LakeError;
use super::warehouse::Warehouse;

/// Objects that are deleted at the same time: what one connection pool of a store has.
const CONCURRENT_DELETES: usize = 16;

const ACTION: &str = "list the files below";

/// An object of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredObject {
    /// Its URI, as manifests give it.
    pub uri: String,
    /// Its path in the store.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// When it was written, in milliseconds since 1970 by the store's clock.
    pub modified_ms: u64,
}

/// What could not be deleted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeftBehind {
    /// How many objects.
    pub count: usize,
    /// The first of them, and what the store said.
    pub first: Option<(String, String)>,
}

impl Warehouse {
    /// All objects below the folder `location` (a URI), in no order; also files that were never finished, which only a local
    /// disk has.
    ///
    /// # Errors
    /// `Iceberg` for a location outside the store, or one that cannot be read; each item, when the store cannot go on.
    pub async fn objects(
        &self,
        location: &str,
    ) -> Result<BoxStream<'static, Result<StoredObject, LakeError>>, LakeError> {
        let location = location.trim_end_matches('/').to_owned();
        let folder = self.object_path(&location)?;
        let drafts = self.storage().drafts(&location).await;
        let drafts = drafts
            .map_err(LakeError::iceberg(ACTION, &location))?
            .into_iter();
        let drafts: Vec<_> = drafts.map(|draft| Ok(unfinished(draft))).collect();
        let warehouse = self.clone();
        let listed = self.object_store().list(Some(&folder)).map(move |object| {
            let object = object
                .map_err(|e| Error::new(ErrorKind::Unexpected, e.to_string()))
                .map_err(LakeError::iceberg(ACTION, &location))?;
            Ok(StoredObject {
                uri: warehouse.uri(&object.location),
                path: object.location.to_string(),
                bytes: object.size,
                modified_ms: u64::try_from(object.last_modified.timestamp_millis()).unwrap_or(0),
            })
        });
        Ok(stream::iter(drafts).chain(listed).boxed())
    }

    /// What a file's URI is called in [`StoredObject::path`]. One of another store than the lake's is taken for the object
    /// of the same name in this one, so that whoever compares errs towards "it is the same".
    #[must_use]
    pub fn object_name(&self, uri: &str) -> String {
        if let Ok(path) = self.object_path(uri) {
            return path.to_string();
        }
        let after_scheme = uri.split_once("://").map_or(uri, |(_, rest)| rest);
        let name = after_scheme
            .split_once('/')
            .map_or(after_scheme, |(_, rest)| rest);
        name.trim_start_matches('/').to_owned()
    }

    /// Deletes objects by their URIs, some at a time; what is left behind is told, and keeps nothing else from going.
    pub async fn delete_objects(
        &self,
        uris: impl IntoIterator<Item = String> + Send,
    ) -> LeftBehind {
        let store = self.object_store();
        let uris: Vec<String> = uris.into_iter().collect();
        let deletes = uris.into_iter().map(|uri| {
            let store = &store;
            async move {
                let path: Result<Path, String> =
                    self.object_path(&uri).map_err(|error| error.to_string());
                let deleted = match path {
                    Ok(path) => store.delete(&path).await,
                    Err(error) => return Some((uri, error)),
                };
                match deleted {
                    Ok(()) | Err(object_store::Error::NotFound { .. }) => None,
                    // The store does not know names of unfinished files.
                    Err(error) => match self.storage().remove_draft(&uri).await {
                        Ok(()) => None,
                        Err(_) => Some((uri, error.to_string())),
                    },
                }
            }
        });
        let mut deletes = stream::iter(deletes).buffer_unordered(CONCURRENT_DELETES);
        let mut left = LeftBehind::default();
        while let Some(failed) = deletes.next().await {
            if let Some(failed) = failed {
                left.count += 1;
                left.first.get_or_insert(failed);
            }
        }
        left
    }
}

fn unfinished((uri, known): (String, Metadata)) -> StoredObject {
    let modified = known.modified().ok();
    let since = modified.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let modified_ms = since.and_then(|since| u64::try_from(since.as_millis()).ok());
    StoredObject {
        path: uri.trim_start_matches("file:///").to_owned(),
        bytes: known.len(),
        // One whose age is not known is young.
        modified_ms: modified_ms.unwrap_or(u64::MAX),
        uri,
    }
}
