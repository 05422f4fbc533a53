//! All workers of a processor: starts them, watches them, and ends them together.
//!
//! Invariant: this thread never talks to Kafka, so nothing that hangs in a client hangs it. A worker that does nothing though there is
//! input is told to make its clients anew; one that does not come back by itself is left behind, and the processor ends with an
//! error. The workers are threads of their own for that reason, not scoped ones: a scope would wait for them for ever.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tidewatch_sink::{Stop, StopSignal};
use tidewatch_topic_io::Admin;

use crate::accuracy::HorizonAccuracy;
use crate::config::millis;
use crate::progress::{Recoveries, WorkerProgress};
use crate::{Counts, ProcessorConfig, ProcessorError, Progress, drain, input_topics, metrics, orphans, worker};

/// How often the workers are looked at, and their figures told.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// What a worker may take to leave the group once its transaction is settled.
const LEAVE_TIME: Duration = Duration::from_secs(2);
/// Times in a row that a worker may be without progress.
const STALLS_MAX: u32 = 3;

/// What a processor did from its start to its end.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Summary {
    /// The ledger and what followed.
    pub counts: Counts,
    /// Transactions committed.
    pub transactions: u64,
    /// What went wrong and was got over.
    pub recoveries: Recoveries,
    /// How good forecasts are, by stream and horizon (in ms).
    pub accuracies: Vec<(String, i64, HorizonAccuracy)>,
}

/// What a worker is told.
#[derive(Debug, Default)]
pub(crate) struct Orders {
    is_stopping: AtomicBool,
    /// When the open transaction must be settled, if there is somebody who waits.
    deadline: OnceLock<Instant>,
    /// Make all clients anew.
    renew: AtomicBool,
}

impl Orders {
    fn stop(&self, deadline: Option<Instant>) {
        if let Some(deadline) = deadline {
            // The first counts.
            let _ = self.deadline.set(deadline);
        }
        self.is_stopping.store(true, Relaxed);
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.is_stopping.load(Relaxed)
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.deadline.get().copied()
    }

    /// Whether all clients are to be made anew, asked once.
    pub(crate) fn take_renewal(&self) -> bool {
        self.renew.swap(false, Relaxed)
    }
}

/// A worker as its supervisor sees it.
struct Supervised {
    progress: Arc<WorkerProgress>,
    orders: Arc<Orders>,
    handle: Option<JoinHandle<Result<(), ProcessorError>>>,
    /// Its steps when they last changed, or when a stall was last told, and when that was.
    steps: u64,
    since: Instant,
    /// Stalls since the last commit, and the commits up to it: clients that were made anew take steps, and may come no further.
    stalls: u32,
    commits: u64,
    /// Asks whether there is input that it does not read.
    question: Option<mpsc::Receiver<bool>>,
}

/// Runs the processor until it is told to stop: blocking, on the caller's thread.
///
/// [`Stop::Drain`] ends it once all input of the group is committed, [`Stop::Now`] after the cycle at hand; both write a snapshot and
/// leave the group, unless membership is static. An end that is asked for by `Now` takes `shutdown_grace` and two seconds at most: what is not settled by then is
/// given up, as after a crash.
///
/// # Errors
/// On what cannot be helped by trying again: a declaration or state that does not fit, a connection that is refused, a cycle that
/// failed many times in a row, or a worker that does nothing.
///
/// # Panics
/// If a worker does.
pub fn run(config: &ProcessorConfig, progress: &Progress, stop: &StopSignal) -> Result<Summary, ProcessorError> {
    config.settings.validate(&config.kafka)?;
    worker::open_streams(config)?;
    let config = Arc::new(config.clone());
    let mut workers = (0..config.settings.workers)
        .map(|number| start(&config, number, progress.add_worker()))
        .collect::<Result<Vec<_>, _>>()?;
    let outcome = supervise(&config, &mut workers, progress, stop);
    metrics::standing(progress);
    outcome.map(|()| Summary {
        counts: progress.counts(),
        transactions: progress.transactions(),
        recoveries: progress.recoveries(),
        accuracies: progress.accuracies(),
    })
}

