//! The embedded broker beside Apache Kafka, in one run on one machine: `cargo run --release -p tidewatch-benches --bin broker`.
//!
//! Each broker is a process of its own, the clients are in this one. Rounds alternate between the two and begin with the other one
//! each time; medians are reported. Kafka runs with the options of its own start script. Memory and processor time are those that
//! Linux counts (`/proc`), so the instrument runs there alone.

mod load;
mod report;
mod subject;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Parser;

use load::Load;
use report::{Goal, Report};
use subject::{End, Subject};

/// Measures the embedded broker beside Apache Kafka
#[derive(Debug, Parser)]
struct Args {
    /// Rounds, of which the median counts
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Records of 100 B that a round writes and reads
    #[arg(long, default_value_t = 1_000_000)]
    records: u64,
    /// Transactions of a round
    #[arg(long, default_value_t = 300)]
    transactions: usize,
    /// Records of 100 B on disk when memory is measured
    #[arg(long, default_value_t = 5_000_000)]
    stored: u64,
    /// Bytes on disk when a start is measured
    #[arg(long, default_value_t = 1_000_000_000)]
    log_bytes: u64,
    /// Write the figures to this file as JSON, too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Fail if a goal is missed
    #[arg(long)]
    check: bool,
}

/// Bytes of a record where the log is to be long.
const LONG_RECORD_BYTES: u64 = 1_000;
/// Starts of which the median counts.
const STARTS: usize = 3;

fn main() -> ExitCode {
    tidewatch_benches::exit_code(measure(&Args::parse()))
}

fn measure(args: &Args) -> anyhow::Result<()> {
    let program = subject::build()?;
    let mut report = Report::new(args);
    say("starting both");
    let mut subjects = [Subject::embedded(&program)?, Subject::apache()?];
    rounds(args, &mut subjects, &mut report)?;
    memory(args, &subjects, &mut report)?;
    drop(subjects);
    starts(args, [Subject::embedded(&program)?, Subject::apache()?], &mut report)?;
    print!("\n{}", report.table());
    if let Some(file) = &args.json {
        std::fs::write(file, report.json()).with_context(|| format!("cannot write {}", file.display()))?;
    }
    let missed = report.missed();
    anyhow::ensure!(!args.check || missed.is_empty(), "goals missed: {}", missed.join(", "));
    Ok(())
}

/// What is going on goes to standard error, the figures to standard output.
fn say(text: &str) {
    eprintln!("{text}");
}

/// Writes, reads and transactions, by turns.
fn rounds(args: &Args, subjects: &mut [Subject; 2], report: &mut Report) -> anyhow::Result<()> {
    say("warming up");
    for subject in subjects.iter_mut() {
        let load = Load::new(subject, "warm-up")?;
        load.produce(args.records / 5, 100, "lz4")?;
        load.consume(args.records / 5)?;
        load.transactions(args.transactions / 5)?;
    }
    for round in 0..args.rounds {
        for turn in 0..2 {
            let subject = &mut subjects[(round + turn) % 2];
            let name = subject.name();
            let load = Load::new(subject, &format!("round-{round}"))?;
            let (cpu, took) = (subject.cpu()?, load.produce(args.records, 100, "lz4")?);
            let produce_cpu = subject.cpu()? - cpu;
            let rate = |took: Duration| args.records as f64 / took.as_secs_f64();
            report.add("produce", name, rate(took));
            let (cpu, read) = (subject.cpu()?, load.consume(args.records)?);
            let consume_cpu = subject.cpu()? - cpu;
            report.add("consume", name, rate(read));
            report.add("cpu_produce", name, produce_cpu.as_secs_f64());
            report.add("cpu_consume", name, consume_cpu.as_secs_f64());
            report.add("cpu", name, (produce_cpu + consume_cpu).as_secs_f64());
            let mut times = load.transactions(args.transactions)?;
            times.sort();
            let at = |share: f64| times[((times.len() - 1) as f64 * share).round() as usize].as_secs_f64() * 1e3;
            report.add("transaction_p50", name, at(0.5));
            report.add("transaction_p99", name, at(0.99));
            say(&format!(
                "round {} of {}, {name}: {:.0} written and {:.0} read a second, a transaction in {:.1} ms",
                round + 1,
                args.rounds,
                rate(took),
                rate(read),
                at(0.5)
            ));
        }
    }
    Ok(())
}

/// Fills both up to the number of records, and asks the system for their memory.
fn memory(args: &Args, subjects: &[Subject; 2], report: &mut Report) -> anyhow::Result<()> {
    let written = args.records / 5 + args.records * args.rounds as u64;
    let missing = args.stored.saturating_sub(written);
    for subject in subjects {
        say(&format!("{}: {missing} further records, then its memory", subject.name()));
        Load::new(subject, "further")?.produce(missing, 100, "lz4")?;
        report.add("memory", subject.name(), subject.memory("VmRSS")?);
        report.add("memory_peak", subject.name(), subject.memory("VmHWM")?);
    }
    Ok(())
}

/// Starts on an empty folder, and on a long log after a clean end and after SIGKILL.
fn starts(args: &Args, mut subjects: [Subject; 2], report: &mut Report) -> anyhow::Result<()> {
    for subject in &mut subjects {
        let name = subject.name();
        say(&format!("{name}: starts"));
        for _ in 0..STARTS {
            subject.empty()?;
            report.add("start_empty", name, timed(|| subject.start())?);
        }
        let records = args.log_bytes / LONG_RECORD_BYTES;
        say(&format!("{name}: {records} records of {LONG_RECORD_BYTES} B, then starts"));
        Load::new(subject, "long")?.produce(records, LONG_RECORD_BYTES as usize, "none")?;
        for (end, row) in [(End::Clean, "start_long"), (End::Killed, "start_killed")] {
            for _ in 0..STARTS {
                subject.end(end)?;
                report.add(row, name, timed(|| subject.start())?);
            }
        }
        subject.end(End::Killed)?;
    }
    Ok(())
}

/// Milliseconds.
fn timed(mut what: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<f64> {
    let began = Instant::now();
    what()?;
    Ok(began.elapsed().as_secs_f64() * 1e3)
}

/// What the figures are, in the order of the table.
pub(crate) const ROWS: [(&str, &str, Goal); 12] = [
    ("produce", "records written a second (100 B, idempotent, acks=all, lz4)", Goal::RatioAtLeast(1.0)),
    ("consume", "records read a second", Goal::RatioAtLeast(1.0)),
    ("cpu_produce", "broker's CPU for writing, s", Goal::None),
    ("cpu_consume", "broker's CPU for reading, s", Goal::None),
    ("cpu", "broker's CPU for both, s", Goal::RatioAtMost(0.5)),
    ("transaction_p50", "a transaction of 10 records and an offset, median, ms", Goal::AtMost(5.0)),
    ("transaction_p99", "the same, 99th percentile, ms", Goal::None),
    ("memory", "memory with the records stored, MB (RSS)", Goal::AtMost(150.0)),
    ("memory_peak", "the most it ever had, MB", Goal::None),
    ("start_empty", "start on an empty folder, ms", Goal::AtMost(200.0)),
    ("start_long", "start on the long log after a clean end, ms", Goal::AtMost(1_000.0)),
    ("start_killed", "start on the long log after SIGKILL, ms", Goal::AtMost(1_000.0)),
];
