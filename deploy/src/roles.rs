//! The roles in one process, each on a thread of its own, and the conductor that starts, watches and ends them.
//!
//! Order of a clean end: the producer ends or is told to; then the processor commits what there is; then the sink stores it. After a signal
//! nobody takes long over that: what is not done is done by the next start.
//! A role that fails ends the others the same way, and its error is the one that is told.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tidewatch_processor::ProcessorConfig;
use tidewatch_producer::publisher::{self, PublishJob, PublishSummary};
use tidewatch_producer::scenario::Scenario;
use tidewatch_producer::schedule::Pace;
use tidewatch_schemas::wire::Framing;
use tidewatch_sink::{DeliveryConfig, DeliverySummary, Stop, StopSignal};

use crate::live::{self, Live, Status};
use crate::score::{self, Judgement, ScoreConfig};
use crate::settings::Settings;
use crate::shutdown::Shutdown;

/// How often the conductor looks.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How long after a signal the sink may take for what the processor has committed: the rest is stored by the next start.
const STORE_TIME: Duration = Duration::from_secs(3);

/// How often it is said what holds event time back.
const EXPLAIN_EVERY: Duration = Duration::from_secs(5);

/// The roles of this process, and how they end.
#[derive(Default)]
pub(crate) struct Roles {
    /// Publishes, if it is one of them.
    pub produce: Option<Produce>,
    /// Processes, if it is one of them.
    pub process: Option<ProcessorConfig>,
    /// Stores, if it is one of them.
    pub sink: Option<DeliveryConfig>,
    /// Holds alerts against the truth, if it is one of them.
    pub score: Option<ScoreConfig>,
    /// End when everything is done, not only when asked to.
    pub drain: bool,
    /// Say every few seconds what holds event time back.
    pub explains_watermark: bool,
}

/// What the producer publishes.
pub(crate) struct Produce {
    /// What happens.
    pub scenario: Scenario,
    /// When it is sent.
    pub pace: Pace,
}

/// What the roles say at their end.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Of the producer.
    pub published: Option<PublishSummary>,
    /// Of the processor.
    pub processed: Option<tidewatch_processor::Summary>,
    /// Of the sink.
    pub delivered: Option<DeliverySummary>,
    /// Of the scorer.
    pub judgement: Option<Judgement>,
    /// From start to end.
    pub elapsed: Duration,
    /// Whether a person ended it early.
    pub is_interrupted: bool,
}

/// Live numbers of all roles; shared with the HTTP endpoint.
#[derive(Debug, Default)]
pub(crate) struct Progresses {
    /// Of the producer.
    pub produce: tidewatch_producer::progress::Progress,
    /// Of the processor.
    pub process: tidewatch_processor::Progress,
    /// Of the sink.
    pub sink: tidewatch_sink::Progress,
    /// Of the scorer.
    pub score: score::Progress,
}

/// What makes a process ready for its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReadyBy {
    /// Nothing but its start.
    Start,
    /// That the processor has partitions.
    Assignment,
    /// That the scorer has published.
    FirstScore,
}

#[derive(Debug, Default)]
struct Stops {
    produce: AtomicBool,
    process: StopSignal,
    sink: StopSignal,
    score: StopSignal,
    /// Set by a role that ends with an error.
    failed: AtomicBool,
}

type Handle<'scope, T> = Option<std::thread::ScopedJoinHandle<'scope, anyhow::Result<T>>>;

