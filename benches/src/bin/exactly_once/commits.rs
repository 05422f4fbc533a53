//! How long commits take while snapshots are written, and without.
//!
//! The processor runs in this process, as shipped and with snapshot rounds so far apart that there is none, by turns and in alternating
//! order, and this instrument is the recorder of its metrics: each commit's duration is kept, not only its bucket. Every entity changes
//! between two rounds, so that a round is all of the state. The first seconds, in which the processor joins the group and catches up,
//! do not count.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use metrics::{Counter, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use serde_json::json;
use tidewatch_benches::BrokerKind;
use tidewatch_benches::figures::{median, quantile};
use tidewatch_benches::report::{Goal, Report};
use tidewatch_processor::Progress;
use tidewatch_sink::{Stop, StopSignal};

use crate::input::{Input, now_ms};
use crate::program::Program;
use crate::say;
use crate::stand::{Run, Stand, hardly_ever};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Events a second
    #[arg(long, default_value_t = 20_000)]
    rate: u64,
    /// Seconds of a run that count
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Entities that the events are of
    #[arg(long, default_value_t = 100_000)]
    entities: u64,
    /// Partitions of the input
    #[arg(long, default_value_t = 4)]
    partitions: i32,
    /// Pairs of runs; the commits of all count
    #[arg(long, default_value_t = 4)]
    rounds: usize,
}

/// What the 99th percentile with snapshots may be of that without.
const RATIO_MAX: f64 = 1.5;
const COMMIT: &str = "tidewatch_processor_cycle_commit_seconds";
const PROCESS: &str = "tidewatch_processor_cycle_process_seconds";
const SNAPSHOT: &str = "tidewatch_processor_snapshot_seconds";
const KEPT: [&str; 3] = [COMMIT, PROCESS, SNAPSHOT];
const WINDOW: &str = "1s";
/// What does not count, once all entities are there.
const WARM_UP: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(10);
const PATIENCE: Duration = Duration::from_secs(120);

/// What the processor has recorded under the names that are kept, in their order.
#[derive(Debug, Default)]
struct Samples([Arc<Kept>; KEPT.len()]);

/// Each value of a histogram.
#[derive(Debug, Default)]
struct Kept(Mutex<Vec<f64>>);

impl Kept {
    fn values(&self) -> MutexGuard<'_, Vec<f64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HistogramFn for Kept {
    fn record(&self, value: f64) {
        self.values().push(value);
    }
}

impl Samples {
    /// All there are, which are forgotten.
    fn take(&self) -> [Vec<f64>; KEPT.len()] {
        self.0.each_ref().map(|kept| std::mem::take(&mut *kept.values()))
    }
}

impl Recorder for Samples {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        Counter::noop()
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        let place = KEPT.iter().position(|name| *name == key.name());
        place.map_or_else(Histogram::noop, |place| Histogram::from_arc(Arc::clone(&self.0[place])))
    }
}

/// What runs of one kind have shown, times in seconds.
#[derive(Debug, Default)]
struct Seen {
    commits: Vec<f64>,
    /// Of reading, processing and writing state, before the commit.
    process: Vec<f64>,
    /// How long a partition's round takes.
    snapshots: Vec<f64>,
}

