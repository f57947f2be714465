//! The integration tests of LakeSync: one binary, one module a subject.

#![expect(clippy::unwrap_used, reason = "a test ends where it fails")]

mod gateway;
mod merge_agreement;
mod small_histories;
mod sql;
mod system;
mod tidy;