/// Runs the roles to their end.
///
/// # Errors
/// The first role's error; the others were ended in order before it is returned.
pub(crate) fn run(
    roles: Roles,
    settings: &Settings,
    progresses: &Progresses,
    shutdown: &Shutdown,
) -> anyhow::Result<Outcome> {
    let stops = Stops::default();
    let started = Instant::now();
    std::thread::scope(|scope| {
        let mut live = Live::new(&roles.names());
        let drain = roles.drain;
        let mut explained_at = roles.explains_watermark.then(Instant::now);
        if explained_at.is_some() {
            // There is no answer yet, but from now on the processor knows that it is asked.
            explain_watermark(progresses);
        }
        let produces = roles.produce.is_some();
        let produce: Handle<'_, _> = roles
            .produce
            .map(|job| {
                let stop = &stops.produce;
                spawn(scope, "produce", &stops.failed, move || produce(&job, settings, progresses, stop))
            })
            .transpose()?;
        let process: Handle<'_, _> = roles
            .process
            .map(|config| {
                spawn(scope, "process", &stops.failed, || {
                    let config = config;
                    Ok(tidewatch_processor::run(&config, &progresses.process, &stops.process)?)
                })
            })
            .transpose()?;
        let sink: Handle<'_, _> = roles
            .sink
            .map(|config| {
                spawn(scope, "sink", &stops.failed, || {
                    Ok(tidewatch_sink::deliver(config, &progresses.sink, &stops.sink)?)
                })
            })
            .transpose()?;
        let score: Handle<'_, _> = roles
            .score
            .map(|config| {
                spawn(scope, "score", &stops.failed, || {
                    let config = config;
                    score::run(&config, &progresses.score, &stops.score)
                })
            })
            .transpose()?;
        let mut interrupted_at = None;
        loop {
            let ended = [is_ended(&produce), is_ended(&process), is_ended(&sink), is_ended(&score)];
            if shutdown.is_asked_for() {
                let asked_at = *interrupted_at.get_or_insert_with(Instant::now);
                stops.ask(Stop::Now, &ended);
                if process.is_none() || asked_at.elapsed() >= STORE_TIME {
                    stops.sink.request(Stop::Now);
                }
            } else if drain {
                stops.ask(Stop::Drain, &ended);
            }
            let failed = stops.failed.load(Relaxed);
            if failed {
                stops.fail();
            }
            let there = [produces, process.is_some(), sink.is_some(), score.is_some()];
            live.show(&statuses(&ended, there, progresses, started));
            if ended.iter().all(|&ended| ended)
                && (drain || interrupted_at.is_some() || process.is_none() && sink.is_none() || failed)
            {
                break;
            }
            if let Some(at) = explained_at.filter(|at| at.elapsed() >= EXPLAIN_EVERY) {
                explain_watermark(progresses);
                explained_at = Some(at + EXPLAIN_EVERY);
            }
            std::thread::sleep(LOOK_EVERY);
        }
        if explained_at.is_some() {
            explain_watermark(progresses);
        }
        live.end();
        let outcome = Outcome {
            published: join(produce)?,
            processed: join(process)?,
            delivered: join(sink)?,
            judgement: join(score)?,
            elapsed: started.elapsed(),
            is_interrupted: interrupted_at.is_some(),
        };
        Ok(outcome)
    })
}

/// Says what holds event time back, once the processor knows.
fn explain_watermark(progresses: &Progresses) {
    if let Some(text) = progresses.process.explain_watermark() {
        // Nobody can be told that standard error is closed.
        let _ = live::AboveLines.write_all(text.as_bytes());
    }
}

fn spawn<'scope, T: Send + 'scope>(
    scope: &'scope std::thread::Scope<'scope, '_>,
    name: &str,
    failed: &'scope AtomicBool,
    role: impl FnOnce() -> anyhow::Result<T> + Send + 'scope,
) -> anyhow::Result<std::thread::ScopedJoinHandle<'scope, anyhow::Result<T>>> {
    let guarded = move || {
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(role));
        let result =
            caught.unwrap_or_else(|_| Err(anyhow::anyhow!("a role ended by a panic: a defect, please report it")));
        failed.fetch_or(result.is_err(), Relaxed);
        result
    };
    std::thread::Builder::new().name(name.to_owned()).spawn_scoped(scope, guarded).context("cannot start a thread")
}

fn is_ended<T>(handle: &Handle<'_, T>) -> bool {
    handle.as_ref().is_none_or(|handle| handle.is_finished())
}

fn join<T>(handle: Handle<'_, T>) -> anyhow::Result<Option<T>> {
    match handle.map(std::thread::ScopedJoinHandle::join) {
        None => Ok(None),
        Some(Ok(result)) => result.map(Some),
        Some(Err(_)) => anyhow::bail!("a thread ended by a panic"),
    }
}