fn start(
    config: &Arc<ProcessorConfig>,
    number: usize,
    progress: Arc<WorkerProgress>,
) -> Result<Supervised, ProcessorError> {
    let orders = Arc::new(Orders::default());
    let (of_worker, its_orders, config) = (Arc::clone(&progress), Arc::clone(&orders), Arc::clone(config));
    let work = move || worker::run(&config, number, &of_worker, &its_orders);
    let handle = spawn(&format!("worker-{number}"), work)?;
    let handle = Some(handle);
    Ok(Supervised { progress, orders, handle, steps: 0, since: Instant::now(), stalls: 0, commits: 0, question: None })
}

pub(crate) fn spawn<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, ProcessorError> {
    let spawned = thread::Builder::new().name(name.to_owned()).spawn(work);
    spawned.map_err(|error| ProcessorError::Settings(format!("processor.workers: cannot start a thread: {error}")))
}

/// Ends when all workers have, with the first error.
fn supervise(
    config: &Arc<ProcessorConfig>,
    workers: &mut [Supervised],
    progress: &Progress,
    stop: &StopSignal,
) -> Result<(), ProcessorError> {
    let grace = millis(config.settings.shutdown_grace);
    let mut failed = None;
    let mut over_at = None;
    let mut drain = None;
    let (mut orphans, mut topics) = (orphans::Watch::new(config), input_topics::Watch::new(config));
    loop {
        for worker in &mut *workers {
            if let Some(Err(error)) = worker.result() {
                failed.get_or_insert(error);
            }
        }
        if workers.iter().all(|worker| worker.handle.is_none()) {
            return failed.map_or(Ok(()), Err);
        }
        let is_asked = stop.requested() == Some(Stop::Now);
        if (is_asked || failed.is_some()) && over_at.is_none() {
            let deadline = Instant::now() + grace;
            workers.iter().for_each(|worker| worker.orders.stop(Some(deadline)));
            over_at = Some(deadline + LEAVE_TIME);
        }
        if over_at.is_some_and(|over_at| Instant::now() >= over_at) {
            tracing::warn!("not settled within processor.shutdown_grace: what is open is given up, as after a crash");
            return failed.map_or(Ok(()), Err);
        }
        if stop.requested() == Some(Stop::Drain) && drain.is_none() {
            drain = Some(start_drain(config, workers)?);
        }
        if over_at.is_none() {
            if let Err(error) = orphans.step().and_then(|()| topics.step()) {
                failed.get_or_insert(error);
            }
            for (number, worker) in workers.iter_mut().enumerate() {
                if let Err(error) = worker.watch(config, number) {
                    failed.get_or_insert(error);
                }
            }
        }
        metrics::standing(progress);
        thread::sleep(LOOK_EVERY);
    }
}

/// Waits for the end of all input on a thread of its own, then tells the workers to end. Nobody waits for them then: they take the
/// time that their last snapshot takes.
fn start_drain(config: &Arc<ProcessorConfig>, workers: &[Supervised]) -> Result<JoinHandle<()>, ProcessorError> {
    let config = Arc::clone(config);
    let progresses: Vec<_> = workers.iter().map(|worker| Arc::clone(&worker.progress)).collect();
    let orders: Vec<_> = workers.iter().map(|worker| Arc::clone(&worker.orders)).collect();
    spawn("drain", move || {
        drain::wait(&config, &progresses, &orders[0]);
        orders.iter().for_each(|orders| orders.stop(None));
    })
}

