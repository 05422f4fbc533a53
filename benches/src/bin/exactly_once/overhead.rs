//! What exactly-once costs over at-least-once: CPU time an event.
//!
//! The program takes a steady input in, once under each guarantee, by turns and in alternating order, with a group and topics of its own
//! each time. A batch takes as much as comes, so that the commit interval decides how many transactions there are. What counts is the
//! CPU time of the process from when it has its partitions until all is committed, over the events; the ratio is that of two runs that
//! follow each other.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use tidewatch_processor_core::config::Span;
use tidewatch_sink::ProcessingGuarantee;

use crate::input::Input;
use crate::program::Program;
use crate::report::{Goal, Report, median};
use crate::say;
use crate::stand::{BrokerKind, Run, Stand};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Events a second
    #[arg(long, default_value_t = 100_000)]
    rate: u64,
    /// Seconds of input of one run
    #[arg(long, default_value_t = 15)]
    seconds: u64,
    /// Entities that they are of; each has a window a second
    #[arg(long, default_value_t = 1_000)]
    entities: u64,
    /// Partitions of the input
    #[arg(long, default_value_t = 4)]
    partitions: i32,
    /// Pairs of runs, of which the median counts
    #[arg(long, default_value_t = 5)]
    rounds: usize,
}

/// Commit intervals in ms, and what the ratio may be.
const GOALS: [(u32, f64); 2] = [(100, 1.10), (1_000, 1.03)];
const WINDOW: &str = "1s";
/// Records that a transaction may take: the interval ends it first.
const BATCH_MAX: usize = 10_000_000;
/// Between two looks at how far the group is.
const LOOK_EVERY: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) fn run(broker: BrokerKind, args: &Args) -> anyhow::Result<Report> {
    let Args { rate, seconds, entities, partitions, rounds } = *args;
    anyhow::ensure!(
        rate > 0 && seconds > 0 && entities > 0 && partitions > 0 && rounds > 0,
        "--rate, --seconds, --entities, --partitions and --rounds are above 0"
    );
    let program = Program::find()?;
    let stand = Stand::start(broker)?;
    let mut table = format!(
        "{:20}{:>20}{:>20}{:>10}{:>20}\n",
        "commit interval", "exactly once", "at least once", "ratio", "all ratios"
    );
    let (mut figures, mut goals) = (Vec::new(), Vec::new());
    for (interval_ms, most) in GOALS {
        let (mut exactly, mut at_least) = (Vec::new(), Vec::new());
        for round in 0..rounds {
            let mut order = [ProcessingGuarantee::ExactlyOnce, ProcessingGuarantee::AtLeastOnce];
            if round % 2 == 1 {
                order.reverse();
            }
            for guarantee in order {
                let ns = cpu_ns_per_event(&program, &stand, args, interval_ms, guarantee, round)?;
                say(&format!("{interval_ms} ms, round {} of {rounds}, {guarantee:?}: {ns:.0} ns an event", round + 1));
                if guarantee == ProcessingGuarantee::ExactlyOnce { &mut exactly } else { &mut at_least }.push(ns);
            }
        }
        let mut ratios: Vec<f64> =
            exactly.iter().zip(&at_least).map(|(exactly, at_least)| exactly / at_least).collect();
        let ratio = median(&ratios);
        ratios.sort_by(f64::total_cmp);
        let all: Vec<String> = ratios.iter().map(|ratio| format!("{ratio:.3}")).collect();
        let (one, other) = (median(&exactly), median(&at_least));
        writeln!(
            table,
            "{:20}{one:>13.0} ns CPU{other:>13.0} ns CPU{ratio:>10.3}   {}",
            format!("{interval_ms} ms"),
            all.join(" ")
        )?;
        figures.push(json!({
            "commit_interval_ms": interval_ms, "exactly_once_ns": one, "at_least_once_ns": other, "ratio": ratio,
            "samples": { "exactly_once_ns": exactly, "at_least_once_ns": at_least },
        }));
        goals.push((
            format!("CPU an event, exactly once over at least once, commits each {interval_ms} ms"),
            ratio,
            most,
        ));
    }
    write!(table, "\n{rate} events a second of {entities} entities for {seconds} s, {partitions} partitions\n")?;
    let report = Report::new(table, figures.into());
    Ok(goals.into_iter().fold(report, |report, (what, ratio, most)| report.goal(what, ratio, Goal::AtMost(most))))
}

/// The CPU time of one run, less its start, in ns an event.
fn cpu_ns_per_event(
    program: &Program,
    stand: &Stand,
    args: &Args,
    interval_ms: u32,
    guarantee: ProcessingGuarantee,
    round: usize,
) -> anyhow::Result<f64> {
    let name = format!("overhead-{interval_ms}-{guarantee:?}-{round}");
    let mut run = Run::new(&name, args.partitions, args.entities, WINDOW, &["z-score"])?;
    run.settings.processing_guarantee = guarantee;
    run.settings.commit_interval = Span::from_millis(interval_ms.into());
    run.settings.batch_max = BATCH_MAX;
    stand.create(&run)?;
    let mut running = program.start(stand, &run, &["process"])?;
    running.wait_for("restored partitions=")?;
    let before = running.cpu()?;
    let mut input = Input::new(&stand.kafka, &run, args.entities)?;
    let stop = AtomicBool::new(false);
    let events = thread::scope(|scope| {
        let publisher = scope.spawn(|| input.steadily(args.rate, &stop));
        let until = Instant::now() + Duration::from_secs(args.seconds);
        while Instant::now() < until && !publisher.is_finished() {
            thread::sleep(LOOK_EVERY);
        }
        stop.store(true, Relaxed);
        publisher.join().map_err(|_| anyhow::anyhow!("the publisher panicked"))?
    })?;
    let began = Instant::now();
    let topics = [run.stream.topic.as_str()];
    let is_behind = || {
        let lags = stand.admin.lag(&run.settings.group_id, &topics)?;
        anyhow::Ok(lags.iter().any(|lag| lag.lag > 0))
    };
    while is_behind()? {
        anyhow::ensure!(
            began.elapsed() < PATIENCE,
            "the processor has not taken all in {PATIENCE:?} after the last event"
        );
        thread::sleep(LOOK_EVERY);
    }
    let cpu = running.cpu()? - before;
    running.terminate()?;
    Ok(cpu.as_nanos() as f64 / events as f64)
}
