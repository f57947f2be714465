//! The objects of a lake's store below a folder, whoever wrote them, and deleting some.
//!
//! **Invariant**: what is listed is what the store has, not what tables say; and a deletion is of exactly the named
//! objects: one that is gone already is as good as deleted.

use futures::stream::BoxStream;
use futures::{StreamExt as _, stream};
use iceberg::{Error, ErrorKind};
use object_store::ObjectStoreExt as _;
use object_store::path::Path;

use super::error::LakeError;
use super::warehouse::Warehouse;

/// Objects that are deleted at the same time: what one connection pool of a store has.
const CONCURRENT_DELETES: usize = 16;

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
    /// All objects below the folder `location` (a URI), in no order.
    ///
    /// # Errors
    /// `Iceberg` for a location outside the store; each item, when the store cannot go on listing.
    pub fn objects(
        &self,
        location: &str,
    ) -> Result<BoxStream<'static, Result<StoredObject, LakeError>>, LakeError> {
        let folder = self.object_path(location.trim_end_matches('/'))?;
        let (warehouse, location) = (self.clone(), location.to_owned());
        let listed = self.object_store().list(Some(&folder)).map(move |object| {
            let object = object.map_err(|e| {
                let error = Error::new(ErrorKind::Unexpected, e.to_string());
                LakeError::iceberg("list the files below", &location)(error)
            })?;
            Ok(StoredObject {
                uri: warehouse.uri(&object.location),
                path: object.location.to_string(),
                bytes: object.size,
                modified_ms: u64::try_from(object.last_modified.timestamp_millis()).unwrap_or(0),
            })
        });
        Ok(listed.boxed())
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
                    Err(error) => Some((uri, error.to_string())),
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
