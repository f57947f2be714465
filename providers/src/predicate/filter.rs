//! The JSON form of a condition: a column, an operator, and a value or a claim.
//!
//! **Invariant:** a filter says the same as its SQL spelling, with one exception that the wire fixes: of a claim
//! with several values `neq` wants none of them, and an order looks at the first only.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What stands before the name of a claim in a filter's value.
const CLAIM_PREFIX: &str = "jwt:";

/// Whether a condition tells a claim's values apart by their place in the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ListOrder {
    /// It takes them as a set.
    Ignored,
    /// It looks at the first.
    Counts,
}

/// How a filter compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FilterOp {
    /// Equal, to any of a claim's values.
    Eq,
    /// The same as `eq`.
    In,
    /// Different, from all of a claim's values.
    Neq,
    /// Greater.
    Gt,
    /// Less.
    Lt,
    /// Greater or equal.
    Gte,
    /// Less or equal.
    Lte,
}

impl FilterOp {
    /// The operator in SQL.
    pub(crate) fn sql(self) -> &'static str {
        match self {
            Self::Eq | Self::In => "=",
            Self::Neq => "<>",
            Self::Gt => ">",
            Self::Lt => "<",
            Self::Gte => ">=",
            Self::Lte => "<=",
        }
    }

    /// Whether it tells a claim's values apart by their place: an order looks at the first.
    #[must_use]
    pub fn list_order(self) -> ListOrder {
        match self {
            Self::Eq | Self::In | Self::Neq => ListOrder::Ignored,
            Self::Gt | Self::Lt | Self::Gte | Self::Lte => ListOrder::Counts,
        }
    }
}

/// One condition on a column, as sync rules in JSON write it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    /// The column, or `row_id`.
    pub column: String,
    /// The operator.
    pub op: FilterOp,
    /// A text that is read as the column's type, or `jwt:` and the name of a claim.
    pub value: String,
}

impl Filter {
    /// The claim that the value names, if it names one.
    #[must_use]
    pub fn claim(&self) -> Option<&str> {
        self.value.strip_prefix(CLAIM_PREFIX)
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ", self.column, self.op.sql())?;
        match self.claim() {
            Some(claim) => write!(f, "jwt('{claim}')"),
            None => write!(f, "{:?}", self.value),
        }
    }
}
