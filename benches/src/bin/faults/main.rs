//! Whether exactly once holds when everything breaks: `cargo run --release -p tidewatch-benches --bin faults`.
//!
//! A run writes a seeded input with disorder and poison to a broker of its own, has two or three real processors and Delivery work on it,
//! befalls them with some faults, each with calm between, and lets them come to their end. Then a consumer of committed records has to
//! see, key by key and byte for byte, what an undisturbed processor made of the same input ([`outputs`]), and all the rest of
//! [`oracle`] has to be true. A seed gives the same input, setup, faults and draws; when a signal meets a process is the machine's.
//! Memory is what Linux counts (`/proc`), so the instrument runs there alone.

mod clock;
mod cluster;
mod dice;
mod fault;
mod files;
mod fleet;
mod hold;
mod inject;
mod input;
mod local;
mod oracle;
mod outputs;
mod proxy;
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
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::ScopedJoinHandle;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use tidewatch_benches::BrokerKind;

use fault::Need;
use report::Report;
use run::{Campaign, Golden, Means, Plan};

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
    #[arg(long, default_value_t = 50_000)]
    rate: usize,
    /// Runs at a time: a run mostly waits, so that two cores carry several
    #[arg(long, default_value_t = 1)]
    jobs: usize,
    /// How long there may be no progress after a fault, in seconds
    #[arg(long, default_value_t = 60)]
    patience: u64,
    /// What a process may take of memory, in MiB; a tenth more is let pass
    #[arg(long, default_value_t = 192)]
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
        // What has failed is told already.
        Ok(failed) if failed > 0 => ExitCode::FAILURE,
        outcome => tidewatch_benches::exit_code(outcome.map(drop)),
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
    for (option, value) in [
        ("runs", args.runs),
        ("events", args.events),
        ("rate", args.rate as u64),
        ("patience", args.patience),
        ("memory-mib", args.memory_mib),
    ] {
        anyhow::ensure!(value > 0, "--{option} is 0: write at least 1");
    }
    anyhow::ensure!((1..=64).contains(&args.jobs), "--jobs is {}: write 1 to 64", args.jobs);
    let campaign = Campaign {
        program: program()?,
        broker: args.broker,
        events: args.events,
        records_per_second: args.rate,
        patience: Duration::from_secs(args.patience),
        memory_max_mib: args.memory_mib,
        faults: fault::of(args.broker, &args.only)?,
        only: !args.only.is_empty(),
        means: Means::find(),
        is_cut_short: Arc::default(),
    };
    for need in Need::ALL.into_iter().filter(|&need| !campaign.means.meet(need)) {
        let faults = campaign.faults.iter().filter(|kind| kind.need() == Some(need)).map(|kind| kind.name);
        let faults: Vec<_> = faults.collect();
        if !faults.is_empty() {
            eprintln!("without {}, these are left out: {}", need.about(), faults.join(", "));
        }
    }
    end_on_signal(Arc::clone(&campaign.is_cut_short))?;
    let work = Work {
        args,
        campaign: &campaign,
        live: Live::new(args.runs),
        next: AtomicU64::new(0),
        goldens: Mutex::default(),
        report: Mutex::new(Report::new(args)),
    };
    let outcome = std::thread::scope(|scope| {
        let jobs: Vec<_> = (0..args.jobs).map(|_| scope.spawn(|| work.work())).collect();
        let jobs: Vec<_> = jobs.into_iter().map(ScopedJoinHandle::join).collect();
        let said = |job: std::thread::Result<_>| job.unwrap_or_else(|_| Err(anyhow::anyhow!("a job panicked")));
        jobs.into_iter().try_for_each(said)
    });
    work.live.end();
    let report = work.report.into_inner().unwrap_or_else(PoisonError::into_inner);
    // What there is is told, whatever has ended it.
    if !report.is_empty() {
        print!("\n{}", report.table(&campaign.faults));
    }
    outcome?;
    anyhow::ensure!(
        !campaign.is_cut_short.load(Ordering::Relaxed),
        "cut short: these are the runs that came to their end"
    );
    Ok(report.failed())
}

/// Sets this at the first SIGINT or SIGTERM; who looks at it kills its processes.
fn end_on_signal(is_cut_short: Arc<AtomicBool>) -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        runtime.block_on(async {
            let (Ok(mut interrupt), Ok(mut terminate)) =
                (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
            else {
                return;
            };
            tokio::select! { _ = interrupt.recv() => {} _ = terminate.recv() => {} }
            is_cut_short.store(true, Ordering::Relaxed);
            eprintln!("asked to end: the processes are killed, then comes the table of what is over");
            // Not what the system does at the next one: that would leave the processes behind.
            std::future::pending::<()>().await;
        });
    })?;
    Ok(())
}

/// What the jobs of a campaign share.
struct Work<'a> {
    args: &'a Args,
    campaign: &'a Campaign,
    live: Live,
    next: AtomicU64,
    goldens: Mutex<BTreeMap<u64, Arc<Golden>>>,
    report: Mutex<Report>,
}

impl Work<'_> {
    /// Takes run after run.
    fn work(&self) -> anyhow::Result<()> {
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            if number >= self.args.runs || self.campaign.is_cut_short.load(Ordering::Relaxed) {
                return Ok(());
            }
            let plan = Plan::draw(self.campaign, dice::seed_of_run(self.args.seed, number));
            let golden = self.golden(plan.variant).inspect_err(|_| self.stop())?;
            let say = |what: &str| self.live.say(&format!("run {}, {what}", number + 1));
            let Some(verdict) = self.campaign.run(&plan, &golden, &say).inspect_err(|_| self.stop())? else {
                return Ok(());
            };
            let mut report = lock(&self.report);
            self.live.line(&report.add(verdict, number + 1, self.args.runs));
            // A campaign takes a night: what it has found is there when it is cut short.
            if let Some(file) = &self.args.json {
                report.write_json(file).inspect_err(|_| self.stop())?;
            }
        }
    }

    /// No further run is begun.
    fn stop(&self) {
        self.next.store(self.args.runs, Ordering::Relaxed);
    }

    /// The undisturbed run of a variant, made once: who needs it meanwhile waits.
    fn golden(&self, variant: u64) -> anyhow::Result<Arc<Golden>> {
        let mut goldens = lock(&self.goldens);
        if let Some(golden) = goldens.get(&variant) {
            return Ok(Arc::clone(golden));
        }
        self.live.say("the undisturbed run");
        let golden = Arc::new(self.campaign.golden(variant).context("the undisturbed run")?);
        goldens.insert(variant, Arc::clone(&golden));
        Ok(golden)
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change is whole before a panic could come.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is going on: a line on a terminal, nothing elsewhere. What is over goes to standard error.
struct Live(ProgressBar);

impl Live {
    fn new(runs: u64) -> Self {
        let bar = if std::io::stderr().is_terminal() { ProgressBar::new(runs) } else { ProgressBar::hidden() };
        let style = ProgressStyle::with_template("  {spinner} {pos} of {len} runs, {elapsed}, {eta} to go: {msg}");
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
