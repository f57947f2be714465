//! NDJSON.
