//! What another thread may see of a running processor. Each number is exact by itself; together they are a glance.
//!
//! Each worker states its own, which no other worker touches; [`Progress`] adds them up for who looks.

use std::collections::BTreeMap;
use std::sync::atomic::{
    AtomicBool, AtomicI64, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tidewatch_schemas::record::Forecast;

use crate::accuracy::{Accuracies, HorizonAccuracy};
use crate::standing::{Standing, explain};

/// How long standings are kept up to date for somebody who asked.
const EXPLAIN_FOR: Duration = Duration::from_secs(60);

/// Live counters of one processor, of what is committed.
#[derive(Debug, Default)]
pub struct Progress {
    workers: Mutex<Vec<Arc<WorkerProgress>>>,
}

/// Counts of one cycle, or of a whole run. The ledger: `read = scored + late + dead_lettered + duplicate + filtered`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Records read.
    pub read: u64,
    /// Events taken into a window.
    pub scored: u64,
    /// Events whose windows had all closed; they are on the late topic.
    pub late: u64,
    /// Records that were no events; they are on the dead-letter topic.
    pub dead_lettered: u64,
    /// Events with an id that was seen before, and records delivered a second time; not taken in again.
    pub duplicate: u64,
    /// Events that the stream does not want (`only`).
    pub filtered: u64,
    /// Windows closed.
    pub windows: u64,
    /// Alert records written, corrections included.
    pub alerts: u64,
    /// Result records that correct earlier ones after late events.
    pub revisions: u64,
    /// Entities forgotten to make room for others (`entities_max`).
    pub evicted: u64,
    /// Windows that were final before an event of theirs came, where others of the same event were not.
    pub missed: u64,
    /// Alert records that were not written, as their alerts opened in the history that is learnt from (`bootstrap`).
    pub quiet: u64,
    /// Metric records written, revisions included.
    pub metrics: u64,
    /// Forecast records written, revisions included.
    pub forecasts: u64,
}

/// How often something went wrong and was got over, by what it took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recoveries {
    /// Transactions aborted, and their input read again.
    pub aborted: u64,
    /// Commits without an answer that turned out to have happened.
    pub confirmed: u64,
    /// Transactions whose producer was replaced, and that turned out not to have happened.
    pub undone: u64,
    /// Times that all clients of a worker were made anew.
    pub rebuilt: u64,
}

/// The lock, whoever panicked with it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Counts {
    /// Records read that no other count explains; anything but 0 is a defect.
    #[must_use]
    pub const fn residue(&self) -> i64 {
        self.read as i64 - (self.scored + self.late + self.dead_lettered + self.duplicate + self.filtered) as i64
    }

    /// Counts these too.
    pub(crate) fn add(&mut self, more: &Self) {
        let Self {
            read,
            scored,
            late,
            dead_lettered,
            duplicate,
            filtered,
            windows,
            alerts,
            revisions,
            evicted,
            missed,
            quiet,
            metrics,
            forecasts,
        } = *more;
        self.read += read;
        self.scored += scored;
        self.late += late;
        self.dead_lettered += dead_lettered;
        self.duplicate += duplicate;
        self.filtered += filtered;
        self.windows += windows;
        self.alerts += alerts;
        self.revisions += revisions;
        self.evicted += evicted;
        self.missed += missed;
        self.quiet += quiet;
        self.metrics += metrics;
        self.forecasts += forecasts;
    }
}

impl Recoveries {
    fn add(&mut self, more: &Self) {
        let Self { aborted, confirmed, undone, rebuilt } = *more;
        self.aborted += aborted;
        self.confirmed += confirmed;
        self.undone += undone;
        self.rebuilt += rebuilt;
    }
}

