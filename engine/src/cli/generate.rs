//! `lakesync generate tpch`: rows to try the system on, from the TPC-H generator.
//!
//! Invariant: the same table and scale give the same bytes, and a file is whole or not there: rows go to a temporary
//! name beside it, which becomes the file when the last row is written.
//!
//! Rows are NDJSON with the wire's types: keys and counts as numbers, decimals as strings with two digits after the
//! point, dates as `YYYY-MM-DD`.

use std::fmt;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use tpchgen::dates::TPCHDate;
use tpchgen::decimal::TPCHDecimal;
use tpchgen::generators::{
    Customer, CustomerGenerator, LineItem, LineItemGenerator, Nation, NationGenerator, Order,
    OrderGenerator, Part, PartGenerator, PartSupp, PartSuppGenerator, Region, RegionGenerator,
    Supplier, SupplierGenerator,
};

/// The smallest scale, at which every table still has a row.
pub const SCALE_MIN: f64 = 0.0001;
/// The largest scale: six billion order lines, more than one file should hold.
pub const SCALE_MAX: f64 = 1_000.0;

/// A note is written each time this many rows have been.
const NOTE_ROWS: u64 = 500_000;

/// A table of TPC-H.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub enum TpchTable {
    /// 150,000 rows at scale 1.
    Customer,
    /// About 6,000,000 rows at scale 1.
    Lineitem,
    /// 25 rows at every scale.
    Nation,
    /// 1,500,000 rows at scale 1.
    Orders,
    /// 200,000 rows at scale 1.
    Part,
    /// 800,000 rows at scale 1; a few less than that share below scale 0.025.
    Partsupp,
    /// 5 rows at every scale.
    Region,
    /// 10,000 rows at scale 1.
    Supplier,
}

/// What `lakesync generate tpch` is asked for.
#[derive(Clone, Debug, clap::Args)]
pub struct TpchArgs {
    /// Which table to generate.
    #[arg(long, value_enum)]
    pub table: TpchTable,
    /// How much of it: 1 is about a gigabyte over all tables, 0.01 is a hundredth of that.
    #[arg(long, default_value_t = 0.01, value_parser = parse_scale)]
    pub scale: f64,
    /// The file to write, or - for standard output.
    #[arg(long, default_value = "-")]
    pub out: PathBuf,
}

/// Rows that could not be generated.
#[derive(Debug, thiserror::Error)]
pub enum GenerateError {
    /// The output cannot be written. No file of the wanted name has been made or changed.
    #[error("cannot write {}: {source}; give another --out, or free some space", path.display())]
    Output {
        /// The file, or - for standard output.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl TpchTable {
    /// The table's name in TPC-H.
    pub fn name(self) -> &'static str {
        match self {
            TpchTable::Customer => "customer",
            TpchTable::Lineitem => "lineitem",
            TpchTable::Nation => "nation",
            TpchTable::Orders => "orders",
            TpchTable::Part => "part",
            TpchTable::Partsupp => "partsupp",
            TpchTable::Region => "region",
            TpchTable::Supplier => "supplier",
        }
    }

    /// The columns of its key, as `lakesync push --key` takes them.
    pub fn key(self) -> &'static str {
        match self {
            TpchTable::Customer => "c_custkey",
            TpchTable::Lineitem => "l_orderkey,l_linenumber",
            TpchTable::Nation => "n_nationkey",
            TpchTable::Orders => "o_orderkey",
            TpchTable::Part => "p_partkey",
            TpchTable::Partsupp => "ps_partkey,ps_suppkey",
            TpchTable::Region => "r_regionkey",
            TpchTable::Supplier => "s_suppkey",
        }
    }

    /// The columns that are `decimal(15,2)`, which rows of strings cannot tell.
    pub fn decimals(self) -> &'static [&'static str] {
        match self {
            TpchTable::Customer => &["c_acctbal"],
            TpchTable::Lineitem => &["l_quantity", "l_extendedprice", "l_discount", "l_tax"],
            TpchTable::Orders => &["o_totalprice"],
            TpchTable::Part => &["p_retailprice"],
            TpchTable::Partsupp => &["ps_supplycost"],
            TpchTable::Supplier => &["s_acctbal"],
            TpchTable::Nation | TpchTable::Region => &[],
        }
    }

    /// The command that loads a file of this table's rows.
    pub fn push_command(self, file: &Path) -> String {
        let mut command = format!(
            "lakesync push {} --table {} --key {}",
            file.display(),
            self.name(),
            self.key()
        );
        for column in self.decimals() {
            command.push_str(&format!(" --type '{column}=decimal(15,2)'"));
        }
        command
    }
}

