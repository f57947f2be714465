//! A condition as alternatives of conditions that all must hold.
//!
//! **Invariant:** a formula is true for the same rows as the expression that it was made of, unknown values
//! included: De Morgan's rules hold for SQL's three values, and no other rule is used.

use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator, lit};

/// The most alternatives of a condition; one with more is looked at as a whole, which is slower, not different.
const TERMS_MAX: usize = 32;

/// An expression without `NOT` above its parts.
#[derive(Clone, Debug)]
pub(super) enum Formula {
    /// All must hold.
    All(Vec<Formula>),
    /// One must hold.
    Any(Vec<Formula>),
    /// An expression that is no `AND`, `OR` or `NOT`.
    Atom(Expr),
}

/// Which of an expression and its negation is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sense {
    Holds,
    Fails,
}

impl Sense {
    fn turned(self) -> Self {
        match self {
            Self::Holds => Self::Fails,
            Self::Fails => Self::Holds,
        }
    }
}

impl Formula {
    /// The formula of an expression.
    pub(super) fn of(expr: Expr) -> Self {
        Self::in_sense(expr, Sense::Holds)
    }

    fn in_sense(expr: Expr, sense: Sense) -> Self {
        match expr {
            Expr::Not(inner) => Self::in_sense(*inner, sense.turned()),
            Expr::BinaryExpr(BinaryExpr { left, op, right })
                if matches!(op, Operator::And | Operator::Or) =>
            {
                let parts = chain(*left, op, *right);
                let parts = parts.into_iter();
                let parts = parts.map(|part| Self::in_sense(part, sense)).collect();
                match (op == Operator::And) == (sense == Sense::Holds) {
                    true => Self::All(parts),
                    false => Self::Any(parts),
                }
            }
            Expr::InList(list) => Self::Atom(Expr::InList(InList {
                negated: list.negated != (sense == Sense::Fails),
                ..list
            })),
            atom if sense == Sense::Fails => Self::Atom(Expr::Not(Box::new(atom))),
            atom => Self::Atom(atom),
        }
    }

    /// The alternatives, each a list of conditions that must all hold; none when there are more than [`TERMS_MAX`].
    pub(super) fn terms(&self) -> Option<Vec<Vec<Expr>>> {
        let bounded = |terms: Vec<Vec<Expr>>| (terms.len() <= TERMS_MAX).then_some(terms);
        match self {
            Self::Atom(atom) => Some(vec![vec![atom.clone()]]),
            Self::Any(parts) => parts.iter().try_fold(Vec::new(), |mut terms, part| {
                terms.extend(part.terms()?);
                bounded(terms)
            }),
            Self::All(parts) => parts.iter().try_fold(vec![Vec::new()], |terms, part| {
                let other = part.terms()?;
                if terms.len() * other.len() > TERMS_MAX {
                    return None;
                }
                let joined = |term: &Vec<Expr>| {
                    let both = |more: &Vec<Expr>| [term.as_slice(), more.as_slice()].concat();
                    other.iter().map(both).collect::<Vec<_>>()
                };
                Some(terms.iter().flat_map(joined).collect())
            }),
        }
    }

    /// The formula back as an expression, no deeper than it must be.
    pub(super) fn into_expr(self) -> Expr {
        match self {
            Self::Atom(atom) => atom,
            Self::All(parts) => balanced(parts, Operator::And).unwrap_or_else(|| lit(true)),
            Self::Any(parts) => balanced(parts, Operator::Or).unwrap_or_else(|| lit(false)),
        }
    }

    /// The formula with every atom replaced; one for which there is no replacement does not hold.
    pub(super) fn bound(&self, bind: &impl Fn(&Expr) -> Option<Expr>) -> Self {
        let all = |parts: &[Self]| parts.iter().map(|part| part.bound(bind)).collect();
        match self {
            Self::All(parts) => Self::All(all(parts)),
            Self::Any(parts) => Self::Any(all(parts)),
            Self::Atom(atom) => Self::Atom(bind(atom).unwrap_or_else(|| lit(false))),
        }
    }
}

/// The parts of `left op right`, in order: a chain is as deep as it is long, so it is taken apart in a loop.
fn chain(left: Expr, op: Operator, right: Expr) -> Vec<Expr> {
    let mut parts = vec![right];
    let mut rest = left;
    loop {
        match rest {
            Expr::BinaryExpr(BinaryExpr {
                left,
                op: same,
                right,
            }) if same == op => {
                parts.push(*right);
                rest = *left;
            }
            first => {
                parts.push(first);
                break;
            }
        }
    }
    parts.reverse();
    parts
}

fn balanced(mut parts: Vec<Formula>, op: Operator) -> Option<Expr> {
    match parts.len() {
        0 => None,
        1 => parts.pop().map(Formula::into_expr),
        count => {
            let second = parts.split_off(count / 2);
            let (left, right) = (balanced(parts, op)?, balanced(second, op)?);
            Some(Expr::BinaryExpr(BinaryExpr::new(
                Box::new(left),
                op,
                Box::new(right),
            )))
        }
    }
}
