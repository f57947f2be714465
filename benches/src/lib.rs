//! lakesync-benches