/// Generates a table. Rows go to the file of `args`, or to `stdout`; what a person wants to know goes to `notes`.
/// Returns the number of rows; a reader of `stdout` that goes away (`head`) ends the work without an error.
///
/// # Errors
/// [`GenerateError::Output`].
pub fn tpch(
    args: &TpchArgs,
    stdout: impl Write,
    mut notes: impl Write,
) -> Result<u64, GenerateError> {
    let to_stdout = args.out == Path::new("-");
    let failed = |source| GenerateError::Output {
        path: args.out.clone(),
        source,
    };
    let rows = if to_stdout {
        let mut lines = Lines::new(BufWriter::new(stdout), &mut notes);
        match write_table(args.table, args.scale, &mut lines).and_then(|()| lines.out.flush()) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(failed(error)),
            _ => lines.rows,
        }
    } else {
        write_file(args, &mut notes).map_err(failed)?
    };
    // Notes are for people; losing them is no reason to fail.
    let _noted = writeln!(
        notes,
        "{rows} rows of {} at scale {}. Next: {}",
        args.table.name(),
        args.scale,
        args.table.push_command(&args.out)
    );
    Ok(rows)
}

fn parse_scale(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(scale) if (SCALE_MIN..=SCALE_MAX).contains(&scale) => Ok(scale),
        _ => Err(format!("give a number from {SCALE_MIN} to {SCALE_MAX}")),
    }
}

fn write_file(args: &TpchArgs, notes: &mut impl Write) -> io::Result<u64> {
    let mut partial = args.out.clone().into_os_string();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    let mut lines = Lines::new(BufWriter::new(File::create(&partial)?), notes);
    let written = write_table(args.table, args.scale, &mut lines).and_then(|()| lines.out.flush());
    match written.and_then(|()| std::fs::rename(&partial, &args.out)) {
        Ok(()) => Ok(lines.rows),
        Err(error) => {
            // The first failure is the one to report, whether or not the rest can be removed.
            let _removed = std::fs::remove_file(&partial);
            Err(error)
        }
    }
}

/// Lines of JSON objects, counted.
struct Lines<'a, W: Write, N: Write> {
    out: W,
    notes: &'a mut N,
    rows: u64,
    line: Vec<u8>,
}

impl<'a, W: Write, N: Write> Lines<'a, W, N> {
    fn new(out: W, notes: &'a mut N) -> Self {
        Lines {
            out,
            notes,
            rows: 0,
            line: Vec::new(),
        }
    }

    fn write_all<T>(
        &mut self,
        rows: impl IntoIterator<Item = T>,
        fill: impl Fn(&T, &mut Object<'_>),
    ) -> io::Result<()> {
        for row in rows {
            self.line.clear();
            fill(&row, &mut Object(&mut self.line));
            self.line.extend_from_slice(b"}\n");
            self.out.write_all(&self.line)?;
            self.rows += 1;
            if self.rows.is_multiple_of(NOTE_ROWS) {
                let _noted = writeln!(self.notes, "{} rows so far", self.rows);
            }
        }
        Ok(())
    }
}

/// A JSON object that is being written.
struct Object<'a>(&'a mut Vec<u8>);