impl Progress {
    /// All zero.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What is committed so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        self.each(|worker| counts.add(&lock(&worker.counts)));
        counts
    }

    /// How good forecasts are, by stream and horizon (in ms), of what was written so far.
    #[must_use]
    pub fn accuracies(&self) -> Vec<(String, i64, HorizonAccuracy)> {
        let mut all = Accuracies::default();
        self.each(|worker| all.join(&lock(&worker.accuracies)));
        all.all()
    }

    /// Transactions committed.
    pub fn transactions(&self) -> u64 {
        self.sum(|worker| worker.transactions.load(Relaxed))
    }

    /// Entities remembered.
    pub fn entities(&self) -> u64 {
        self.sum(|worker| worker.entities.load(Relaxed))
    }

    /// What went wrong and was got over.
    pub fn recoveries(&self) -> Recoveries {
        let mut recoveries = Recoveries::default();
        self.each(|worker| recoveries.add(&lock(&worker.recoveries)));
        recoveries
    }

    /// Records between the position and the end of the input, as last seen.
    pub fn lag(&self) -> i64 {
        let mut lag = 0;
        self.each(|worker| lag += worker.lag.load(Relaxed));
        lag
    }

    /// Offsets of the history that is learnt from without alerts, still to be read as of the last look.
    pub fn history_left(&self) -> u64 {
        self.sum(|worker| worker.history_left.load(Relaxed))
    }

    /// How much of the state that is being read back is read, and of how much: of offsets, of all workers that are at it. `None`: none is.
    pub fn restore(&self) -> Option<(u64, u64)> {
        // Read first, so that it is never more than the total.
        let read_back = self.sum(|worker| worker.read_back.load(Acquire));
        let total = self.sum(|worker| worker.to_restore.load(Relaxed));
        (total > 0).then_some((read_back, total))
    }

    /// Input partitions that are assigned and restored.
    pub fn assigned(&self) -> u64 {
        self.sum(|worker| worker.assigned.load(Relaxed))
    }

    /// Records that the ledgers of all assigned partitions leave unexplained.
    pub(crate) fn residue(&self) -> u64 {
        self.sum(|worker| worker.residue.load(Relaxed))
    }

    /// How far each stream's event time is behind the clock where it is furthest behind, in ms.
    pub(crate) fn watermark_lags(&self) -> BTreeMap<String, i64> {
        let mut lags = BTreeMap::new();
        self.each(|worker| {
            for (stream, &lag) in lock(&worker.watermark_lags).iter() {
                let most = lags.entry(stream.clone()).or_insert(lag);
                *most = lag.max(*most);
            }
        });
        lags
    }

    /// Where event time stands and what holds it back, as of the processor's last look; `None` if it has not looked yet.
    ///
    /// For a minute from a call on it looks twice a second, which costs it time in proportion to what is open.
    pub fn explain_watermark(&self) -> Option<String> {
        let (mut all, mut age, mut is_answered) = (Vec::new(), Duration::ZERO, false);
        let mut is_whole = true;
        self.each(|worker| match worker.ask_for_standings() {
            None => is_whole = false,
            Some((looked_at, standings)) => {
                all.extend(standings);
                age = age.max(looked_at.elapsed());
                is_answered = true;
            }
        });
        (is_whole && is_answered).then(|| explain(&all, age))
    }

    /// Takes one more worker in.
    pub(crate) fn add_worker(&self) -> Arc<WorkerProgress> {
        let worker = Arc::new(WorkerProgress::default());
        lock(&self.workers).push(Arc::clone(&worker));
        worker
    }

    fn each(&self, look: impl FnMut(&Arc<WorkerProgress>)) {
        lock(&self.workers).iter().for_each(look);
    }

    fn sum(&self, of: impl Fn(&WorkerProgress) -> u64) -> u64 {
        lock(&self.workers).iter().map(|worker| of(worker)).sum()
    }
}

/// What one worker states.
#[derive(Debug, Default)]
pub(crate) struct WorkerProgress {
    counts: Mutex<Counts>,
    recoveries: Mutex<Recoveries>,
    accuracies: Mutex<Accuracies>,
    transactions: AtomicU64,
    entities: AtomicU64,
    lag: AtomicI64,
    assigned: AtomicU64,
    history_left: AtomicU64,
    /// Offsets of the state and ledger topics that are being read back, and how many of them are.
    to_restore: AtomicU64,
    read_back: AtomicU64,
    residue: AtomicU64,
    watermark_lags: Mutex<BTreeMap<String, i64>>,
    /// Grows with whatever goes on.
    steps: AtomicU64,
    /// Whether it is a member of the group, be it of no partition.
    is_member: AtomicBool,
    /// How far its partitions are read, all before it committed.
    read_to: Mutex<Vec<((String, i32), i64)>>,
    /// When somebody last asked what holds event time back.
    asked_at: Mutex<Option<Instant>>,
    standings: Mutex<Option<(Instant, Vec<Standing>)>>,
}

impl WorkerProgress {
    pub(crate) fn transactions(&self) -> u64 {
        self.transactions.load(Relaxed)
    }

    pub(crate) fn is_explaining(&self) -> bool {
        lock(&self.asked_at).is_some_and(|asked_at| asked_at.elapsed() < EXPLAIN_FOR)
    }

    fn ask_for_standings(&self) -> Option<(Instant, Vec<Standing>)> {
        let was_asked = self.is_explaining();
        *lock(&self.asked_at) = Some(Instant::now());
        let mut standings = lock(&self.standings);
        if !was_asked {
            *standings = None;
        }
        standings.clone()
    }

    pub(crate) fn set_standings(&self, standings: Vec<Standing>) {
        *lock(&self.standings) = Some((Instant::now(), standings));
    }

