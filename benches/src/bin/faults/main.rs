//! Whether exactly once holds when everything breaks: `cargo run --release -p tidewatch-benches --bin faults`.
//!
//! A run writes a seeded input with disorder and poison to a broker of its own, has two or three real processors and Delivery work on it,
//! befalls them with some faults, each with calm between, and lets them come to their end. Then a consumer of committed records has to
//! see, key by key and byte for byte, what an undisturbed processor made of the same input ([`outputs`]), and all the rest of
//! [`oracle`] has to be true. A seed gives the same input, setup, faults and draws; when a signal meets a process is the machine's.
//! Memory is what Linux counts (`/proc`), so the instrument runs there alone.

mod cluster;
mod dice;
mod fault;
mod files;
mod fleet;
mod inject;
mod input;
mod oracle;
mod outputs;
mod report;
mod run;
mod settings;
mod stage;
mod storage;
mod tamper;

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};

use cluster::BrokerKind;
use report::Report;
use run::{Campaign, Golden, Plan};

const EXAMPLES: &str = "\
Examples:
  faults --runs 20                                    twenty runs on the embedded broker
  faults --runs 1 --seed 4711                         the run of a seed, as a failing one names it
  faults --runs 50 --only zombie --only late-end-txn  one of these faults in each run
  faults --broker kafka --runs 10 --json kafka.json   on an Apache Kafka of its own for each run
  faults --list                                       all faults, and what they do

The program is looked for beside this one: cargo build --release -p tidewatch -p tidewatch-benches";

/// Breaks a pipeline in every way there is and holds its results against an undisturbed one's
#[derive(Debug, Parser)]
#[command(after_help = EXAMPLES)]
struct Args {
    /// Where the runs take place
    #[arg(long, value_enum, default_value = "embedded")]
    broker: BrokerKind,
    /// How many runs
    #[arg(long, default_value_t = 10)]
    runs: u64,
    /// What everything is drawn from; the first run has this seed, the others seeds that they name
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Only this fault, one in each run; may be given several times
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Events of a run's input
    #[arg(long, default_value_t = 200_000)]
    events: u64,
    /// Records written a second, at most
    #[arg(long, default_value_t = 25_000)]
    rate: usize,
    /// How long there may be no progress after a fault, in seconds
    #[arg(long, default_value_t = 60)]
    patience: u64,
    /// What a process may take of memory, in MiB; a tenth more is let pass
    #[arg(long, default_value_t = 512)]
    memory_mib: u64,
    /// Write the table and every run to this file as JSON, too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Name all faults and end
    #[arg(long)]
    list: bool,
}

fn main() -> ExitCode {
    match campaign(&Args::parse()) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The program under test, built as this one was.
fn program() -> anyhow::Result<PathBuf> {
    let folder = std::env::current_exe()?;
    let program = folder.parent().context("a program has a folder")?.join("tidewatch");
    let profile = if cfg!(debug_assertions) { "" } else { "--release " };
    anyhow::ensure!(program.is_file(), "there is no {}: run `cargo build {profile}-p tidewatch`", program.display());
    Ok(program)
}

/// Runs it; how many runs failed.
fn campaign(args: &Args) -> anyhow::Result<usize> {
    if args.list {
        for kind in fault::ALL {
            println!("{:32}{}{}", kind.name, kind.about, if kind.is_for_kafka { "" } else { " (embedded only)" });
        }
        return Ok(0);
    }
    anyhow::ensure!(args.runs > 0 && args.rate > 0 && args.patience > 0, "--runs, --rate and --patience are above 0");
    let can_mount = storage::can_mount();
    let campaign = Campaign {
        program: program()?,
        broker: args.broker,
        events: args.events,
        records_per_second: args.rate,
        patience: Duration::from_secs(args.patience),
        memory_max_mib: args.memory_mib,
        faults: fault::of(args.broker, &args.only)?,
        only: !args.only.is_empty(),
        can_mount,
    };
    if !can_mount && campaign.faults.iter().any(|kind| kind.needs_mount()) {
        eprintln!("without the right to mount: disk-full and disk-read-only are left out");
    }
    let (live, mut report) = (Live::new(args.runs), Report::new(args));
    let mut golden = BTreeMap::<u64, Golden>::new();
    for number in 0..args.runs {
        let plan = Plan::draw(&campaign, dice::seed_of_run(args.seed, number));
        let golden = match golden.entry(plan.variant) {
            std::collections::btree_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::btree_map::Entry::Vacant(new) => {
                live.say("the undisturbed run");
                new.insert(campaign.golden(plan.variant).context("the undisturbed run")?)
            }
        };
        let verdict = campaign.run(&plan, golden, &|what| live.say(what))?;
        live.line(&report.add(verdict, number + 1, args.runs));
        // A campaign takes a night: what it has found is there when it is cut short.
        if let Some(file) = &args.json {
            report.write_json(file)?;
        }
    }
    live.end();
    print!("\n{}", report.table(&campaign.faults));
    Ok(report.failed())
}

/// What is going on: a line on a terminal, nothing elsewhere. What is over goes to standard error.
struct Live(ProgressBar);

impl Live {
    fn new(runs: u64) -> Self {
        let bar = if std::io::stderr().is_terminal() { ProgressBar::new(runs) } else { ProgressBar::hidden() };
        let style = ProgressStyle::with_template("  {spinner} {pos} of {len} runs, {elapsed}: {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.enable_steady_tick(Duration::from_millis(200));
        Self(bar)
    }

    fn say(&self, what: &str) {
        self.0.set_message(what.to_owned());
    }

    fn line(&self, text: &str) {
        self.0.suspend(|| eprintln!("{text}"));
        self.0.inc(1);
    }

    fn end(&self) {
        self.0.finish_and_clear();
    }
}
