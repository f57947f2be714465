//! Where data files are put: below a folder for their partition, whose name is for people.
//!
//! **Invariant**: a value of a user's never leads out of the table's folder, and never makes a name that a file system or
//! a URL reads otherwise. Which partition a file is of stands in its manifest; the folder is only a hint.

use iceberg::Result;
use iceberg::spec::{PartitionKey, TableMetadata};
use iceberg::writer::file_writer::location_generator::{
    DefaultLocationGenerator, LocationGenerator,
};

/// Characters of a value in a folder's name.
const VALUE_CHARS_MAX: usize = 64;

/// Makes the locations of a table's data files.
#[derive(Clone, Debug)]
pub(super) struct Locations(DefaultLocationGenerator);

impl Locations {
    pub(super) fn new(metadata: &TableMetadata) -> Result<Self> {
        Ok(Self(DefaultLocationGenerator::new(metadata)?))
    }
}

impl LocationGenerator for Locations {
    fn generate_location(&self, partition: Option<&PartitionKey>, file_name: &str) -> String {
        match partition {
            Some(key) if !PartitionKey::is_effectively_none(partition) => {
                let file = format!("{}/{file_name}", folder(key));
                self.0.generate_location(None, &file)
            }
            _ => self.0.generate_location(None, file_name),
        }
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
        let value = field.transform.to_human_string(&typed.field_type, value);
        format!("{}={}", field.name, safe(&value))
    });
    parts.collect::<Vec<_>>().join("/")
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
    fn a_value_is_no_path() {
        assert_eq!(safe("../../etc/x y%2F"), ".._.._etc_x_y_2F");
        assert_eq!(safe("2026-01-31"), "2026-01-31");
        assert_eq!(safe(&"é".repeat(300)).len(), VALUE_CHARS_MAX);
    }
}
