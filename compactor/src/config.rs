//! What a compaction can be told, as plain data.

/// The settings of a compaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompactionConfig {
    /// What the operators of one job may hold in memory, in bytes (default 512 MiB, and no less than
    /// [`MEMORY_BYTES_MIN`] is used). Beyond it they go on in files in the system's directory for temporary ones.
    pub memory_bytes: u64,
    /// How touched base files are brought up to date.
    pub mode: WriteMode,
    /// With [`WriteMode::MergeOnRead`]: a file is rewritten when so many of a hundred of its rows, or more, are touched
    /// or dead (default 30).
    pub rewrite_percent: u8,
    /// The size at which a new file is begun, in bytes as they are written (default 512 MiB).
    pub target_file_bytes: u64,
    /// How many bytes of base files one run rewrites at most (default 64 GiB); what is touched beyond it gets delete
    /// files. Random writes touch all files of a table at once, and a run should end.
    pub bytes_per_run: u64,
}

/// The least memory that a job is run with (32 MiB): sorts and their merges keep some megabytes each before they can
/// spill.
pub const MEMORY_BYTES_MIN: u64 = 32 << 20;

impl Default for CompactionConfig {
    fn default() -> Self {
        Self {
            memory_bytes: 512 << 20,
            mode: WriteMode::default(),
            rewrite_percent: 30,
            target_file_bytes: 512 << 20,
            bytes_per_run: 64 << 30,
        }
    }
}

/// How a fold brings the touched files of a base up to date.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WriteMode {
    /// A file that much of is touched is rewritten; the touched rows of the others are deleted by position, and stand in
    /// new files.
    #[default]
    MergeOnRead,
    /// Every touched file is rewritten: the base has no delete files.
    CopyOnWrite,
    /// The touched rows are deleted by their row id, and stand in new files. Cheap to write, dear to read.
    EqualityDeletes,
}

impl WriteMode {
    /// Its name in settings and in SQL.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::MergeOnRead => "merge-on-read",
            Self::CopyOnWrite => "copy-on-write",
            Self::EqualityDeletes => "equality-deletes",
        }
    }

    /// The mode with this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let modes = [Self::MergeOnRead, Self::CopyOnWrite, Self::EqualityDeletes];
        modes.into_iter().find(|mode| mode.name() == name)
    }
}
