//! What exactly once costs, and how soon the processor is back: `cargo run --release -p tidewatch-benches --bin exactly-once`.
//!
//! Four instruments, each on the embedded broker or on an Apache Kafka of its own. `restore`, `recover` and `overhead` measure the
//! program as it ships, as a child process; `commits` runs the processor in this process and listens to its metrics. What is held
//! against a goal is a ratio, or a figure per core, as the machine may be busy: its load is told with the figures. CPU times are those
//! that Linux counts (`/proc`), so the instruments run there alone.

mod commits;
mod input;
mod overhead;
mod program;
mod recover;
mod restore;
mod stand;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tidewatch_benches::{BrokerKind, report};

/// That of the program.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const EXAMPLES: &str = "\
Examples:
  exactly-once restore                               a million entities, z-score only; a tenth of that with all detectors
  exactly-once restore --detectors all --entities 10000 --windows 300
  exactly-once recover --broker kafka --kills 20     SIGKILL, and the time to the next committed output
  exactly-once overhead --broker kafka --rounds 9
  exactly-once commits --check --json commits.json

The program is looked for beside this one: cargo build --release -p tidewatch -p tidewatch-benches";

/// Measures what exactly once costs and how soon the processor is back
#[derive(Debug, Parser)]
#[command(after_help = EXAMPLES)]
struct Args {
    #[command(subcommand)]
    instrument: Instrument,
    /// What it runs on
    #[arg(long, value_enum, default_value = "embedded", global = true)]
    broker: BrokerKind,
    /// Write the figures to this file as JSON, too
    #[arg(long, value_name = "FILE", global = true)]
    json: Option<PathBuf>,
    /// Fail if a goal is missed
    #[arg(long, global = true)]
    check: bool,
}

#[derive(Debug, Subcommand)]
enum Instrument {
    /// How fast state is read back: starts with nothing to read, less starts of an empty group
    Restore(restore::Args),
    /// How long after SIGKILL the next output is committed, with static membership
    Recover(recover::Args),
    /// CPU time an event of exactly-once over that of at-least-once
    Overhead(overhead::Args),
    /// How long commits take with snapshots as shipped, and without
    Commits(commits::Args),
}

fn main() -> ExitCode {
    tidewatch_benches::exit_code(measure(&Args::parse()))
}

fn measure(args: &Args) -> anyhow::Result<()> {
    if cfg!(debug_assertions) {
        eprintln!("a debug build: its figures are worth nothing");
    }
    let load = report::load();
    let report = match &args.instrument {
        Instrument::Restore(more) => restore::run(args.broker, more),
        Instrument::Recover(more) => recover::run(args.broker, more),
        Instrument::Overhead(more) => overhead::run(args.broker, more),
        Instrument::Commits(more) => commits::run(args.broker, more),
    }?;
    let about = report::about(&format!("{} broker", args.broker.name()), &load);
    report::publish(&report, &about, args.json.as_deref(), args.check)
}

/// What is going on goes to standard error, the figures to standard output.
fn say(text: &str) {
    eprintln!("{text}");
}