impl Object<'_> {
    fn name(&mut self, name: &str) {
        self.0.push(if self.0.is_empty() { b'{' } else { b',' });
        self.string(name);
        self.0.push(b':');
    }

    fn string(&mut self, text: &str) {
        serde_json::to_writer(&mut *self.0, text).expect("text always has a JSON form");
    }

    fn long(&mut self, name: &str, value: impl Into<i64>) -> &mut Self {
        self.name(name);
        self.0
            .extend_from_slice(value.into().to_string().as_bytes());
        self
    }

    fn text(&mut self, name: &str, value: &impl fmt::Display) -> &mut Self {
        self.name(name);
        self.string(&value.to_string());
        self
    }

    fn decimal(&mut self, name: &str, value: TPCHDecimal) -> &mut Self {
        self.text(name, &value)
    }

    fn date(&mut self, name: &str, value: TPCHDate) -> &mut Self {
        self.text(name, &value)
    }
}

fn write_table<W: Write, N: Write>(
    table: TpchTable,
    scale: f64,
    lines: &mut Lines<'_, W, N>,
) -> io::Result<()> {
    match table {
        TpchTable::Customer => {
            lines.write_all(CustomerGenerator::new(scale, 1, 1).iter(), customer)
        }
        TpchTable::Lineitem => {
            lines.write_all(LineItemGenerator::new(scale, 1, 1).iter(), line_item)
        }
        TpchTable::Nation => lines.write_all(NationGenerator::new(scale, 1, 1).iter(), nation),
        TpchTable::Orders => lines.write_all(OrderGenerator::new(scale, 1, 1).iter(), order),
        TpchTable::Part => lines.write_all(PartGenerator::new(scale, 1, 1).iter(), part),
        TpchTable::Partsupp => {
            let rows = PartSuppGenerator::new(scale, 1, 1);
            lines.write_all(distinct_suppliers(rows.iter()), part_supp)
        }
        TpchTable::Region => lines.write_all(RegionGenerator::new(scale, 1, 1).iter(), region),
        TpchTable::Supplier => {
            lines.write_all(SupplierGenerator::new(scale, 1, 1).iter(), supplier)
        }
    }
}

/// Below scale 0.025 the formula of TPC-H gives some parts the same supplier twice. A key names one row, so the second
/// is left out.
fn distinct_suppliers<'a>(
    rows: impl Iterator<Item = PartSupp<'a>>,
) -> impl Iterator<Item = PartSupp<'a>> {
    let mut part = 0;
    let mut suppliers = Vec::new();
    rows.filter(move |row| {
        if row.ps_partkey != part {
            part = row.ps_partkey;
            suppliers.clear();
        }
        let new = !suppliers.contains(&row.ps_suppkey);
        suppliers.push(row.ps_suppkey);
        new
    })
}

fn customer(row: &Customer<'_>, object: &mut Object<'_>) {
    object
        .long("c_custkey", row.c_custkey)
        .text("c_name", &row.c_name)
        .text("c_address", &row.c_address)
        .long("c_nationkey", row.c_nationkey)
        .text("c_phone", &row.c_phone)
        .decimal("c_acctbal", row.c_acctbal)
        .text("c_mktsegment", &row.c_mktsegment)
        .text("c_comment", &row.c_comment);
}

fn line_item(row: &LineItem<'_>, object: &mut Object<'_>) {
    object
        .long("l_orderkey", row.l_orderkey)
        .long("l_partkey", row.l_partkey)
        .long("l_suppkey", row.l_suppkey)
        .long("l_linenumber", row.l_linenumber)
        // A decimal in TPC-H, whole hundredths here, because the generator keeps only whole quantities.
        .decimal("l_quantity", TPCHDecimal::new(row.l_quantity * 100))
        .decimal("l_extendedprice", row.l_extendedprice)
        .decimal("l_discount", row.l_discount)
        .decimal("l_tax", row.l_tax)
        .text("l_returnflag", &row.l_returnflag)
        .text("l_linestatus", &row.l_linestatus)
        .date("l_shipdate", row.l_shipdate)
        .date("l_commitdate", row.l_commitdate)
        .date("l_receiptdate", row.l_receiptdate)
        .text("l_shipinstruct", &row.l_shipinstruct)
        .text("l_shipmode", &row.l_shipmode)
        .text("l_comment", &row.l_comment);
}

