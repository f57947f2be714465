//! Every setting: its name, what it may be, its default, and what gets worse at each end.
//!
//! **Invariant:** this table is the only place that names a setting's default; a test resolves all of them.

use super::kind::Kind;

/// One setting.
#[derive(Debug)]
pub(crate) struct Key {
    /// Where it stands in the file: `section.key`.
    pub(crate) path: &'static str,
    pub(crate) kind: Kind,
    /// As a person would write it in an environment variable; empty when nothing is set.
    pub(crate) default: &'static str,
    /// What it is, and what gets worse at each end.
    pub(crate) doc: &'static str,
}

impl Key {
    /// The section and the name within it; the section of a top-level key is empty.
    pub(crate) fn split(&self) -> (&'static str, &'static str) {
        self.path.rsplit_once('.').unwrap_or(("", self.path))
    }

    /// The environment variable that overrides it: `LAKESYNC_SERVER__TLS__CERT`.
    pub(crate) fn variable(&self) -> String {
        variable(self.path)
    }
}

/// The environment variable of a dotted path.
pub(crate) fn variable(path: &str) -> String {
    let upper = path.to_ascii_uppercase().replace('-', "_");
    format!("LAKESYNC_{}", upper.replace('.', "__"))
}

/// The setting at `path`.
pub(crate) fn key(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path)
}

const fn new(path: &'static str, kind: Kind, default: &'static str, doc: &'static str) -> Key {
    Key {
        path,
        kind,
        default,
        doc,
    }
}

