//! What is counted of each kind of job: the rows, bytes and files that it wrote or took away.
//!
//! **Invariant:** a job that found nothing to do counts nothing.

use lakesync_compactor::expire::{DropReport, ExpireReport};
use lakesync_compactor::{
    CompactReport, LogRewriteReport, ManifestReport, OrphanReport, RewriteReport,
};
use lakesync_gateway::{Did, LogCompaction};

/// A report of a job that ended well.
pub(crate) trait Counted {
    /// What it wrote or took away.
    fn did(&self) -> Did;
}

impl Counted for CompactReport {
    fn did(&self) -> Did {
        Did {
            rows: self.rows,
            bytes: self.bytes_added,
            files: count(self.files_added),
        }
    }
}

impl Counted for RewriteReport {
    fn did(&self) -> Did {
        Did {
            rows: self.rows,
            bytes: self.bytes_added,
            files: self.files_added,
        }
    }
}

impl Counted for LogRewriteReport {
    fn did(&self) -> Did {
        Did {
            rows: self.rows,
            bytes: self.bytes_added,
            files: count(self.files_added),
        }
    }
}

impl Counted for ManifestReport {
    fn did(&self) -> Did {
        Did {
            files: count(self.added),
            ..Did::default()
        }
    }
}

impl Counted for Vec<ExpireReport> {
    fn did(&self) -> Did {
        let files = self.iter().map(|report| {
            let gone = &report.deleted;
            let data = gone.data_files + gone.position_delete_files + gone.equality_delete_files;
            data + gone.statistics_files + gone.manifest_files + gone.manifest_lists
        });
        Did {
            files: files.sum(),
            ..Did::default()
        }
    }
}

impl Counted for Vec<DropReport> {
    fn did(&self) -> Did {
        Did {
            rows: self.iter().map(|report| report.deltas).sum(),
            files: self.iter().map(|report| report.files_removed).sum(),
            ..Did::default()
        }
    }
}

impl Counted for OrphanReport {
    fn did(&self) -> Did {
        Did {
            bytes: self.bytes,
            files: count(self.locations.len()),
            ..Did::default()
        }
    }
}

impl Counted for LogCompaction {
    fn did(&self) -> Did {
        Did {
            rows: self.pushes,
            bytes: self.bytes_before.saturating_sub(self.bytes_after),
            files: 0,
        }
    }
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
