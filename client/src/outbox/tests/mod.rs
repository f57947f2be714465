//! The outbox against a gateway that is a list, in scenarios and in random histories.

mod answers;
mod dead_letters;
mod sending;
mod verdicts;
mod walk;
mod world;
