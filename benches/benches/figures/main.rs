//! `cargo bench -p lakesync-benches`: first figures for writing (W3) and reading (W1), at small size.
//!
//! Arguments choose a part: `-- push` or `-- read`. `LAKESYNC_BENCH_SCALE` sets the TPC-H scale of the reads (0.05).

mod push;
mod read;

use lakesync_benches::{Figures, peak_memory_mib};

fn main() {
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with("--"))
        .collect();
    let wants = |part: &str| wanted.is_empty() || wanted.iter().any(|name| name == part);
    let mut figures = Figures::default();
    if wants("push") {
        push::measure(&mut figures);
    }
    if wants("read") {
        read::measure(&mut figures);
    }
    eprintln!("peak resident memory {} MiB\n", peak_memory_mib());
    #[expect(clippy::print_stdout, reason = "the table is what this program is for")]
    {
        print!("{figures}");
    }
}