    pub(crate) fn add_committed(&self, counts: &Counts) {
        lock(&self.counts).add(counts);
        self.transactions.fetch_add(1, Relaxed);
        self.step();
    }

    pub(crate) fn add_recovery(&self, more: &Recoveries) {
        lock(&self.recoveries).add(more);
    }

    /// Learns from the records of forecasts how good they are.
    pub(crate) fn learn_accuracy(&self, forecasts: &[Forecast]) {
        if !forecasts.is_empty() {
            let mut accuracies = lock(&self.accuracies);
            forecasts.iter().for_each(|forecast| accuracies.learn(forecast));
        }
    }

    /// Something went on: who watches whether anything does need not worry.
    pub(crate) fn step(&self) {
        self.steps.fetch_add(1, Relaxed);
    }

    pub(crate) fn steps(&self) -> u64 {
        self.steps.load(Relaxed)
    }

    pub(crate) fn set_entities(&self, entities: u64) {
        self.entities.store(entities, Relaxed);
    }

    pub(crate) fn set_lag(&self, lag: i64) {
        self.lag.store(lag, Relaxed);
    }

    pub(crate) fn set_assigned(&self, partitions: u64) {
        self.assigned.store(partitions, Relaxed);
    }

    pub(crate) fn set_history_left(&self, offsets: i64) {
        self.history_left.store(offsets.unsigned_abs(), Relaxed);
    }

    /// There is so much more to read back.
    pub(crate) fn add_to_restore(&self, offsets: i64) {
        self.to_restore.fetch_add(offsets.unsigned_abs(), Relaxed);
    }

    /// So much more of it is read.
    pub(crate) fn add_read_back(&self, offsets: i64) {
        if offsets > 0 {
            self.read_back.fetch_add(offsets.unsigned_abs(), Release);
            self.step();
        }
    }

    /// Nothing is being read back any more.
    pub(crate) fn end_restore(&self) {
        self.to_restore.store(0, Relaxed);
        self.read_back.store(0, Relaxed);
    }

    pub(crate) fn set_residue(&self, records: u64) {
        self.residue.store(records, Relaxed);
    }

    pub(crate) fn set_watermark_lag(&self, stream: &str, lag_ms: i64) {
        let mut lags = lock(&self.watermark_lags);
        match lags.get_mut(stream) {
            Some(lag) => *lag = lag_ms,
            None => drop(lags.insert(stream.to_owned(), lag_ms)),
        }
    }

    pub(crate) fn set_member(&self, is_member: bool) {
        self.is_member.store(is_member, Relaxed);
    }

    pub(crate) fn is_member(&self) -> bool {
        self.is_member.load(Relaxed)
    }

    pub(crate) fn set_read_to(&self, read_to: Vec<((String, i32), i64)>) {
        *lock(&self.read_to) = read_to;
    }

    pub(crate) fn read_to(&self) -> Vec<((String, i32), i64)> {
        lock(&self.read_to).clone()
    }

    /// Has no partitions any more, until they are assigned anew.
    pub(crate) fn clear(&self) {
        self.set_assigned(0);
        self.set_member(false);
        self.set_read_to(Vec::new());
        self.set_lag(0);
        self.set_history_left(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_workers_state_is_added_up() {
        let progress = Progress::new();
        let workers = [progress.add_worker(), progress.add_worker()];
        for (number, worker) in (1_u32..).zip(&workers) {
            worker.add_committed(&Counts { read: number.into(), scored: 1, ..Counts::default() });
            worker.set_lag(10 * i64::from(number));
            worker.set_assigned(number.into());
            worker.set_watermark_lag("calls", 100 * i64::from(number));
            worker.add_recovery(&Recoveries { aborted: 1, ..Recoveries::default() });
        }
        assert_eq!((progress.counts().read, progress.counts().scored, progress.transactions()), (3, 2, 2));
        assert_eq!((progress.lag(), progress.assigned(), progress.recoveries().aborted), (30, 3, 2));
        assert_eq!(progress.watermark_lags(), BTreeMap::from([("calls".to_owned(), 200)]));
    }

    #[test]
    fn event_time_is_explained_once_every_worker_has_looked() {
        let progress = Progress::new();
        assert_eq!(progress.explain_watermark(), None);
        let workers = [progress.add_worker(), progress.add_worker()];
        assert_eq!(progress.explain_watermark(), None);
        let standing = |partition| Standing { stream: "calls".into(), partition, ..Standing::default() };
        workers[0].set_standings(vec![standing(0)]);
        assert_eq!(progress.explain_watermark(), None);
        workers[1].set_standings(vec![standing(1)]);
        let text = progress.explain_watermark().expect("both have looked");
        assert!(text.contains("partition 0") && text.contains("partition 1"), "{text}");
    }
}
