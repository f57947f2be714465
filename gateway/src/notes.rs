//! What answers tell besides their content: what the warehouse holds, and which schemas there are.
//!
//! **Invariant:** the durable seq is never above what the warehouse has of every table.

use std::sync::{Arc, Mutex, PoisonError};

use lakesync_proto::{Notes, SchemaNote, Seq, TableSchema, schemas_hash};

use crate::gateway::Gateway;

/// The hash over the schemas that there were last, so that answers do not compute it again.
#[derive(Debug, Default)]
pub(crate) struct SchemasHash(Mutex<(Vec<Arc<TableSchema>>, Option<u64>)>);

impl SchemasHash {
    fn of(&self, schemas: &[Arc<TableSchema>]) -> u64 {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let same = held.0.len() == schemas.len()
            && held.0.iter().zip(schemas).all(|(a, b)| Arc::ptr_eq(a, b));
        match held.1.filter(|_| same) {
            Some(hash) => hash,
            None => {
                let hash = schemas_hash(schemas.iter().map(AsRef::as_ref));
                *held = (schemas.to_vec(), Some(hash));
                hash
            }
        }
    }
}

impl Gateway {
    /// Everything up to this seq is in the warehouse.
    #[must_use]
    pub fn durable(&self) -> Seq {
        // The seq first: what becomes visible afterwards may not be flushed.
        let visible = self.live.seq();
        let first_unflushed = self.live.hot().unflushed_from;
        let before = first_unflushed.and_then(|first| Seq::from_u64(first.as_u64() - 1).ok());
        before.map_or(visible, |flushed| flushed.min(visible))
    }

    /// The notes of an answer to a client that knows the schemas of this hash, or tells of none.
    pub(crate) fn notes(&self, known: Option<u64>, native: bool) -> Notes {
        let schemas = match known.is_some() || native {
            true => self.schema_note(known),
            false => None,
        };
        Notes {
            durable: Some(self.durable()),
            schemas,
            ..Notes::default()
        }
    }

    fn schema_note(&self, known: Option<u64>) -> Option<SchemaNote> {
        let schemas = self.live.schemas();
        let hash = self.schemas_hash.of(&schemas);
        if known == Some(hash) {
            return None;
        }
        let version = |schema: &Arc<TableSchema>| (schema.table.clone(), schema.version);
        Some(SchemaNote {
            hash,
            changed: known.is_some(),
            tables: schemas.iter().map(version).collect(),
        })
    }
}
