//! Reading a base without the rows that hot deltas touch: by their position, not by a join.
//!
//! ```text
//!   row ids of the overlay ──► key index of each base file ──► positions ──┬─► read: the base's values of those rows
//!                                                                          └─► mask: every other row of the file
//! ```
//! A key index ([`key_index`]) is made by reading one column of a file once and is kept for all views of the process
//! ([`key_indexes`]) and, beside the file, for the next process ([`key_index_file`]). [`locator`] asks those of the files
//! that may have a row ([`asked`]) and reads what they name, which proves it; [`mask`] turns positions into what
//! the Parquet reader skips; [`view_source`] is the leaf of the plan, which says what it does in `EXPLAIN`. Whole files are left out
//! by the bounds of their manifests ([`file_bounds`]) and by their buckets ([`buckets`]). A column is found in a file by its field id ([`field_ids`]).
//! Rows that a snapshot's delete files take away ([`dead`]) are nobody's: neither an index names them nor a scan gives them.
//!
//! **Invariant:** a masked scan gives exactly the rows of the base whose id is not in the overlay; what remains of a
//! file is final, so every filter may be pushed into it.

mod asked;
mod bounded_map;
#[cfg(test)]
mod bounds_tests;
mod buckets;
mod carried_bounds;
mod data_file;
mod dead;
mod division;
mod field_ids;
mod file_bounds;
mod file_order;
mod file_rows;
mod footers;
mod guarded_source;
#[cfg(test)]
mod index_tests;
mod key_index;
mod key_index_file;
mod key_indexes;
mod known_files;
mod locator;
mod mask;
mod new_keys;
#[cfg(test)]
mod order_tests;
mod overlay_table;
mod patch;
mod place_check;
mod place_search;
#[cfg(test)]
mod place_tests;
mod places;
mod seed;
mod split;
mod table_statistics;
#[cfg(test)]
pub(crate) mod tests;
mod touched_rows;
mod view_source;

pub use dead::{Dead, DeadRows};
pub(crate) use dead::{Sorted, applies};
pub(crate) use division::{Division, Patching};
pub(crate) use field_ids::FieldIds;
pub(crate) use file_bounds::field_id;
pub(crate) use file_order::{as_asked_for, in_order};
pub use file_rows::FileRows;
pub(crate) use footers::LakeReaders;
pub(crate) use guarded_source::GuardedSource;
pub(crate) use key_index_file::key_index_uri;
pub(crate) use key_indexes::KeyIndexes;
pub(crate) use known_files::KnownFiles;
pub(crate) use locator::{Columns, Found, Locator, Next};
pub(crate) use mask::{FileMask, Masks};
pub(crate) use new_keys::NewKeys;
pub(crate) use overlay_table::OverlayTable;
pub(crate) use patch::{Chunk, Completion, FilePatch, LiveChunk, PatchSource, PatchedRow, Place};
pub(crate) use split::{Moment, Split};
pub(crate) use view_source::ViewSource;

pub use place_check::PlaceCheck;
pub use places::Places;
pub use touched_rows::TouchedRows;
