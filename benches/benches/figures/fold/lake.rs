//! A lake that is put back to one state before each run: a fold can be measured only once on it.
//!
//! **Invariant:** it is always at the same path, because Iceberg's metadata names files by their whole path.

use std::path::{Path, PathBuf};
use std::time::Instant;

use lakesync::Lake;
use lakesync_benches::load::config;
use lakesync_benches::{Cost, RUNS, cpu_time, peak_memory_mib, resident_bytes};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// A lake, and a copy of what it was.
pub(super) struct Restored {
    folder: TempDir,
}

/// What some work cost on it.
pub(super) struct Measured<T> {
    /// The medians.
    pub(super) cost: Cost,
    /// How much memory it took beyond what the process had, in MiB: the most of all runs.
    pub(super) memory_mib: u64,
    /// What the last run came to.
    pub(super) last: T,
}

impl Restored {
    /// Keeps a copy of the lake in `folder`, which is closed.
    pub(super) fn keep(folder: TempDir) -> Self {
        let kept = Self { folder };
        copy(&kept.path(), &kept.copy());
        kept
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("lake")
    }

    fn copy(&self) -> PathBuf {
        self.folder.path().join("kept")
    }

    /// Runs `work` on the lake, each time as it was.
    pub(super) fn measure<T>(
        &self,
        runtime: &Runtime,
        work: impl AsyncFn(&Lake) -> T,
    ) -> Measured<T> {
        let (mut walls, mut cpus, mut memory_mib, mut last) = (vec![], vec![], 0, None);
        for _ in 0..RUNS {
            drop(last.take());
            std::fs::remove_dir_all(self.path()).expect("it is there");
            copy(&self.copy(), &self.path());
            let path = self.path();
            let lake = Lake::builder(&path).with_config(config()).open();
            let lake = runtime.block_on(lake).expect("a lake");
            // The most memory is counted from here on (Linux).
            drop(std::fs::write("/proc/self/clear_refs", "5"));
            let before = resident_bytes("self") >> 20;
            let (cpu, wall) = (cpu_time(), Instant::now());
            last = Some(runtime.block_on(work(&lake)));
            walls.push(wall.elapsed());
            cpus.push(cpu_time().saturating_sub(cpu));
            memory_mib = memory_mib.max(peak_memory_mib().saturating_sub(before));
        }
        walls.sort_unstable();
        cpus.sort_unstable();
        Measured {
            cost: Cost {
                wall: walls[RUNS / 2],
                cpu: cpus[RUNS / 2],
            },
            memory_mib,
            last: last.expect("there is at least one run"),
        }
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let to = to.join(entry.file_name());
        match entry.file_type().expect("its type").is_dir() {
            true => copy(&entry.path(), &to),
            false => {
                std::fs::copy(entry.path(), to).expect("copied");
            }
        }
    }
}