fn produce(
    job: &Produce,
    settings: &Settings,
    progresses: &Progresses,
    stop: &AtomicBool,
) -> anyhow::Result<PublishSummary> {
    let job = PublishJob {
        scenario: &job.scenario,
        seed: settings.producer.seed,
        events: None,
        truth: true,
        pace: job.pace,
        threads: settings.producer.threads,
        partitions: settings.topic_creation.partitions,
        framing: Framing::SingleObject,
        topics: &settings.topics,
        kafka: &settings.kafka,
        resume_from: std::collections::BTreeMap::new(),
    };
    Ok(publisher::publish(&job, &progresses.produce, stop)?)
}

impl Roles {
    fn names(&self) -> Vec<&'static str> {
        let all = [
            (self.produce.is_some(), "produce"),
            (self.process.is_some(), "process"),
            (self.sink.is_some(), "sink"),
            (self.score.is_some(), "score"),
        ];
        all.into_iter().filter_map(|(is_there, name)| is_there.then_some(name)).collect()
    }

    /// What they are ready by.
    pub(crate) const fn ready_by(&self) -> ReadyBy {
        match (&self.process, &self.score) {
            (Some(_), _) => ReadyBy::Assignment,
            (None, Some(_)) => ReadyBy::FirstScore,
            (None, None) => ReadyBy::Start,
        }
    }
}

impl Stops {
    /// Asks the next role in order; a later one is asked when the earlier have ended.
    fn ask(&self, stop: Stop, &[produce, process, sink, _]: &[bool; 4]) {
        if stop == Stop::Now {
            self.produce.store(true, Relaxed);
            self.process.request(Stop::Now);
            self.score.request(Stop::Now);
        }
        if produce {
            self.process.request(stop);
        }
        if produce && process {
            // What was committed is stored, if there is time for it also after an interruption.
            self.sink.request(Stop::Drain);
        }
        if produce && process && sink {
            self.score.request(stop);
        }
    }

    /// A role failed: nobody waits for anybody.
    fn fail(&self) {
        self.produce.store(true, Relaxed);
        self.process.request(Stop::Now);
        self.sink.request(Stop::Now);
        self.score.request(Stop::Now);
    }
}

/// Says why the roles are not ready to do their work, if so.
pub(crate) fn readiness(progresses: Arc<Progresses>, by: ReadyBy) -> crate::health::Readiness {
    Arc::new(move || match by {
        ReadyBy::Assignment if progresses.process.assigned() == 0 => {
            Err("the processor has no partitions yet".to_owned())
        }
        ReadyBy::FirstScore if progresses.score.glance().found.is_none() => {
            Err("the scorer has not read all that there was at its start yet".to_owned())
        }
        _ => Ok(()),
    })
}

fn statuses(ended: &[bool; 4], there: [bool; 4], progresses: &Progresses, started: Instant) -> Vec<Status> {
    let seconds = started.elapsed().as_secs_f64().max(0.001);
    let all = [
        produce_status(&progresses.produce, ended[0], seconds),
        process_status(&progresses.process, ended[1]),
        sink_status(&progresses.sink, ended[2]),
        score_status(progresses.score.glance(), ended[3]),
    ];
    all.into_iter().zip(there).filter_map(|(status, is_there)| is_there.then_some(status)).collect()
}

fn produce_status(progress: &tidewatch_producer::progress::Progress, is_done: bool, seconds: f64) -> Status {
    let (published, target) = (progress.published(), progress.target());
    let mut text = format!("{} events", live::grouped(published));
    if !is_done {
        text.push_str(&format!(" · {}/s", live::grouped((published as f64 / seconds) as u64)));
    }
    if let Some(time) = i64::try_from(progress.event_time_ms()).ok().filter(|&ms| ms > 0) {
        text.push_str(&format!(" · event time {}", minute(time)));
    }
    if progress.behind_ms() > 1_000 && !is_done {
        text.push_str(&format!(" · {:.1} s behind schedule", progress.behind_ms() as f64 / 1_000.0));
    }
    Status { text, share: (target > 0).then(|| published as f64 / target as f64), is_done }
}

