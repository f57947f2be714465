//! The integration tests of LakeSync: one binary, one module a subject.

mod merge_agreement;
mod system;