fn nation(row: &Nation<'_>, object: &mut Object<'_>) {
    object
        .long("n_nationkey", row.n_nationkey)
        .text("n_name", &row.n_name)
        .long("n_regionkey", row.n_regionkey)
        .text("n_comment", &row.n_comment);
}

fn order(row: &Order<'_>, object: &mut Object<'_>) {
    object
        .long("o_orderkey", row.o_orderkey)
        .long("o_custkey", row.o_custkey)
        .text("o_orderstatus", &row.o_orderstatus)
        .decimal("o_totalprice", row.o_totalprice)
        .date("o_orderdate", row.o_orderdate)
        .text("o_orderpriority", &row.o_orderpriority)
        .text("o_clerk", &row.o_clerk)
        .long("o_shippriority", row.o_shippriority)
        .text("o_comment", &row.o_comment);
}

fn part(row: &Part<'_>, object: &mut Object<'_>) {
    object
        .long("p_partkey", row.p_partkey)
        .text("p_name", &row.p_name)
        .text("p_mfgr", &row.p_mfgr)
        .text("p_brand", &row.p_brand)
        .text("p_type", &row.p_type)
        .long("p_size", row.p_size)
        .text("p_container", &row.p_container)
        .decimal("p_retailprice", row.p_retailprice)
        .text("p_comment", &row.p_comment);
}

fn part_supp(row: &PartSupp<'_>, object: &mut Object<'_>) {
    object
        .long("ps_partkey", row.ps_partkey)
        .long("ps_suppkey", row.ps_suppkey)
        .long("ps_availqty", row.ps_availqty)
        .decimal("ps_supplycost", row.ps_supplycost)
        .text("ps_comment", &row.ps_comment);
}

fn region(row: &Region<'_>, object: &mut Object<'_>) {
    object
        .long("r_regionkey", row.r_regionkey)
        .text("r_name", &row.r_name)
        .text("r_comment", &row.r_comment);
}