pub(crate) fn run(broker: BrokerKind, args: &Args) -> anyhow::Result<Report> {
    let Args { rate, seconds, entities, partitions, rounds } = *args;
    anyhow::ensure!(
        rate > 0 && seconds > 0 && entities > 0 && partitions > 0 && rounds > 0,
        "--rate, --seconds, --entities, --partitions and --rounds are above 0"
    );
    let samples = Arc::new(Samples::default());
    metrics::set_global_recorder(Arc::clone(&samples))
        .map_err(|_| anyhow::anyhow!("this process has a recorder of metrics already"))?;
    let (program, stand) = (Program::find()?, Stand::start(broker)?);
    let [mut with, mut without] = [Seen::default(), Seen::default()];
    for round in 0..rounds {
        let order = if round % 2 == 0 { [true, false] } else { [false, true] };
        for has_snapshots in order {
            let seen = measure(&program, &stand, args, &samples, has_snapshots, round)?;
            say(&format!(
                "round {} of {rounds}, {}: {} commits, p50 {:.2} ms, p99 {:.2} ms",
                round + 1,
                if has_snapshots { "with snapshots" } else { "without" },
                seen.commits.len(),
                median(&seen.commits) * 1e3,
                quantile(&seen.commits, 0.99) * 1e3,
            ));
            let all = if has_snapshots { &mut with } else { &mut without };
            all.commits.extend(seen.commits);
            all.process.extend(seen.process);
            all.snapshots.extend(seen.snapshots);
        }
    }
    anyhow::ensure!(
        without.snapshots.is_empty() && !with.snapshots.is_empty(),
        "snapshots were to be written in some runs and not in others; is --seconds shorter than processor.snapshot_every?"
    );
    let mut table = format!(
        "{:18}{:>10}{:>14}{:>14}{:>18}{:>10}{:>12}\n",
        "", "commits", "commit p50 ms", "commit p99 ms", "process p99 ms", "rounds", "a round ms"
    );
    let mut figures = serde_json::Map::new();
    for (name, Seen { commits, process, snapshots }) in [("with snapshots", &with), ("without", &without)] {
        let (p50, p99) = (median(commits) * 1e3, quantile(commits, 0.99) * 1e3);
        let process = quantile(process, 0.99) * 1e3;
        let (rounds, commits) = (snapshots.len(), commits.len());
        let round = if rounds == 0 { "–".to_owned() } else { format!("{:.0}", median(snapshots) * 1e3) };
        writeln!(table, "{name:18}{commits:>10}{p50:>14.2}{p99:>14.2}{process:>18.2}{rounds:>10}{round:>12}")?;
        figures.insert(
            name.replace(' ', "_"),
            json!({ "commits": commits, "p50_ms": p50, "p99_ms": p99, "process_p99_ms": process, "snapshots": rounds }),
        );
    }
    write!(
        table,
        "\n{rate} events a second of {entities} entities, {rounds} runs of {seconds} s each, {partitions} partitions\n"
    )?;
    let ratio = |q| quantile(&with.commits, q) / quantile(&without.commits, q);
    let what = format!("a commit's 99th percentile with snapshots over that without (median {:.2})", ratio(0.5));
    Ok(Report::new(table, figures.into()).goal(what, ratio(0.99), Goal::AtMost(RATIO_MAX)))
}

fn measure(
    program: &Program,
    stand: &Stand,
    args: &Args,
    samples: &Samples,
    has_snapshots: bool,
    round: usize,
) -> anyhow::Result<Seen> {
    let name = format!("commits-{}-{round}", if has_snapshots { "with" } else { "without" });
    let mut run = Run::new(&name, args.partitions, args.entities, WINDOW, &["z-score"])?;
    if !has_snapshots {
        run.settings.snapshot_every = hardly_ever();
    }
    program.create_topics(stand, &run)?;
    let config = run.config(&stand.kafka)?;
    let mut input = Input::new(&stand.kafka, &run, args.entities)?;
    input.all_at(now_ms())?;
    let (progress, stop, is_over) = (Progress::new(), StopSignal::new(), AtomicBool::new(false));
    thread::scope(|scope| {
        let worker = scope.spawn(|| tidewatch_processor::run(&config, &progress, &stop));
        let publisher = scope.spawn(|| input.steadily(args.rate, &is_over));
        let is_well = || !worker.is_finished() && !publisher.is_finished();
        let wait = |until: &dyn Fn() -> bool| {
            while is_well() && !until() {
                thread::sleep(LOOK_EVERY);
            }
        };
        let began = Instant::now();
        wait(&|| progress.counts().read >= args.entities || began.elapsed() >= PATIENCE);
        let began = Instant::now();
        wait(&|| began.elapsed() >= WARM_UP);
        samples.take();
        let began = Instant::now();
        wait(&|| began.elapsed() >= Duration::from_secs(args.seconds));
        let [commits, process, snapshots] = samples.take();
        let was_well = is_well();
        is_over.store(true, Relaxed);
        stop.request(Stop::Now);
        publisher.join().map_err(|_| anyhow::anyhow!("the publisher panicked"))??;
        worker.join().map_err(|_| anyhow::anyhow!("the processor panicked"))??;
        anyhow::ensure!(was_well && !commits.is_empty(), "the processor did not work for as long as it was measured");
        Ok(Seen { commits, process, snapshots })
    })
}
