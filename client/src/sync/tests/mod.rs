//! Sessions against a gateway in memory.

mod fake_gateway;
mod live;
mod random;
mod scenarios;
mod schemas;
mod two_programs;
mod world;