fn supplier(row: &Supplier, object: &mut Object<'_>) {
    object
        .long("s_suppkey", row.s_suppkey)
        .text("s_name", &row.s_name)
        .text("s_address", &row.s_address)
        .long("s_nationkey", row.s_nationkey)
        .text("s_phone", &row.s_phone)
        .decimal("s_acctbal", row.s_acctbal)
        .text("s_comment", &row.s_comment);
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use clap::ValueEnum as _;
    use serde_json::{Map, Value};

    use super::*;

    fn args(table: TpchTable, scale: f64, out: &Path) -> TpchArgs {
        TpchArgs {
            table,
            scale,
            out: out.to_owned(),
        }
    }

    fn generated(table: TpchTable, scale: f64) -> (Vec<Map<String, Value>>, String) {
        let (mut out, mut notes) = (Vec::new(), Vec::new());
        let rows = tpch(&args(table, scale, Path::new("-")), &mut out, &mut notes).expect("memory");
        let parsed: Vec<_> = String::from_utf8(out)
            .expect("text")
            .lines()
            .map(|line| serde_json::from_str(line).expect("an object a line"))
            .collect();
        assert_eq!(u64::try_from(parsed.len()).expect("few"), rows);
        (parsed, String::from_utf8(notes).expect("text"))
    }

    #[test]
    fn every_table_has_rows_with_its_key_and_typed_values() {
        for table in TpchTable::value_variants() {
            for scale in [SCALE_MIN, 0.001] {
                let (rows, _) = generated(*table, scale);
                assert!(!rows.is_empty(), "{table:?} at {scale}");
                let mut keys = HashSet::new();
                for row in &rows {
                    let key: Vec<_> = table.key().split(',').map(|c| row[c].as_i64()).collect();
                    assert!(key.iter().all(Option::is_some), "{table:?}: {row:?}");
                    assert!(keys.insert(key), "{table:?}: a key twice");
                    for (column, value) in row {
                        let decimal = table.decimals().contains(&column.as_str());
                        let date = column.ends_with("date");
                        let text = value.as_str().unwrap_or_default();
                        if decimal {
                            let (_, digits) = text.split_once('.').expect("a point");
                            assert_eq!(digits.len(), 2, "{column}: {text}");
                        }
                        if date {
                            assert_eq!((text.len(), text.matches('-').count()), (10, 2), "{text}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn the_first_order_line_is_that_of_tpch() {
        let (rows, notes) = generated(TpchTable::Lineitem, 0.001);
        let first = serde_json::to_string(&rows[0]).expect("JSON");
        assert_eq!(
            first,
            "{\"l_orderkey\":1,\"l_partkey\":156,\"l_suppkey\":4,\"l_linenumber\":1,\"l_quantity\":\"17.00\",\
             \"l_extendedprice\":\"17954.55\",\"l_discount\":\"0.04\",\"l_tax\":\"0.02\",\"l_returnflag\":\"N\",\
             \"l_linestatus\":\"O\",\"l_shipdate\":\"1996-03-13\",\"l_commitdate\":\"1996-02-12\",\
             \"l_receiptdate\":\"1996-03-22\",\"l_shipinstruct\":\"DELIVER IN PERSON\",\"l_shipmode\":\"TRUCK\",\
             \"l_comment\":\"egular courts above the\"}"
        );
        assert!(
            notes.contains(
                "--table lineitem --key l_orderkey,l_linenumber --type 'l_quantity=decimal(15,2)'"
            ),
            "{notes}"
        );
    }

    #[test]
    fn a_file_is_whole_or_not_there() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("nation.ndjson");
        let rows =
            tpch(&args(TpchTable::Nation, 1.0, &file), io::sink(), io::sink()).expect("room");
        assert_eq!(rows, 25);
        let names = || -> Vec<_> {
            let entries = std::fs::read_dir(folder.path()).expect("a folder");
            entries
                .map(|entry| entry.expect("an entry").file_name())
                .collect()
        };
        assert_eq!(names(), ["nation.ndjson"]);

        let missing = folder.path().join("missing/nation.ndjson");
        let error = tpch(
            &args(TpchTable::Nation, 1.0, &missing),
            io::sink(),
            io::sink(),
        )
        .expect_err("no such folder");
        assert!(error.to_string().contains("--out"), "{error}");
        // The rename fails on a folder of that name, and leaves nothing behind.
        let taken = folder.path().join("taken");
        std::fs::create_dir(&taken).expect("a folder");
        assert!(
            tpch(
                &args(TpchTable::Nation, 1.0, &taken),
                io::sink(),
                io::sink()
            )
            .is_err()
        );
        assert_eq!(names().len(), 2);
    }

    #[test]
    fn a_reader_that_went_away_is_no_error() {
        struct Closed(usize);
        impl Write for Closed {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                match self.0.checked_sub(bytes.len()) {
                    Some(left) => self.0 = left,
                    None => return Err(io::ErrorKind::BrokenPipe.into()),
                }
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let args = args(TpchTable::Customer, 0.01, Path::new("-"));
        let rows = tpch(&args, Closed(50_000), io::sink()).expect("no error");
        assert!(rows > 0 && rows < 1_500, "{rows}");
    }

    #[test]
    fn scales_have_limits() {
        assert_eq!(parse_scale("0.01"), Ok(0.01));
        for text in ["0", "-1", "1001", "NaN", "inf", "x"] {
            assert!(parse_scale(text).is_err(), "{text}");
        }
    }
}
