//! The table of procedures: what each is called, takes, answers and does.
//!
//! **Invariant:** help, argument checks and answers are made from these lines and from nothing else.

use std::fmt;
use std::future::ready;

use futures::future::BoxFuture;

use super::answer::{Column, ColumnKind, Rows};
use super::{Asked, control, files, help};
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
    pub(super) explain: Option<for<'a> fn(Asked<'a>) -> BoxFuture<'a, Result<Plans>>>,
}

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