fn process_status(progress: &tidewatch_processor::Progress, is_done: bool) -> Status {
    let counts = progress.counts();
    let mut parts = vec![
        format!("{} read", live::grouped(counts.read)),
        live::count(counts.windows, "window"),
        live::count(counts.alerts, "alert record"),
    ];
    let only_if_any = [
        (counts.revisions, live::count(counts.revisions, "revision")),
        (counts.late, format!("{} late", live::grouped(counts.late))),
        (counts.dead_lettered, live::count(counts.dead_lettered, "dead letter")),
        (counts.duplicate, live::count(counts.duplicate, "duplicate")),
        (counts.filtered, format!("{} filtered", live::grouped(counts.filtered))),
    ];
    parts.extend(only_if_any.into_iter().filter(|&(number, _)| number > 0).map(|(_, text)| text));
    if !is_done {
        parts.push(match progress.restore() {
            Some((read, total)) => format!("restoring, {} %", 100 * read / total),
            None if progress.assigned() == 0 => "joining".to_owned(),
            None if progress.history_left() > 0 => {
                let history = live::count(progress.history_left(), "record");
                format!("learning {history} of history, no alerts")
            }
            None => format!("{} to go", lag(progress.lag())),
        });
    }
    Status { text: parts.join(" · "), share: None, is_done }
}

fn sink_status(progress: &tidewatch_sink::Progress, is_done: bool) -> Status {
    let mut parts = vec![
        format!("{} stored", live::count(progress.rows_total(), "row")),
        live::count(progress.files(), "file"),
        live::bytes(progress.bytes()),
    ];
    if !is_done {
        parts.push(format!("{} to go", lag(progress.lag())));
    }
    Status { text: parts.join(" · "), share: None, is_done }
}

fn score_status(glance: score::Glance, is_done: bool) -> Status {
    let mut parts = vec![format!("{} read", live::grouped(glance.read))];
    match glance.found {
        Some(score::Found { faults, found, pending, false_alerts }) => {
            parts.push(format!("{found} of {} found", live::count(faults, "fault")));
            parts.push(format!("{pending} pending"));
            parts.push(live::count(false_alerts, "false alert"));
        }
        None if is_done => {}
        None => {
            parts.push(glance.to_go.map_or("connecting".to_owned(), |to_go| format!("{} to go", live::grouped(to_go))))
        }
    }
    Status { text: parts.join(" · "), share: None, is_done }
}

fn lag(lag: i64) -> String {
    live::grouped(lag.max(0).unsigned_abs())
}

/// An event time to the minute.
fn minute(event_time_ms: i64) -> String {
    let time = jiff::Timestamp::from_millisecond(event_time_ms).map(|time| time.to_string()).unwrap_or_default();
    time.get(..16).unwrap_or_default().replace('T', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_ended_from_the_source_to_the_sink() {
        let stops = Stops::default();
        stops.ask(Stop::Drain, &[false, false, false, false]);
        assert_eq!((stops.process.requested(), stops.sink.requested()), (None, None));
        stops.ask(Stop::Drain, &[true, false, false, false]);
        assert_eq!((stops.process.requested(), stops.sink.requested()), (Some(Stop::Drain), None));
        stops.ask(Stop::Now, &[true, false, false, false]);
        assert_eq!((stops.process.requested(), stops.sink.requested()), (Some(Stop::Now), None));
        stops.ask(Stop::Now, &[true, true, false, false]);
        assert_eq!(stops.sink.requested(), Some(Stop::Drain), "what was committed is stored");
        let stops = Stops::default();
        stops.ask(Stop::Drain, &[true, true, false, false]);
        assert_eq!(stops.score.requested(), None);
        stops.ask(Stop::Drain, &[true, true, true, false]);
        assert_eq!(stops.score.requested(), Some(Stop::Drain), "of all that there will be");
    }

    #[test]
    fn event_time_is_shown_to_the_minute() {
        assert_eq!(minute(1_736_121_600_000), "2025-01-06 00:00");
    }
}