impl Supervised {
    /// What it ended with, told once.
    fn result(&mut self) -> Option<Result<(), ProcessorError>> {
        let handle = self.handle.take_if(|handle| handle.is_finished())?;
        self.progress.clear();
        match handle.join() {
            Ok(result) => Some(result),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    /// Sees whether anything goes on; asks for input if nothing does.
    fn watch(&mut self, config: &Arc<ProcessorConfig>, number: usize) -> Result<(), ProcessorError> {
        if self.handle.is_none() || self.orders.is_stopping() {
            return Ok(());
        }
        let steps = self.progress.steps();
        if steps != self.steps {
            (self.steps, self.since, self.question) = (steps, Instant::now(), None);
            let commits = self.progress.transactions();
            if commits != self.commits {
                (self.commits, self.stalls) = (commits, 0);
            }
            self.orders.take_renewal();
            return Ok(());
        }
        let waited = millis(config.settings.stall_timeout);
        if self.since.elapsed() < waited {
            return Ok(());
        }
        let Some(question) = &self.question else {
            let (answer, question) = mpsc::channel();
            let (config, progress) = (Arc::clone(config), Arc::clone(&self.progress));
            spawn("watchdog", move || {
                // Nobody listens any more if something has gone on meanwhile.
                let _ = answer.send(has_input(&config, &progress));
            })?;
            self.question = Some(question);
            return Ok(());
        };
        let Ok(has_input) = question.try_recv() else { return Ok(()) };
        (self.since, self.question) = (Instant::now(), None);
        if !has_input {
            self.stalls = 0;
            return Ok(());
        }
        self.stalls += 1;
        metrics::stalled(number, self.stalls, waited);
        if self.stalls >= STALLS_MAX {
            return Err(ProcessorError::Stalled { worker: number, waited, times: self.stalls });
        }
        self.orders.renew.store(true, Relaxed);
        Ok(())
    }
}

/// Whether there is input for a worker that does nothing, as a client of its own sees it. A broker that does not answer is no answer:
/// the worker's own time-outs tell.
fn has_input(config: &ProcessorConfig, progress: &WorkerProgress) -> bool {
    let asked = || {
        let admin = Admin::connect(&config.kafka)?;
        let owned = progress.read_to();
        if owned.is_empty() {
            // A member without partitions has nothing to do. Who is none waits for the others, a dead one of them for a session time-out,
            // unless the group is at rest.
            return Ok(!progress.is_member() && !orphans::orphans(config, &admin)?.is_empty());
        }
        for stream in &config.streams {
            for at in admin.offsets(&stream.topic)? {
                let place = (&stream.topic, at.partition);
                let mut owned = owned.iter().filter(|((topic, partition), _)| (topic, *partition) == place);
                if owned.any(|&(_, read_to)| read_to < at.high) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    };
    let answer: Result<bool, ProcessorError> = asked();
    answer.unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use tidewatch_broker::{Broker, BrokerConfig};
    use tidewatch_processor_core::StreamSettings;
    use tidewatch_processor_core::config::Span;
    use tidewatch_schemas::catalogue::Topics;
    use tidewatch_topic_io::{KafkaConfig, Outgoing, TopicSpec, Writer};

    use super::*;
    use crate::ProcessorSettings;

    /// A stream with a record that nobody reads.
    fn unread(kafka: &KafkaConfig) -> Arc<ProcessorConfig> {
        Admin::connect(kafka).unwrap().ensure_topics(&[TopicSpec::new("calls", 1)]).unwrap();
        let mut writer = Writer::new(kafka).unwrap();
        writer.send(Outgoing::new("calls", b"e", b"{}")).unwrap();
        writer.flush(Duration::from_secs(30)).unwrap();
        let stream: StreamSettings = serde_json::from_value(serde_json::json!({
            "name": "calls", "topic": "calls", "format": "json", "entity": ["e"], "event_time": "at",
            "window": { "tumbling": "1m" }, "measure": [{ "name": "m", "field": "m" }],
        }))
        .unwrap();
        let settings = ProcessorSettings { stall_timeout: Span::from_millis(1), ..ProcessorSettings::default() };
        let (streams, topics) = (vec![stream.validate().unwrap()], Topics::default());
        Arc::new(ProcessorConfig { kafka: kafka.clone(), streams, topics, settings })
    }

    #[test]
    fn clients_that_are_made_anew_and_never_commit_are_given_up() {
        let broker = Broker::start(tidewatch_test_brokers::embedded_config(BrokerConfig::in_memory())).unwrap();
        let config = unread(&KafkaConfig::at(&broker.bootstrap_servers()));
        let (progress, orders) = (Arc::new(WorkerProgress::default()), Arc::new(Orders::default()));
        let handle = Some(spawn("test", || Ok(())).unwrap());
        let since = Instant::now();
        let mut worker =
            Supervised { progress, orders, handle, steps: 0, since, stalls: 0, commits: 0, question: None };
        let mut renewals = 0;
        let error = loop {
            if let Err(error) = worker.watch(&config, 0) {
                break error;
            }
            if worker.orders.take_renewal() {
                renewals += 1;
                assert!(renewals < 10, "the worker is never given up");
                // Its state is read back; a commit is made after the second time only.
                worker.progress.step();
                if renewals == 2 {
                    worker.progress.add_committed(&Counts::default());
                }
            }
        };
        assert!(matches!(error, ProcessorError::Stalled { worker: 0, times: STALLS_MAX, .. }), "{error:?}");
        assert_eq!(renewals, 4, "two, a commit, two more, and the third is the last");
    }
}
