//! Maintenance while everything else goes on: two of a kind at once, pushes at full rate, lost replies, a year.

mod at_once;
mod lost_replies;
