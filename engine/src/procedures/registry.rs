//! The table of procedures: what each is called, takes, answers and does.
//!
//! **Invariant:** help, argument checks and answers are made from these lines and from nothing else.

use std::fmt;
use std::future::ready;

use futures::future::BoxFuture;

use super::answer::{Column, ColumnKind, Rows};
use super::{Asked, control, files, help, past};
use crate::error::Result;

/// One procedure.
pub(super) struct Procedure {
    pub(super) name: &'static str,
    /// One sentence.
    pub(super) does: &'static str,
    pub(super) parameters: &'static [Parameter],
    pub(super) columns: &'static [Column],
    pub(super) run: for<'a> fn(Asked<'a>) -> BoxFuture<'a, Result<Rows>>,
    /// Its plan, for those that have one: kinds and texts.
    pub(super) explain: Option<Explain>,
}

/// Makes plans.
pub(super) type Explain = for<'a> fn(Asked<'a>) -> BoxFuture<'a, Result<Plans>>;

/// Kinds of plans and their texts.
pub(super) type Plans = Vec<(String, String)>;

/// One parameter.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parameter {
    pub(super) name: &'static str,
    /// What it takes, as a person reads it.
    pub(super) kind: &'static str,
    /// What it is without an argument, as a person reads it; none when it must be given.
    pub(super) default: Option<&'static str>,
    pub(super) does: &'static str,
}

impl fmt::Debug for Procedure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Procedure")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Procedure {
    /// How it is written: optional arguments in brackets.
    pub(super) fn usage(&self) -> String {
        let shown =
            self.parameters
                .iter()
                .map(|parameter| match (parameter.default, parameter.kind) {
                    (None, "table") => "'t'".to_owned(),
                    (None, _) => format!("{} => …", parameter.name),
                    (Some(_), "table" | "tables") => "['t']".to_owned(),
                    (Some(_), _) => format!("[{} => …]", parameter.name),
                });
        format!(
            "system.{}({})",
            self.name,
            shown.collect::<Vec<_>>().join(", ")
        )
    }
}

const fn text(name: &'static str) -> Column {
    Column {
        name,
        kind: ColumnKind::Text,
    }
}

const fn long(name: &'static str) -> Column {
    Column {
        name,
        kind: ColumnKind::Long,
    }
}

const TABLE: Parameter = Parameter {
    name: "table",
    kind: "table",
    default: None,
    does: "The table: 't' of the statement's gateway, or 'gateway.t'.",
};

const TABLES: Parameter = Parameter {
    name: "table",
    kind: "tables",
    default: Some("all tables of the gateway"),
    does: "One table, or a list like ARRAY['a', 'b'].",
};

const DRY_RUN: Parameter = Parameter {
    name: "dry_run",
    kind: "boolean",
    default: Some("false"),
    does: "Tells what would be done and does nothing.",
};

const fn optional(
    name: &'static str,
    kind: &'static str,
    default: &'static str,
    does: &'static str,
) -> Parameter {
    Parameter {
        name,
        kind,
        default: Some(default),
        does,
    }
}

const fn given(name: &'static str, kind: &'static str, does: &'static str) -> Parameter {
    Parameter {
        name,
        kind,
        default: None,
        does,
    }
}

const OLDER_THAN: &str = "TIMESTAMP '…' or INTERVAL '…'";

const TAG: &[Column] = &[
    text("table"),
    text("tag"),
    text("kind"),
    long("snapshot_id"),
];

const ROLLED_BACK: &[Column] = &[long("previous_snapshot_id"), long("current_snapshot_id")];

/// What every job of `maintain` and its kin answers with.
const JOBS: &[Column] = &[
    text("table"),
    text("job"),
    text("reason"),
    text("status"),
    long("rows"),
    long("bytes"),
    long("files"),
];

const PAUSED: &[Column] = &[text("table"), text("maintenance")];

