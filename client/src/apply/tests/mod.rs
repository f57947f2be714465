//! Pages and checkpoints, as they come from a gateway.

mod checkpoints;
mod pages;
mod schemas;
