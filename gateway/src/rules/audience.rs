//! Everybody whose claims are the same for the rules in force: they see the same rows.
//!
//! **Invariant:** an audience never changes; other rules or other claims are another audience.

use super::membership::Membership;

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

    /// Whether no rule binds it.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        true
    }

    /// The version of the rules that it is of; 0 without rules.
    #[must_use]
    pub fn rules(&self) -> u64 {
        self.rules
    }

    /// The hash of the claims that the rules look at; 0 when they look at none.
    #[must_use]
    pub fn claims(&self) -> u64 {
        self.claims
    }

    /// Whether it sees a row of this membership, which must be of the same rules.
    pub(crate) fn sees(&self, _membership: &Membership) -> bool {
        true
    }

    /// Whether it may write a row of this membership, in a table whose writes are guarded.
    pub(crate) fn may_write(&self, _membership: &Membership) -> bool {
        true
    }
}
