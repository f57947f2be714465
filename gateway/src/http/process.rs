//! What the operating system and the runtime say of this process, as gauges.
//!
//! **Invariant:** what the system does not tell is left out, never shown as zero.

use std::fs;

use prometheus::proto::{MetricFamily, MetricType};

use super::series::{family, gauge};

/// Tasks, threads, memory and descriptors.
pub(super) fn process() -> Vec<MetricFamily> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    let descriptors = fs::read_dir("/proc/self/fd")
        .ok()
        .map(|open| open.count() as u64);
    let tasks = tokio::runtime::Handle::current()
        .metrics()
        .num_alive_tasks() as u64;
    [
        (
            "lakesync_tasks",
            "Tasks of the runtime that have not ended.",
            Some(tasks),
        ),
        (
            "process_threads",
            "Threads, idle ones of the blocking pool counted.",
            field("Threads:"),
        ),
        (
            "process_resident_memory_bytes",
            "Memory that is in use, in bytes.",
            field("VmRSS:").map(|kib| kib * 1_024),
        ),
        ("process_open_fds", "Open files and sockets.", descriptors),
    ]
    .into_iter()
    .filter_map(|(name, help, value)| {
        value.map(|value| family((name, help), MetricType::GAUGE, vec![gauge(&[], value)]))
    })
    .collect()
}
