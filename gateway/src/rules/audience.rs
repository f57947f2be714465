//! Everybody whose claims are the same for the rules in force: they see the same rows.
//!
//! **Invariant:** an audience never changes; other rules or other claims are another audience. What it is asked is a
//! look-up by hash; a condition is evaluated once for each term, and, where a claim is compared by other than
//! equality, once for each value.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, RwLock};

use lakesync_proto::Claims;
use lakesync_providers::predicate::{Bound, claim_values};
use sha2::{Digest, Sha256};

use super::membership::{Entry, KeyHash, Membership, TermId, key_hash};
use super::terms::{Register, RuleTerm, Terms};

/// The holders of equal claims, as far as the rules look at them.
#[derive(Debug, Default)]
pub struct Audience {
    /// The version of the rules; 0 without rules.
    pub(crate) rules: u64,
    /// The hash of the claims that the rules look at; 0 when they look at none.
    pub(crate) claims: u64,
    /// Who it is; none when everything is seen.
    ruled: Option<Ruled>,
    /// Whether rules may bind it: then it sees everything only as long as the rules that it is of are in force.
    bindable: bool,
}

/// An audience that rules bind.
#[derive(Debug)]
struct Ruled {
    register: Arc<Register>,
    claims: Claims,
    /// What the claims mean for each term that was met; none when it is closed to them.
    admitted: RwLock<HashMap<TermId, Option<Arc<Admitted>>>>,
    /// Its number among all that were made, for what all of them remember together.
    number: u64,
}

/// A term that is open to an audience.
#[derive(Debug)]
struct Admitted {
    write: bool,
    keys: Vec<HashSet<KeyHash>>,
    condition: Option<Bound>,
}

impl Audience {
    /// The audience of those whom no rule binds.
    #[must_use]
    pub fn everything() -> Self {
        Self::default()
    }

    /// Everybody, under rules that bind nobody.
    pub(super) fn unbound(rules: u64) -> Self {
        Self {
            rules,
            bindable: true,
            ..Self::default()
        }
    }

    /// The holders of `claims`, whose hash is `hash`.
    pub(super) fn ruled(rules: u64, terms: &Terms, claims: &Claims, hash: u64) -> Self {
        let mut looked_at = Claims::new();
        for name in terms.claims.keys() {
            looked_at.set(name, claims.get(name).unwrap_or_default().to_vec());
        }
        Self {
            rules,
            claims: hash,
            ruled: Some(Ruled {
                register: Arc::clone(&terms.register),
                claims: looked_at,
                admitted: RwLock::default(),
                number: terms.register.audiences.fetch_add(1, Ordering::Relaxed),
            }),
            bindable: true,
        }
    }

    /// Whether no rule binds it.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.ruled.is_none()
    }

    /// Whether it is asked the same whatever rules are in force.
    #[must_use]
    pub fn is_free(&self) -> bool {
        !self.bindable
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
    pub(crate) fn sees(&self, membership: &Membership) -> bool {
        match &self.ruled {
            None => true,
            Some(ruled) => membership
                .entries()
                .any(|entry| ruled.admits(&entry).is_some()),
        }
    }

    /// Whether it may write a row of this membership, in a table whose writes are guarded.
    pub(crate) fn may_write(&self, membership: &Membership) -> bool {
        match &self.ruled {
            None => true,
            Some(ruled) => membership
                .entries()
                .any(|entry| ruled.admits(&entry).is_some_and(|admitted| admitted.write)),
        }
    }
}

impl Ruled {
    /// The term of an entry, when the audience's claims fit the entry.
    fn admits(&self, entry: &Entry<'_>) -> Option<Arc<Admitted>> {
        let admitted = self.admitted(entry.term)?;
        let keys = entry.keys();
        let fits = keys.len() == admitted.keys.len()
            && keys
                .zip(&admitted.keys)
                .all(|(key, held)| held.contains(key));
        let holds = |bound| self.decide(bound, entry);
        (fits && admitted.condition.as_ref().is_none_or(holds)).then_some(admitted)
    }

    fn admitted(&self, term: TermId) -> Option<Arc<Admitted>> {
        let known = self.admitted.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(admitted) = known.get(&term) {
            return admitted.clone();
        }
        drop(known);
        // A term that the rules do not have was of other rules, and is not remembered: what is, is bounded by them.
        let admitted = self.admit(&*self.register.get(term)?).map(Arc::new);
        let mut known = self
            .admitted
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        known.insert(term, admitted.clone());
        admitted
    }

    /// What the claims mean for a term.
    fn admit(&self, rule: &RuleTerm) -> Option<Admitted> {
        let term = rule.term();
        if let Some(gate) = term.gate() {
            self.register.evaluations.fetch_add(1, Ordering::Relaxed);
            if !gate.bind(&self.claims)?.holds(&[]) {
                return None;
            }
        }
        let hashes = |key: &lakesync_providers::predicate::Key| {
            let column_type = key.field.column_type;
            let values = claim_values(&self.claims, &key.claim, column_type).into_iter();
            let hashes = values.filter_map(|value| key_hash(&value, column_type));
            let hashes: HashSet<KeyHash> = hashes.collect();
            (!hashes.is_empty()).then_some(hashes)
        };
        Some(Admitted {
            write: rule.write,
            keys: term.keys().iter().map(hashes).collect::<Option<_>>()?,
            condition: match term.claim() {
                Some(claim) => Some(claim.bind(&self.claims)?),
                None => None,
            },
        })
    }

    /// Whether a condition holds for the values of an entry.
    fn decide(&self, bound: &Bound, entry: &Entry<'_>) -> bool {
        let mut hash = Sha256::new();
        hash.update(self.number.to_be_bytes());
        hash.update(entry.term.to_be_bytes());
        hash.update(entry.values);
        let key: KeyHash = *hash.finalize().first_chunk().expect("a hash has 32 bytes");
        if let Some(decided) = self.register.decided(&key) {
            return decided;
        }
        self.register.evaluations.fetch_add(1, Ordering::Relaxed);
        let values = entry.values(bound.fields());
        let holds = values.is_some_and(|values| bound.holds(&values));
        self.register.decide(key, holds);
        holds
    }
}
