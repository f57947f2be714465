//! Everybody whose claims are the same for the rules in force: they see the same rows.

/// The bucket instances that one state of a row belongs to; encoded, as the durable log keeps it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Membership(pub(crate) Vec<u8>);

/// The holders of equal claims, as far as the rules look at them.
#[derive(Debug, Default)]
pub struct Audience {
    /// The version of the rules; 0 without rules.
    pub(crate) rules: u64,
    /// The hash of the claims that the rules look at; 0 when they look at none.
    pub(crate) claims: u64,
}

impl Audience {
    /// The audience of those whom no rule binds.
    #[must_use]
    pub fn everything() -> Self {
        Self::default()
    }
}
