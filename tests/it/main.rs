//! The integration tests of LakeSync: one binary, one module a subject.

mod gateway;
mod merge_agreement;
mod sql;
mod system;
mod tidy;
