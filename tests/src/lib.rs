//! What the tests of LakeSync stand on.
//!
//! [`oracle`] is a slow, obvious second opinion about the merge rule, and [`history`] makes seeded random
//! histories to hold it against. Invariant: nothing here calls the merge code of the product, so an agreement
//! between the two means something.

pub mod cells;
pub mod chores;
pub mod faulty;
pub mod history;
pub mod layouts;
pub mod oracle;
pub mod scattered;
pub mod schemas;
pub mod script;
pub mod world;
pub mod year;
