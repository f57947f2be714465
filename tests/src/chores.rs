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
    /// The statement; `{table}`, `{early}` (a moment not long ago, or now) and `{few}` (1 to 3) are filled in.
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
];

impl Chore {
    /// The statement that does it to `table` when the clock shows `now_ms` (milliseconds since 1970).
    pub fn statement(&self, table: &str, now_ms: u64, rng: &mut Rng) -> String {
        let back_ms = *rng.pick(&[0, 1, 3_600_000, 86_400_000]);
        let early_ms = now_ms.saturating_sub(back_ms);
        let early = format!("arrow_cast({early_ms}, 'Timestamp(Millisecond, None)')");
        self.sql
            .replace("{table}", table)
            .replace("{early}", &early)
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
        let sql = chore.statement(&table, self.now_ms(), rng);
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
