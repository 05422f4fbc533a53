//! How long after SIGKILL the next output is committed.
//!
//! A steady input, the processor with static membership and as shipped in all else, and a reader of committed records. The processor is
//! killed at random moments and started again at once. What counts is the time from the kill to the first record that such a reader
//! gets and that was not committed 100 ms after the kill: a transaction whose end had been sent is none of the new process's. Windows
//! are short, so that outputs come all the time and the end of a window is not what is waited for.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use serde_json::json;
use tidewatch_benches::BrokerKind;
use tidewatch_benches::figures::{median, quantile};
use tidewatch_benches::report::{Goal, Report};
use tidewatch_topic_io::{PartitionReader, StartAt};

use crate::input::{Input, now_ms};
use crate::program::{Program, Running};
use crate::say;
use crate::stand::{Run, Stand};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Entities whose state there is
    #[arg(long, default_value_t = 100_000)]
    entities: u64,
    /// How often the processor is killed
    #[arg(long, default_value_t = 7)]
    kills: usize,
    /// Events a second
    #[arg(long, default_value_t = 20_000)]
    rate: u64,
    /// Seconds from a recovery to the next kill: this on average, a half of it at least
    #[arg(long, default_value_t = 12.0)]
    calm: f64,
    /// Partitions of the input
    #[arg(long, default_value_t = 4)]
    partitions: i32,
    /// What the moments of the kills are drawn from
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// The longest time, in seconds.
const WORST_MAX_S: f64 = 3.0;
/// What is committed so soon after a kill had been sent before it.
const SENT_BEFORE: Duration = Duration::from_millis(100);
const WINDOW: &str = "100ms";
/// Records of one read, and how long it may wait.
const READ_MAX: usize = 10_000;
const READ_WAIT: Duration = Duration::from_millis(5);
/// How long an output may take before that is an error.
const PATIENCE: Duration = Duration::from_secs(120);

/// One kill, and where the time went, in seconds.
struct Recovery {
    whole_s: f64,
    /// From the kill until the new process had checked the topics and begun to join the group.
    start_s: f64,
    /// Until it had its partitions.
    join_s: f64,
    /// Until their state was back.
    restore_s: f64,
    /// Until the first output was committed: input since the snapshot is taken in again, then some more.
    output_s: f64,
}

pub(crate) fn run(broker: BrokerKind, args: &Args) -> anyhow::Result<Report> {
    let Args { entities, kills, rate, calm, partitions, .. } = *args;
    anyhow::ensure!(
        entities > 0 && kills > 0 && rate > 0 && partitions > 0 && calm > 0.0 && calm.is_finite(),
        "--entities, --kills, --rate, --calm and --partitions are above 0"
    );
    let program = Program::find()?;
    let stand = Stand::start(broker)?;
    let mut run = Run::new("recover", partitions, entities, WINDOW, &["z-score"])?;
    run.settings.static_membership = true;
    program.create_topics(&stand, &run)?;
    let mut input = Input::new(&stand.kafka, &run, entities)?;
    say(&format!("an event of each of {entities} entities"));
    input.all_at(now_ms())?;
    let stop = AtomicBool::new(false);
    let recoveries = thread::scope(|scope| {
        let publisher = scope.spawn(|| input.steadily(rate, &stop));
        let recoveries = kill_again_and_again(&program, &stand, &run, args);
        stop.store(true, Relaxed);
        publisher.join().map_err(|_| anyhow::anyhow!("the publisher panicked"))??;
        recoveries
    })?;
    let whole: Vec<f64> = recoveries.iter().map(|recovery| recovery.whole_s).collect();
    let (middle, worst) = (median(&whole), quantile(&whole, 1.0));
    let mut table = format!(
        "{:8}{:>14}{:>10}{:>10}{:>10}{:>10}\n",
        "kill", "to output s", "start s", "join s", "restore s", "output s"
    );
    for (at, Recovery { whole_s, start_s, join_s, restore_s, output_s }) in recoveries.iter().enumerate() {
        let kill = at + 1;
        writeln!(table, "{kill:<8}{whole_s:>14.2}{start_s:>10.2}{join_s:>10.2}{restore_s:>10.2}{output_s:>10.2}")?;
    }
    let of = |part: fn(&Recovery) -> f64| median(&recoveries.iter().map(part).collect::<Vec<_>>());
    let parts = [of(|r| r.start_s), of(|r| r.join_s), of(|r| r.restore_s), of(|r| r.output_s)];
    let [start, join, restore, output] = parts;
    writeln!(table, "{:8}{middle:>14.2}{start:>10.2}{join:>10.2}{restore:>10.2}{output:>10.2}", "median")?;
    write!(table, "\n{entities} entities, {rate} events a second, {partitions} partitions, static membership\n")?;
    let json = json!({
        "median_s": middle, "worst_s": worst, "entities": entities, "rate": rate, "partitions": partitions,
        "kills": recoveries.iter().map(|recovery| json!({
            "whole_s": recovery.whole_s, "start_s": recovery.start_s, "join_s": recovery.join_s,
            "restore_s": recovery.restore_s, "output_s": recovery.output_s,
        })).collect::<Vec<_>>(),
    });
    let what = format!("from SIGKILL to the next committed output, the longest of {kills}, in s (median {middle:.2})");
    Ok(Report::new(table, json).goal(what, worst, Goal::AtMost(WORST_MAX_S)))
}

