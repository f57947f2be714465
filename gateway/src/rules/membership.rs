//! The buckets that one state of a row belongs to, as bytes: what the durable log keeps beside every delta.
//!
//! ```text
//! membership ::= entry*                    none for a row that is not there, or that nobody may see
//! entry      ::= term u32 │ keys u8 │ values u32 │ key hash 16 bytes × keys │ values as a JSON array
//! ```
//! All numbers are big-endian. A term is one alternative of one bucket's condition for one table, numbered within
//! the rules' version. A key hash is that of a column's value which a claim must equal; the values are those that
//! the rest of the term's condition on claims asks for.
//!
//! **Invariant:** bytes that are none of ours belong to nobody: reading them never panics and shows nothing.

/// The bucket instances that one state of a row belongs to; encoded, as the durable log keeps it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Membership(pub(crate) Vec<u8>);

impl Membership {
    /// That of a row which is not there, or which nobody may see.
    pub(crate) const NONE: Self = Self(Vec::new());

    /// Whether nobody whom the rules bind sees the row.
    pub(crate) fn is_none(&self) -> bool {
        self.0.is_empty()
    }
}