/// Every setting but those of connectors and single gateways, in the order in which they are shown.
pub(crate) const KEYS: &[Key] = &[
    new(
        "gateways",
        Kind::Texts,
        "public",
        "The gateways that exist from the start, beside those that the directory holds already. A gateway is a tenant: \
         its own tables, rules, log and SQL schema. `public` is always there.",
    ),
    new(
        "server.listen",
        Kind::Address,
        "127.0.0.1:7420",
        "The address to listen on; port 0 picks a free one. An address that other machines reach needs [auth].",
    ),
    new(
        "server.cors",
        Kind::Texts,
        "",
        "The origins whose pages may ask, as in [\"https://app.example\"]; [\"*\"] is any. Empty: pages of this machine \
         only. Any origin together with no [auth] would let every web page that you visit read your data, so it is refused.",
    ),
    new(
        "server.timeout",
        Kind::Time,
        "30s",
        "How long a request may take before it is answered with 504. Shorter cuts honest large pushes off; longer lets \
         stuck ones hold memory. Streams (WebSocket, SSE, long poll, checkpoints) are exempt.",
    ),
    new(
        "server.drain",
        Kind::Time,
        "30s",
        "How long a stop waits for requests under way before they are cut off; the flush that follows is not counted. \
         Shorter loses answers (never data); longer delays restarts.",
    ),
    new(
        "server.idle",
        Kind::Time,
        "30s",
        "How long a connection may take to send a request's head, and stay open between two requests. Shorter makes \
         clients connect again more often; longer lets connections that say nothing hold descriptors.",
    ),
    new(
        "server.tls.cert",
        Kind::Path,
        "",
        "The server's certificate chain, PEM, read when the server starts. With it and the key everything is HTTPS; without them, use a proxy that \
         is, or tokens travel in the clear.",
    ),
    new(
        "server.tls.key",
        Kind::Path,
        "",
        "The private key of the certificate, PEM.",
    ),
    new(
        "auth.hs256_secrets",
        Kind::Secrets,
        "",
        "One or two secrets that tokens are signed with (HS256): the first signs what `lakesync token` mints, both are \
         accepted, so that a secret is changed without turning anybody away. Take 32 random bytes or more, as \
         `openssl rand -base64 32` makes them; a short one can be guessed.",
    ),
    new(
        "auth.hs256_secrets_file",
        Kind::Path,
        "",
        "A file that holds those secrets, one a line, instead: it need not be readable by who reads this one.",
    ),
    new(
        "auth.jwks",
        Kind::Text,
        "",
        "The public keys of an identity provider (RS256, ES256, EdDSA): the path or the https URL of a JSON Web Key Set. \
         It is read again when it changes or a token names an unknown key.",
    ),
    new(
        "auth.issuer",
        Kind::Text,
        "",
        "The `iss` that tokens must have. Without it any issuer whose key is known is believed.",
    ),
    new(
        "auth.audience",
        Kind::Text,
        "",
        "The `aud` that tokens must have. Without it a token that was made for another service is taken as well; set it \
         when the identity provider serves more than this.",
    ),
    new(
        "sync.drift",
        Kind::Time,
        "5s",
        "How far ahead of this machine's clock a delta may be stamped. Larger lets a client with a fast clock win over \
         later writes of others; smaller refuses honest clients.",
    ),
    new(
        "sync.late_window",
        Kind::TimeOrNone,
        "30 days",
        "How old a delta may be when it arrives. Longer keeps more of the log, so that late edits merge right; shorter \
         refuses clients that were offline for longer. \"none\" takes all, and the log is never forgotten.",
    ),
    new(
        "sync.clock_jump",
        Kind::TimeOrNone,
        "10s",
        "How far this machine's clock may step at once before pushes are refused until it is steady again. Shorter \
         refuses writes at ordinary corrections; longer lets a clock that jumped ahead admit stamps that win for as \
         long. \"none\" does not watch.",
    ),
    new(
        "sync.delta_ids",
        Kind::Word(&["verify", "accept"]),
        "verify",
        "\"verify\" recomputes every delta id and refuses a wrong one; \"accept\" takes them as they are, for old \
         clients that hash values differently, and a torn delta is then not noticed.",
    ),
    new(
        "sync.pull_window",
        Kind::Time,
        "7 days",
        "How long accepted pushes stay in the gateway's database after they were flushed, so that pulls read them by seq. \
         Longer costs disk; shorter sends clients that were away to the flushed log, which is slower.",
    ),
    new(
        "flush.format",
        Kind::Word(&["parquet", "ndjson"]),
        "parquet",
        "What a flush writes: \"parquet\" into the lake; \"ndjson\" the same, and plain files of one delta a line beside \
         it, for people without a catalog, at about three times the disk.",
    ),
    new(
        "flush.max_bytes",
        Kind::Size,
        "64 MiB",
        "Flush a gateway when this much is not flushed. Smaller makes many small files, which slow every reader; larger \
         keeps more in memory, and a lost disk loses more.",
    ),
    new(
        "flush.max_rows",
        Kind::Count,
        "500000",
        "Flush a gateway when this many deltas are not flushed. Fewer makes many small files, which slow every reader; more \
         keeps more in memory, and a lost disk loses more.",
    ),
    new(
        "flush.max_age",
        Kind::Time,
        "60s",
        "Flush a gateway when its oldest delta that is not flushed is this old. Shorter makes small files; longer lets \
         other engines, which read only what is flushed and compacted, lag.",
    ),
    new(
        "compact.when_bytes",
        Kind::Size,
        "64 MiB",
        "Compact a table when this much of it is flushed and not in its base. Smaller rewrites the base more often than \
         the changes are worth; larger keeps more in memory, which every query folds and every start reads.",
    ),
    new(
        "compact.when_rows",
        Kind::Count,
        "250000",
        "Compact a table when this many deltas of it are flushed and not in its base. Fewer rewrites the base more often \
         than the changes are worth; more is kept in memory, which every query folds and every start reads.",
    ),
    new(
        "compact.max_age",
        Kind::Time,
        "1h",
        "Compact a table when flushed deltas have waited this long for it, however few. Shorter rewrites the base for a \
         few rows; longer lets other engines, which read the base, lag.",
    ),
    new(
        "compact.memory",
        Kind::Size,
        "512 MiB",
        "How much memory one compaction takes; beyond it, it goes on in files in the system's directory for temporary ones. \
         Smaller is slower; larger may take the machine's memory from queries.",
    ),
    new(
        "compact.when_files",
        Kind::Count,
        "500",
        "Compact a table when this many log files hold deltas that are not in its base. Fewer writes the base more often; \
         more makes every start, late delta and look at the past open them all.",
    ),
    new(
        "compact.read_percent",
        Kind::Count,
        "20",
        "Compact a table when the deltas that are flushed and not in its base are this many per cent of the base's rows, \
         50,000 at least. Fewer writes the base more often; more slows every query that reads the whole table.",
    ),
    new(
        "compact.mode",
        Kind::Word(&["merge-on-read", "copy-on-write", "equality-deletes"]),
        "merge-on-read",
        "How a compaction brings the touched files of a base up to date: \"merge-on-read\" writes those anew that much of is \
         touched, and marks rows of the others as deleted by position; \"copy-on-write\" writes every touched file anew, for \
         readers that know no delete files; \"equality-deletes\" marks rows by their id, which is cheap to write and dear to \
         read, and some readers cannot.",
    ),
    new(
        "compact.rewrite_percent",
        Kind::Count,
        "30",
        "With merge-on-read: write a file anew when this many per cent of its rows are touched or deleted, and, in any mode, \
         when this many are deleted and nothing else touches it. Lower writes more; higher lets readers skip more rows.",
    ),
    new(
        "compact.target_file",
        Kind::Size,
        "512 MiB",
        "How large the files of a base are written. Smaller makes more files, which readers open one by one; larger makes a \
         touched file dearer to write anew.",
    ),
    new(
        "compact.small_files",
        Kind::Count,
        "8",
        "Write small files of like size into one when there are this many of them. Fewer writes rows more often; more leaves \
         more files to open.",
    ),
    new(
        "compact.bytes_per_run",
        Kind::Size,
        "64 GiB",
        "How much one job reads of a base at most; the rest is done by the next. Smaller leaves more to do for longer; larger \
         lets a job take hours.",
    ),
    new(
        "maintenance.scheduler",
        Kind::Word(&["on", "off"]),
        "on",
        "Whether a server maintains its tables by itself: \"off\" leaves it to CALL system.maintain() and its kin, and memory \
         fills when nobody calls.",
    ),
    new(
        "maintenance.rewrite_every",
        Kind::TimeOrNone,
        "10min",
        "The shortest time between two rewrites of small, dead or unordered files of a table. Shorter writes files that would \
         soon have been more; longer leaves more of them. \"none\" never does.",
    ),
    new(
        "maintenance.expire_every",
        Kind::TimeOrNone,
        "1h",
        "How often snapshots that the history does not keep are expired, and deltas dropped that nothing needs any more. \
         Shorter finds nothing to do most of the time; longer keeps files for longer. \"none\" never does.",
    ),
    new(
        "maintenance.history",
        Kind::Time,
        "90days",
        "How far back time travel is exact: one base snapshot a day is kept for it, and the log above the oldest of them. \
         Shorter forgets sooner; longer keeps more of the log and of replaced files.",
    ),
    new(
        "maintenance.keep_snapshots",
        Kind::Time,
        "1day",
        "How long every base snapshot is kept, before it is one a day. Shorter leaves fewer moments that other engines can \
         read; longer keeps the files that each compaction replaced.",
    ),
    new(
        "maintenance.retain_last",
        Kind::Count,
        "0",
        "How many of the newest snapshots are kept whatever their age. Fewer leaves less to roll back to; more keeps the \
         files that each compaction replaced.",
    ),
    new(
        "maintenance.orphans_older_than",
        Kind::Time,
        "3days",
        "How old a file that no snapshot reaches has to be before it is removed, 24 hours at least. Shorter risks the files \
         of a writer that has not committed yet; longer keeps what a crash left for longer.",
    ),
    new(
        "maintenance.orphans_every",
        Kind::TimeOrNone,
        "1day",
        "How often files are looked for that no snapshot reaches, as a crash leaves them. Shorter lists all files of a table \
         more often; longer keeps them for longer. \"none\" never does.",
    ),
    new(
        "maintenance.compact_log_every",
        Kind::TimeOrNone,
        "1h",
        "How often a gateway's database lets go of pushes that are flushed and older than sync.pull_window. Shorter writes to \
         the database more often; longer lets it grow. \"none\" never does.",
    ),
    new(
        "limits.hot",
        Kind::Size,
        "2 GiB",
        "How much of one gateway may be in memory and not yet in its bases; above it pushes get 503 until \
         compaction has caught up. Lower refuses bursts that would have fitted; higher risks that the system kills \
         the process.",
    ),
    new(
        "limits.hot_soft",
        Kind::Size,
        "512 MiB",
        "Above this a flush and a compaction are made at once, whatever their settings say. Lower makes small \
         files; higher, near limits.hot, comes too late.",
    ),
    new(
        "limits.process_hot",
        Kind::Size,
        "4 GiB",
        "As limits.hot, for all gateways together: about half of the machine's memory. Lower refuses bursts that would \
         have fitted; higher risks that the system kills the process.",
    ),
    new(
        "limits.process_hot_soft",
        Kind::Size,
        "1 GiB",
        "As limits.hot_soft, for all gateways together. Lower makes small files; higher, near limits.process_hot, comes \
         too late.",
    ),
    new(
        "limits.disk_reserve",
        Kind::Size,
        "128 MiB",
        "How much of the disk stays free: below it pushes get 507, and reads go on. Lower risks a disk so full that \
         not even a flush can make room; higher leaves room unused.",
    ),
    new(
        "limits.feed",
        Kind::Size,
        "256 MiB",
        "How much of the newest deltas of a gateway is kept in memory for pulls. Less reads the database more; more \
         is memory for each gateway.",
    ),
    new(
        "limits.tcp_connections",
        Kind::Count,
        "10000",
        "How many TCP connections are open at a time; at most three quarters of the descriptors that the system gives \
         the process, whatever this says. Fewer closes connections of honest clients; more is memory and descriptors.",
    ),
    new(
        "limits.connections",
        Kind::Count,
        "10000",
        "How many live connections (WebSocket, SSE, long poll) the process holds. Each is a descriptor and some \
         kilobytes. Fewer turns readers away; more than the system's limit of open files fails in less friendly ways.",
    ),
    new(
        "limits.connections_per_gateway",
        Kind::Count,
        "5000",
        "How many of them one gateway may have. Fewer turns readers of a large tenant away; more leaves others no room.",
    ),
    new(
        "limits.connections_per_subject",
        Kind::Count,
        "100",
        "How many of them one subject may have to one gateway. Fewer closes tabs and devices of honest people; more \
         lets one token take everything.",
    ),
    new(
        "limits.messages_per_second",
        Kind::Count,
        "50",
        "How many messages a WebSocket may send in one second. Fewer closes busy clients; more lets one keep a core \
         busy.",
    ),
    new(
        "limits.message",
        Kind::Size,
        "1 MiB",
        "How large one WebSocket message may be; a push over HTTP may have 16 MiB. Smaller refuses large pushes; larger \
         lets each connection hold that much memory, so ten thousand of them hold 10 GiB at the default.",
    ),
    new(
        "limits.frames",
        Kind::Size,
        "32 MiB",
        "How much of the encoded live frames of a gateway is kept for readers that are a little behind. Less \
         encodes twice; more is memory.",
    ),
    new(
        "limits.stalled",
        Kind::Time,
        "10s",
        "How long a live connection may fail to take a frame before it is closed. Shorter drops phones in tunnels; \
         longer keeps the dead.",
    ),
    new(
        "sql.timeout",
        Kind::Time,
        "5min",
        "How long one statement over HTTP may take, its answer included. Shorter ends honest reports; longer lets a \
         forgotten query keep its memory and one of sql.statements.",
    ),
    new(
        "sql.statements",
        Kind::Count,
        "8",
        "How many statements run at a time; more are answered 503. Fewer makes people wait; more share the same cores \
         and memory, so that each is slower and large ones fail.",
    ),
    new(
        "sql.statements_per_subject",
        Kind::Count,
        "4",
        "How many of them one subject may run at a time. Fewer turns dashboards away; more lets one token keep others \
         out.",
    ),
    new(
        "rate.requests_per_second",
        Kind::Count,
        "0",
        "How many requests a second one subject (without [auth]: one address) may make; 0 is no limit. Lower refuses \
         honest bursts with 429; higher, or no limit, lets one client keep the server busy.",
    ),
    new(
        "rate.burst",
        Kind::Count,
        "50",
        "How many requests may come at once before the rate counts. Lower refuses a client that syncs after a long time \
         offline; higher lets floods through for longer.",
    ),
    new(
        "log.format",
        Kind::Word(&["text", "json"]),
        "text",
        "How log lines are written to stderr: for people, or one JSON object a line for machines.",
    ),
    new(
        "log.level",
        Kind::Text,
        "info",
        "What is logged: off, error, warn, info, debug or trace, for all or by module, as in \
         \"info,lakesync_gateway=debug\". Lower hides what went wrong; debug and trace slow the server.",
    ),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_key_is_there_once_says_what_it_is_and_has_a_default_of_its_kind() {
        let paths: BTreeSet<&str> = KEYS.iter().map(|key| key.path).collect();
        assert_eq!(paths.len(), KEYS.len());
        for key in KEYS {
            assert!(key.doc.ends_with('.'), "{}", key.path);
            if !key.default.is_empty() {
                key.kind.read_text(key.default).expect(key.path);
            }
        }
    }

    #[test]
    fn every_amount_says_what_gets_worse_at_both_ends() {
        let less = ["Less", "Fewer", "Lower", "Smaller", "Shorter"];
        let more = ["More", "Higher", "Larger", "Longer"];
        // A clause begins a sentence or follows a semicolon.
        let has = |doc: &str, words: &[&str]| {
            let clauses = doc.split(['.', ';']).map(str::trim);
            let begins = |clause: &str| {
                words
                    .iter()
                    .any(|word| clause.to_lowercase().starts_with(&word.to_lowercase()))
            };
            clauses.into_iter().any(begins)
        };
        let amount = |kind| {
            matches!(
                kind,
                Kind::Size | Kind::Time | Kind::TimeOrNone | Kind::Count
            )
        };
        for key in KEYS.iter().filter(|key| amount(key.kind)) {
            assert!(
                has(key.doc, &less),
                "{}: what does less of it cost?",
                key.path
            );
            assert!(
                has(key.doc, &more),
                "{}: what does more of it cost?",
                key.path
            );
        }
    }

    #[test]
    fn a_path_has_its_variable() {
        assert_eq!(
            key("server.tls.cert").unwrap().variable(),
            "LAKESYNC_SERVER__TLS__CERT"
        );
    }
}