fn kill_again_and_again(program: &Program, stand: &Stand, run: &Run, args: &Args) -> anyhow::Result<Vec<Recovery>> {
    let mut random = fastrand::Rng::with_seed(args.seed);
    let mut reader = PartitionReader::new(&stand.kafka, true)?;
    let places: Vec<_> = (0..run.partitions).map(|at| (run.topics.metrics.as_str(), at, StartAt::End)).collect();
    reader.assign(&places)?;
    let start = || program.start(stand, run, &["process"]);
    let mut running = start()?;
    running.wait_for("restored partitions=")?;
    wait_for_output(&mut reader, Instant::now(), &vec![0; places.len()])?;
    let mut recoveries = Vec::with_capacity(args.kills);
    for at in 0..args.kills {
        let calm = Duration::from_secs_f64(args.calm * (0.5 + random.f64()));
        let until = Instant::now() + calm;
        while Instant::now() < until {
            reader.read(READ_MAX, READ_WAIT)?;
        }
        let (killed, killed_at) = (Instant::now(), SystemTime::now());
        running.kill()?;
        running = start()?;
        thread::sleep(SENT_BEFORE.saturating_sub(killed.elapsed()));
        let mut ends = vec![0; places.len()];
        for (_, partition, end) in reader.end_offsets()? {
            ends[partition.unsigned_abs() as usize] = end;
        }
        let whole = wait_for_output(&mut reader, killed, &ends)?;
        let recovery = recovery(&mut running, killed_at, whole)?;
        let Recovery { whole_s, start_s, join_s, restore_s, output_s } = &recovery;
        say(&format!(
            "kill {} of {}: output after {whole_s:.2} s: start {start_s:.2}, join {join_s:.2}, restore {restore_s:.2}, \
             first commit {output_s:.2}",
            at + 1,
            args.kills
        ));
        recoveries.push(recovery);
    }
    running.terminate()?;
    Ok(recoveries)
}

/// Waits for a record at or behind these offsets, by partition; gives how long that is since then.
fn wait_for_output(reader: &mut PartitionReader, since: Instant, from: &[i64]) -> anyhow::Result<Duration> {
    while since.elapsed() < PATIENCE {
        let batch = reader.read(READ_MAX, READ_WAIT)?;
        let took = since.elapsed();
        let is_new =
            |partition: i32, offset| from.get(partition.unsigned_abs() as usize).is_some_and(|&at| offset >= at);
        if batch.iter().any(|message| is_new(message.partition(), message.offset())) {
            return Ok(took);
        }
    }
    anyhow::bail!("no output within {PATIENCE:?}")
}

/// Where the time went, as far as the log tells.
fn recovery(running: &mut Running, killed_at: SystemTime, whole: Duration) -> anyhow::Result<Recovery> {
    let made = running.wait_for("clients made")?;
    let restored = running.wait_for("restored partitions=")?;
    let restore_s = restored.field("took_ms")? as f64 / 1e3;
    let since_kill = |at: SystemTime| at.duration_since(killed_at).map_or(0.0, |since| since.as_secs_f64());
    let (start_s, restored_s) = (since_kill(made.at), since_kill(restored.at));
    let whole_s = whole.as_secs_f64();
    let join_s = restored_s - restore_s - start_s;
    Ok(Recovery { whole_s, start_s, join_s, restore_s, output_s: whole_s - restored_s })
}
