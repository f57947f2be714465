//! `cargo bench -p lakesync-benches`: figures for writing (W3), reading (W1) and the client, as ratios to limits of the
//! same run.
//!
//! Arguments choose parts: `-- push pull live recovery client read fold year`. `LAKESYNC_BENCH_SCALE` sets the TPC-H scale of the reads
//! (0.05).

mod client;
mod fold;
mod live;
mod pull;
mod push;
mod read;
mod recovery;
mod server;
mod year;

use lakesync_benches::{Figures, peak_memory_mib};

type Part = (&'static str, fn(&mut Figures));

const PARTS: [Part; 8] = [
    ("push", push::measure),
    ("pull", pull::measure),
    ("live", live::measure),
    ("recovery", recovery::measure),
    ("client", client::measure),
    ("read", read::measure),
    ("fold", fold::measure),
    ("year", year::measure),
];

fn main() {
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with("--"))
        .collect();
    if let [command, dir] = wanted.as_slice()
        && command == server::SERVE
    {
        return server::serve(dir.as_ref());
    }
    if let [command, dir] = wanted.as_slice()
        && command == client::FIRST_SYNC
    {
        return client::first_sync(dir.as_ref());
    }
    let mut figures = Figures::default();
    for (name, measure) in PARTS {
        if wanted.is_empty() || wanted.iter().any(|part| part == name) {
            eprintln!("measuring {name}");
            measure(&mut figures);
        }
    }
    eprintln!("peak resident memory {} MiB\n", peak_memory_mib());
    #[expect(clippy::print_stdout, reason = "the table is what this program is for")]
    {
        print!("{figures}");
    }
}
