//! What a token says of its holder, for sync rules.
//!
//! Invariant: a claim has at least one value, or is not there.

use std::collections::BTreeMap;

/// One value of a claim.
#[derive(Debug, Clone, PartialEq)]
pub enum ClaimValue {
    /// A text.
    Text(String),
    /// A number.
    Number(f64),
    /// True or false.
    Boolean(bool),
}

/// The claims of one token that sync rules may ask for, `sub` among them; a list has several values.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Claims(BTreeMap<String, Vec<ClaimValue>>);

impl Claims {
    /// No claims.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a claim; one without values is taken away.
    pub fn set(&mut self, name: impl Into<String>, values: Vec<ClaimValue>) {
        let name = name.into();
        match values.is_empty() {
            true => drop(self.0.remove(&name)),
            false => drop(self.0.insert(name, values)),
        }
    }

    /// The values of a claim, if it is there.
    pub fn get(&self, name: &str) -> Option<&[ClaimValue]> {
        self.0.get(name).map(Vec::as_slice)
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[ClaimValue])> {
        self.0
            .iter()
            .map(|(name, values)| (name.as_str(), values.as_slice()))
    }
}
