//! What exactly-once costs over at-least-once: CPU time an event.
//!
//! Two processes take the same steady input in at the same time, one under each guarantee, each with a group and result topics of its
//! own: what else the machine does meets both alike. A batch takes as much as comes, so that the commit interval decides how many
//! transactions there are. What counts is the CPU time of each process from when it has its partitions until it has committed all, over
//! the events; which one is started first alternates.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use tidewatch_benches::BrokerKind;
use tidewatch_benches::figures::median;
use tidewatch_benches::report::{Goal, Report};
use tidewatch_processor_core::config::Span;
use tidewatch_sink::ProcessingGuarantee;

use crate::input::Input;
use crate::program::Program;
use crate::say;
use crate::stand::{Run, Stand};

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
    /// Pairs of processes, of which the median counts
    #[arg(long, default_value_t = 7)]
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
            let both = cpu_ns_per_event(&program, &stand, args, interval_ms, order, round)?;
            for (guarantee, ns) in order.into_iter().zip(both) {
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

/// The CPU time of two processes at once, less their starts, in ns an event, in this order.
fn cpu_ns_per_event(
    program: &Program,
    stand: &Stand,
    args: &Args,
    interval_ms: u32,
    order: [ProcessingGuarantee; 2],
    round: usize,
) -> anyhow::Result<[f64; 2]> {
    let name = format!("overhead-{interval_ms}-{round}");
    let start = |guarantee: ProcessingGuarantee| {
        let mut run = Run::new(&format!("{name}-{guarantee:?}"), args.partitions, args.entities, WINDOW, &["z-score"])?;
        run.stream.topic = format!("{name}.input");
        run.settings.processing_guarantee = guarantee;
        run.settings.commit_interval = Span::from_millis(interval_ms.into());
        run.settings.batch_max = BATCH_MAX;
        program.create_topics(stand, &run)?;
        let mut running = program.start(stand, &run, &["process"])?;
        running.wait_for("restored partitions=")?;
        anyhow::Ok((run, running))
    };
    let [one, other] = [start(order[0])?, start(order[1])?];
    let before = [one.1.cpu()?, other.1.cpu()?];
    let mut input = Input::new(&stand.kafka, &one.0, args.entities)?;
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
    let ended = Instant::now();
    let mut ns = [0.0; 2];
    for ((ns, (run, running)), before) in ns.iter_mut().zip([&one, &other]).zip(before) {
        let topics = [run.stream.topic.as_str()];
        while stand.admin.lag(&run.settings.group_id, &topics)?.iter().any(|at| at.lag > 0) {
            anyhow::ensure!(
                ended.elapsed() < PATIENCE,
                "the processor has not taken all in {PATIENCE:?} after the last event"
            );
            thread::sleep(LOOK_EVERY);
        }
        *ns = (running.cpu()? - before).as_nanos() as f64 / events as f64;
    }
    one.1.terminate()?;
    other.1.terminate()?;
    Ok(ns)
}
