//! Where data files are put: below a folder for their partition, whose name is for people.
//!
//! **Invariant**: a value of a user's never leads out of the table's folder, and never makes a name that a file system or
//! a URL reads otherwise. Which partition a file is of stands in its manifest; the folder is only a hint.

use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, SecondsFormat, Utc};
use futures::StreamExt as _;
use iceberg::Result;
use iceberg::io::FileIO;
use iceberg::spec::{
    Literal, PartitionKey, PrimitiveLiteral, PrimitiveType, TableMetadata, Transform, Type,
};
use iceberg::writer::file_writer::location_generator::{
    DefaultLocationGenerator, LocationGenerator,
};

use crate::scan::key_index_uri;

/// Files that are deleted at the same time.
const DELETES_AT_ONCE: usize = 8;

/// Characters of a value in a folder's name.
const VALUE_CHARS_MAX: usize = 64;

/// Makes the locations of a table's data files.
#[derive(Clone, Debug)]
pub(super) struct Locations {
    generator: DefaultLocationGenerator,
    made: Made,
}

impl Locations {
    pub(super) fn new(metadata: &TableMetadata) -> Result<Self> {
        Ok(Self {
            generator: DefaultLocationGenerator::new(metadata)?,
            made: Made::default(),
        })
    }

    /// Those that it makes from now on.
    pub(super) fn made(&self) -> Made {
        self.made.clone()
    }
}

/// The locations that one write has made, whether there are files yet or not. A clone is the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Made(Arc<Mutex<Vec<String>>>);

impl Made {
    fn add(&self, location: &str) {
        let mut made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        made.push(location.to_owned());
    }

    /// Deletes the files and their key indexes.
    pub(super) async fn discard(self, file_io: &FileIO) {
        let made = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        delete_files(file_io, made).await;
    }
}

/// Deletes data files or delete files that no snapshot has, with their key indexes. What cannot be deleted is left to
/// orphan removal.
pub(in crate::lake) async fn delete_files(file_io: &FileIO, paths: Vec<String>) {
    let both = paths
        .into_iter()
        .flat_map(|path| [key_index_uri(&path), path]);
    let deleted = futures::stream::iter(both).map(|path| async move {
        if let Err(error) = file_io.delete(&path).await {
            tracing::debug!(path, %error, "a file that no snapshot has stays behind");
        }
    });
    deleted
        .buffer_unordered(DELETES_AT_ONCE)
        .collect::<()>()
        .await;
}

impl LocationGenerator for Locations {
    fn generate_location(&self, partition: Option<&PartitionKey>, file_name: &str) -> String {
        let location = match partition {
            Some(key) if !PartitionKey::is_effectively_none(partition) => {
                let file = format!("{}/{file_name}", folder(key));
                self.generator.generate_location(None, &file)
            }
            _ => self.generator.generate_location(None, file_name),
        };
        self.made.add(&location);
        location
    }
}

/// `at_day=2026-01-31/country=de`.
fn folder(key: &PartitionKey) -> String {
    let types = key.spec().partition_type(key.schema());
    let types = types.expect("the spec is of this schema");
    let fields = key
        .spec()
        .fields()
        .iter()
        .zip(types.fields())
        .zip(key.data().iter());
    let parts = fields.map(|((field, typed), value)| {
        let text = match (field.transform, value) {
            (Transform::Identity, Some(Literal::Primitive(PrimitiveLiteral::Long(micros))))
                if is_time(&typed.field_type) =>
            {
                time_text(*micros)
            }
            (transform, value) => transform.to_human_string(&typed.field_type, value),
        };
        format!("{}={}", field.name, safe(&text))
    });
    parts.collect::<Vec<_>>().join("/")
}

fn is_time(field_type: &Type) -> bool {
    matches!(
        field_type,
        Type::Primitive(PrimitiveType::Timestamp | PrimitiveType::Timestamptz)
    )
}

/// Microseconds since 1970 for people; iceberg 0.10.1's own text overflows for those before.
fn time_text(micros: i64) -> String {
    match DateTime::<Utc>::from_timestamp_micros(micros) {
        Some(time) => time.to_rfc3339_opts(SecondsFormat::AutoSi, true),
        None => micros.to_string(),
    }
}

fn safe(value: &str) -> String {
    let plain = |c: char| match c {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '-' | '.' | '_' => c,
        _ => '_',
    };
    value.chars().take(VALUE_CHARS_MAX).map(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_a_text_whatever_it_is() {
        assert_eq!(time_text(-1), "1969-12-31T23:59:59.999999Z");
        assert_eq!(time_text(0), "1970-01-01T00:00:00Z");
        for far in [i64::MIN, i64::MAX] {
            assert_eq!(time_text(far), far.to_string());
        }
    }

    #[test]
    fn a_value_is_no_path() {
        assert_eq!(safe("../../etc/x y%2F"), ".._.._etc_x_y_2F");
        assert_eq!(safe("2026-01-31"), "2026-01-31");
        assert_eq!(safe(&"é".repeat(300)).len(), VALUE_CHARS_MAX);
    }
}