/// Every procedure, in the order in which help lists them.
pub(super) static PROCEDURES: &[Procedure] = &[
    Procedure {
        name: "flush",
        does: "Writes hot deltas into the log.",
        parameters: &[TABLES],
        columns: &[
            text("table"),
            long("deltas"),
            long("files"),
            long("bytes"),
            long("max_seq"),
            long("snapshot_id"),
        ],
        run: |asked| Box::pin(files::flush(asked)),
        explain: None,
    },
    Procedure {
        name: "compact",
        does: "Folds what is flushed into the base, so that every Iceberg reader sees it.",
        parameters: &[
            TABLE,
            optional(
                "mode",
                "'merge-on-read', 'copy-on-write' or 'equality-deletes'",
                "compact.mode",
                "How touched files are brought up to date.",
            ),
            DRY_RUN,
        ],
        columns: &[
            text("table"),
            long("from_seq"),
            long("base_seq"),
            long("rows"),
            long("files_removed"),
            long("files_added"),
            long("bytes_added"),
        ],
        run: |asked| Box::pin(files::compact(asked)),
        explain: Some(|asked| Box::pin(files::explain_compact(asked))),
    },
    Procedure {
        name: "rewrite_data_files",
        does: "Puts small base files together, and writes those with many dead rows or out of order anew.",
        parameters: &[
            TABLE,
            optional(
                "min_input_files",
                "whole number",
                "5",
                "How many small files of like size make it worth it.",
            ),
            optional(
                "rewrite_all",
                "boolean",
                "false",
                "Writes every file anew, whatever it is like.",
            ),
            DRY_RUN,
        ],
        columns: &[
            long("rewritten_data_files_count"),
            long("added_data_files_count"),
            long("rewritten_bytes_count"),
            long("failed_data_files_count"),
            long("removed_delete_files_count"),
        ],
        run: |asked| Box::pin(files::rewrite_data_files(asked)),
        explain: None,
    },
    Procedure {
        name: "rewrite_position_delete_files",
        does: "Writes the base files that delete files take rows of anew, so that there are no delete files.",
        parameters: &[TABLE, DRY_RUN],
        columns: &[
            long("rewritten_delete_files_count"),
            long("added_delete_files_count"),
            long("rewritten_bytes_count"),
            long("added_bytes_count"),
        ],
        run: |asked| Box::pin(files::rewrite_position_delete_files(asked)),
        explain: None,
    },
    Procedure {
        name: "rewrite_manifests",
        does: "Puts the small manifests of base and log together.",
        parameters: &[TABLE, DRY_RUN],
        columns: &[
            long("rewritten_manifests_count"),
            long("added_manifests_count"),
        ],
        run: |asked| Box::pin(files::rewrite_manifests(asked)),
        explain: None,
    },
    Procedure {
        name: "expire_snapshots",
        does: "Expires snapshots that the history does not keep, and deletes the files that only they reach.",
        parameters: &[
            TABLE,
            optional(
                "older_than",
                OLDER_THAN,
                "maintenance.keep_snapshots",
                "Snapshots committed since are kept; tagged ones and one a day of the history are kept anyhow.",
            ),
            optional(
                "retain_last",
                "whole number",
                "maintenance.retain_last",
                "How many of the newest are kept whatever their age.",
            ),
            optional(
                "snapshot_ids",
                "ARRAY[…]",
                "none",
                "Just these, of base or log.",
            ),
            DRY_RUN,
        ],
        columns: &[
            long("deleted_data_files_count"),
            long("deleted_position_delete_files_count"),
            long("deleted_equality_delete_files_count"),
            long("deleted_manifest_files_count"),
            long("deleted_manifest_lists_count"),
            long("deleted_statistics_files_count"),
            long("expired_snapshots_count"),
        ],
        run: |asked| Box::pin(past::expire_snapshots(asked)),
        explain: None,
    },
    Procedure {
        name: "drop_log",
        does: "Drops deltas of the log that every kept base covers and no late delta can be compared with any more.",
        parameters: &[TABLES, DRY_RUN],
        columns: &[
            text("table"),
            long("deltas"),
            long("files_removed"),
            long("files_rewritten"),
            long("dropped_seq"),
            long("floor"),
        ],
        run: |asked| Box::pin(past::drop_log(asked)),
        explain: None,
    },
    Procedure {
        name: "remove_orphan_files",
        does: "Removes files in the table's folders that no snapshot reaches.",
        parameters: &[
            TABLE,
            optional(
                "older_than",
                OLDER_THAN,
                "maintenance.orphans_older_than",
                "Only files written before; 24 hours ago at least, for a writer may still commit its own.",
            ),
            optional(
                "location",
                "string",
                "all folders of the table",
                "Only below this folder, a URI.",
            ),
            DRY_RUN,
        ],
        columns: &[text("orphan_file_location")],
        run: |asked| Box::pin(past::remove_orphan_files(asked)),
        explain: None,
    },
    Procedure {
        name: "rollback_to_snapshot",
        does: "Lets the base be an older snapshot again; no answer changes, for the log has what came after it.",
        parameters: &[
            TABLE,
            given(
                "snapshot_id",
                "whole number",
                "The snapshot, as t$snapshots has it.",
            ),
        ],
        columns: ROLLED_BACK,
        run: |asked| Box::pin(past::rollback_to_snapshot(asked)),
        explain: None,
    },
    Procedure {
        name: "rollback_to_timestamp",
        does: "As rollback_to_snapshot, to the newest base snapshot before a time.",
        parameters: &[TABLE, given("timestamp", OLDER_THAN, "The time.")],
        columns: ROLLED_BACK,
        run: |asked| Box::pin(past::rollback_to_timestamp(asked)),
        explain: None,
    },
    Procedure {
        name: "create_tag",
        does: "Names a snapshot, which keeps it: t VERSION AS OF 'tag' reads it.",
        parameters: &[
            TABLE,
            given("tag", "string", "The name."),
            optional(
                "snapshot_id",
                "whole number",
                "the base's current one",
                "The snapshot, as t$snapshots has it.",
            ),
            optional(
                "retain",
                "INTERVAL '…'",
                "for good",
                "How old the snapshot may become before the tag goes.",
            ),
        ],
        columns: TAG,
        run: |asked| Box::pin(past::create_tag(asked)),
        explain: None,
    },
    Procedure {
        name: "drop_tag",
        does: "Lets a tag go; its snapshot stays until it expires.",
        parameters: &[TABLE, given("tag", "string", "The name.")],
        columns: TAG,
        run: |asked| Box::pin(past::drop_tag(asked)),
        explain: None,
    },
    Procedure {
        name: "compact_log",
        does: "Lets the gateway's database go of pushes that the lake has and no pull needs, and gives the disk its room back.",
        parameters: &[],
        columns: &[
            long("pushes"),
            long("push_bytes"),
            long("clients"),
            long("bytes_before"),
            long("bytes_after"),
        ],
        run: |asked| Box::pin(past::compact_log(asked)),
        explain: None,
    },
    Procedure {
        name: "vacuum",
        does: "Expires snapshots, drops deltas and removes orphans, as far as the history allows; VACUUM t is the same.",
        parameters: &[
            TABLES,
            optional(
                "retain_hours",
                "whole number",
                "maintenance.history",
                "How far back time travel stays exact, in place of the setting.",
            ),
            DRY_RUN,
        ],
        columns: JOBS,
        run: |asked| Box::pin(past::vacuum(asked)),
        explain: None,
    },
    Procedure {
        name: "maintain",
        does: "Does everything that is due, as the scheduler of a server would, whatever its intervals.",
        parameters: &[TABLES, DRY_RUN],
        columns: JOBS,
        run: |asked| Box::pin(control::maintain(asked)),
        explain: None,
    },
    Procedure {
        name: "optimize",
        does: "Folds what is flushed and puts small, dead and unordered files right, however few; OPTIMIZE t is the same.",
        parameters: &[
            TABLE,
            optional(
                "full",
                "boolean",
                "false",
                "Flushes first, and writes every file of the base anew.",
            ),
            DRY_RUN,
        ],
        columns: JOBS,
        run: |asked| Box::pin(control::optimize(asked)),
        explain: None,
    },
    Procedure {
        name: "pause_maintenance",
        does: "Lets the scheduler leave tables alone until they are resumed; what is called by name still runs.",
        parameters: &[TABLES],
        columns: PAUSED,
        run: |asked| Box::pin(control::pause(asked)),
        explain: None,
    },
    Procedure {
        name: "resume_maintenance",
        does: "Lets the scheduler look after tables again.",
        parameters: &[TABLES],
        columns: PAUSED,
        run: |asked| Box::pin(control::resume(asked)),
        explain: None,
    },
    Procedure {
        name: "help",
        does: "Lists the procedures, or the parameters of one.",
        parameters: &[optional(
            "procedure",
            "string",
            "all of them",
            "The name of a procedure.",
        )],
        columns: &[
            text("procedure"),
            text("parameter"),
            text("type"),
            text("default"),
            text("help"),
        ],
        run: |asked| Box::pin(ready(help::help(asked))),
        explain: None,
    },
];
