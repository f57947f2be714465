//! Maintenance at random moments: every procedure in every mode, as SQL.
//!
//! Invariant: a chore changes no answer. It is done to the lake and never told to the [oracle](crate::oracle), so
//! whatever is compared afterwards is compared with what was true before.

use crate::history::Rng;
use crate::world::World;

/// How far the wall clock is off when it is wrong, in milliseconds.
const JUMP_MS: i64 = 30 * 3_600_000;

/// One kind of maintenance.
#[derive(Clone, Copy, Debug)]
pub struct Chore {
    /// What it is counted as.
    pub name: &'static str,
    /// The statement; `{table}`, `{early}` (a time that has passed since) and `{few}` (1 to 3) are filled in.
    sql: &'static str,
    /// Whether it may let go of history.
    forgets: bool,
}

const fn keeps(name: &'static str, sql: &'static str) -> Chore {
    Chore {
        name,
        sql,
        forgets: false,
    }
}

const fn forgets(name: &'static str, sql: &'static str) -> Chore {
    Chore {
        name,
        sql,
        forgets: true,
    }
}

/// All of them.
pub const CHORES: &[Chore] = &[
    keeps("flush", "call system.flush('{table}')"),
    keeps("compact", "call system.compact('{table}')"),
    keeps(
        "merge on read",
        "call system.compact('{table}', mode => 'merge-on-read')",
    ),
    keeps(
        "copy on write",
        "call system.compact('{table}', mode => 'copy-on-write')",
    ),
    keeps(
        "equality deletes",
        "call system.compact('{table}', mode => 'equality-deletes')",
    ),
    keeps(
        "rewrite",
        "call system.rewrite_data_files('{table}', rewrite_all => true)",
    ),
    keeps(
        "rewrite deletes",
        "call system.rewrite_position_delete_files('{table}')",
    ),
    keeps("optimize", "optimize table {table} full"),
    keeps(
        "rewrite log",
        "call system.rewrite_data_files('{table}$deltas')",
    ),
    keeps("manifests", "call system.rewrite_manifests('{table}')"),
    keeps(
        "orphans",
        "call system.remove_orphan_files('{table}', older_than => INTERVAL '24 hours')",
    ),
    keeps("durable log", "call system.compact_log()"),
    keeps("pause", "call system.pause_maintenance('{table}')"),
    keeps("resume", "call system.resume_maintenance('{table}')"),
    forgets(
        "expire",
        "call system.expire_snapshots('{table}', older_than => INTERVAL '{early}', retain_last => {few})",
    ),
    forgets("drop", "call system.drop_log('{table}')"),
    forgets("vacuum", "vacuum {table} retain 24 hours"),
    forgets("maintain", "call system.maintain('{table}')"),
];

impl Chore {
    /// The statement that does it to `table`.
    pub fn statement(&self, table: &str, rng: &mut Rng) -> String {
        let early = *rng.pick(&["0 seconds", "1 hour", "1 day"]);
        self.sql
            .replace("{table}", table)
            .replace("{early}", early)
            .replace("{few}", &rng.between(1, 3).to_string())
    }

    /// Whether it may let go of history.
    pub fn forgets(&self) -> bool {
        self.forgets
    }
}

impl World {
    /// Does one chore of one table, both picked by the dice.
    pub async fn chore(&mut self, rng: &mut Rng) {
        let chore = *rng.pick(CHORES);
        let table = rng.pick(&self.schemas).table.to_string();
        let sql = chore.statement(&table, rng);
        if rng.chance(50) {
            self.sql(&format!("call system.flush('{table}')")).await;
        }
        // What fails may have let go of something before it did.
        self.forgets |= chore.forgets;
        // Now and then the wall clock is wrong meanwhile.
        let jump_ms = *rng.pick(&[0, 0, 0, 0, 0, 0, -JUMP_MS, JUMP_MS]);
        self.with_clock_off_by(jump_ms, &sql).await;
        self.note(chore.name);
    }
}
