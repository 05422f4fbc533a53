//! How an input partition's engine comes back: its last snapshot, then the input from there to the committed offset.
//!
//! The metadata of a committed offset names the input offset R of the last complete snapshot round, how many partitions the topic
//! had, and what was decided since: by the clock (a silent partition's event time went on), and, before the first round, by the
//! partition's end when it was first seen (what is history to learn from; later it is in the state). The engine is read from the state topic as it was
//! at R, whatever a later round has written there already; reading starts at R; and what the input between R and the committed offset
//! leads to is not written, because it is committed already. The engine is deterministic, so this is exact. The ledger's last record
//! is read from its topic and must end at the committed offset. Both topics are read when every transaction that has written to them is
//! settled, by as many threads as there are cores for this worker.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};
use std::{mem, thread};

use tidewatch_processor_core::{Engine, StreamConfig};
use tidewatch_schemas::record::Ledger;
use tidewatch_topic_io::{Admin, PartitionReader, StartAt};

use crate::input_topics::InputTopic;
use crate::progress::WorkerProgress;
use crate::saved::Saved;
use crate::{ProcessorConfig, ProcessorError, metrics};

/// Records of one read of the state and ledger topics, and how long it may wait.
const READ_MAX: usize = 10_000;
const READ_WAIT: Duration = Duration::from_millis(100);
/// How often the group is told that this is still a member.
const STAY_EVERY: Duration = Duration::from_millis(500);

/// What the metadata of a committed offset says: `snapshot=4711;partitions=6;topic=sM5qhaYeRSWbY6pHkbBM_w;idle=4720@1736121600000`, or
/// `start=0;partitions=6;topic=sM5qhaYeRSWbY6pHkbBM_w;history=9000`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CommitNote {
    /// Input offset of the last snapshot; or, before the first one, of the first record ever taken in.
    pub(crate) read_from: i64,
    /// Whether there is a snapshot.
    pub(crate) is_snapshot: bool,
    /// The input topic; without an id in what was written before there was one.
    pub(crate) topic: InputTopic,
    /// Where the history that is learnt from ends, if there is one and no snapshot yet.
    pub(crate) history_end: Option<i64>,
    /// What the clock decided since the snapshot.
    pub(crate) idle: Vec<IdleAdvance>,
}

/// A decision of the clock, as a replay has to repeat it: when all input before `offset` had been taken in, event time went on to
/// `time` because nothing came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IdleAdvance {
    /// The next input offset when it was decided.
    pub(crate) offset: i64,
    /// Event time, in ms since 1970.
    pub(crate) time: i64,
}

impl CommitNote {
    pub(crate) fn to_metadata(&self) -> String {
        let what = if self.is_snapshot { "snapshot" } else { "start" };
        let mut text = format!("{what}={};partitions={}", self.read_from, self.topic.partitions);
        if let Some(id) = &self.topic.id {
            text.push_str(&format!(";topic={id}"));
        }
        if let Some(end) = self.history_end {
            text.push_str(&format!(";history={end}"));
        }
        for (at, IdleAdvance { offset, time }) in self.idle.iter().enumerate() {
            let lead = if at == 0 { ";idle=" } else { "," };
            text.push_str(&format!("{lead}{offset}@{time}"));
        }
        text
    }

    pub(crate) fn parse(metadata: &str) -> Option<Self> {
        let (metadata, idle) = metadata.split_once(";idle=").unwrap_or((metadata, ""));
        let (metadata, history_end) = match metadata.split_once(";history=") {
            Some((metadata, end)) => (metadata, Some(end.parse().ok()?)),
            None => (metadata, None),
        };
        let (what, topic) = metadata.split_once(";partitions=")?;
        let (partitions, id) =
            topic.split_once(";topic=").map_or((topic, None), |(count, id)| (count, Some(id.into())));
        let (what, read_from) = what.split_once('=')?;
        let is_snapshot = match what {
            "snapshot" => true,
            "start" => false,
            _ => return None,
        };
        let advance = |text: &str| {
            let (offset, time) = text.split_once('@')?;
            Some(IdleAdvance { offset: offset.parse().ok()?, time: time.parse().ok()? })
        };
        let idle = idle.split(',').filter(|text| !text.is_empty()).map(advance).collect::<Option<_>>()?;
        let topic = InputTopic { partitions: partitions.parse().ok()?, id };
        Some(Self { read_from: read_from.parse().ok()?, is_snapshot, topic, history_end, idle })
    }
}

/// Where a partition begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Beginning {
    /// The first offset that is read.
    pub(crate) read_from: i64,
    /// Whether there must be a snapshot as of that offset.
    pub(crate) is_snapshot: bool,
    /// The first offset whose effects are written: the committed one.
    pub(crate) write_from: i64,
    /// Where the history that is learnt from ends, where no snapshot says so.
    pub(crate) history_end: Option<i64>,
    /// What the clock decided between the two.
    pub(crate) idle: Vec<IdleAdvance>,
}

/// An input partition to bring back.
pub(crate) struct Wanted {
    pub(crate) config: Arc<StreamConfig>,
    pub(crate) partition: i32,
    pub(crate) begin: Beginning,
}

/// An input partition's engine as of `begin.read_from`, and the group's last ledger record of it.
pub(crate) struct Restored {
    pub(crate) engine: Engine,
    pub(crate) ledger: Option<Ledger>,
}

/// Brings partitions back, in their order. `stay` is called meanwhile, now and then: a large state, or a transaction that is waited for,
/// may take longer than a member of the group may be silent. With its error all is given up.
///
/// # Errors
/// The first by partition, so that what is complained of does not hang on which thread was first; or that of `stay`.
pub(crate) fn restore(
    config: &ProcessorConfig,
    wanted: &[Wanted],
    progress: &WorkerProgress,
    mut stay: impl FnMut() -> Result<(), ProcessorError>,
) -> Result<Vec<Restored>, ProcessorError> {
    let sources = [&*config.topics.state, &*config.topics.ledger];
    let work = Work { config, sources, wanted, progress, is_given_up: AtomicBool::new(false) };
    thread::scope(|scope| {
        let (end, ended) = mpsc::channel::<Infallible>();
        let restoring = scope.spawn(|| {
            let _end = end;
            work.restore()
        });
        let mut stays = Ok(());
        // Nothing is ever sent: the channel is closed at the end.
        while stays.is_ok() && ended.recv_timeout(STAY_EVERY) == Err(RecvTimeoutError::Timeout) {
            stays = stay();
        }
        work.is_given_up.store(stays.is_err(), Relaxed);
        let restored = restoring.join().unwrap_or_else(|panic| resume_unwind(panic));
        stays.and(restored)
    })
}

/// What is to be brought back, and from where.
struct Work<'a> {
    config: &'a ProcessorConfig,
    /// The state and the ledger topic.
    sources: [&'a str; 2],
    wanted: &'a [Wanted],
    progress: &'a WorkerProgress,
    is_given_up: AtomicBool,
}

impl Work<'_> {
    /// Each thread reads some partitions of the two topics and makes the engines of them.
    fn restore(&self) -> Result<Vec<Restored>, ProcessorError> {
        let started = Instant::now();
        let partitions: BTreeSet<i32> = self.wanted.iter().map(|wanted| wanted.partition).collect();
        let reader = PartitionReader::new(&self.config.kafka, true)?;
        let admin = Admin::connect(&self.config.kafka)?;
        let (is_mine, is_given_up) = (|partition| partitions.contains(&partition), || self.is_given_up());
        reader.wait_until_settled(&admin, &self.sources, is_mine, is_given_up)?;
        end_aside((reader, admin));
        self.progress.step();
        let threads = self.config.restore_threads().clamp(1, partitions.len().max(1));
        let share = |at: usize| partitions.iter().copied().skip(at).step_by(threads).collect::<Vec<i32>>();
        let shares: Vec<Vec<i32>> = (0..threads).map(share).collect();
        let outcomes: Vec<_> = thread::scope(|scope| {
            let begun: Vec<_> = shares.iter().map(|share| scope.spawn(|| self.restore_share(share))).collect();
            begun.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic))).collect()
        });
        self.progress.end_restore();
        let mut restored = Vec::with_capacity(self.wanted.len());
        for outcome in outcomes {
            restored.extend(outcome?);
        }
        restored.sort_unstable_by_key(|&(at, _)| at);
        let entities = restored.iter().map(|(_, restored)| restored.engine.entities()).sum();
        if !self.is_given_up() {
            metrics::restored(self.wanted.len(), entities, threads, started.elapsed());
        }
        Ok(restored.into_iter().map(|(_, restored)| restored).collect())
    }

    /// Those of the wanted that are in these partitions, with their places in the order; not all, where it was given up.
    fn restore_share(&self, share: &[i32]) -> Result<Vec<(usize, Restored)>, ProcessorError> {
        let mut restored = Vec::new();
        for (at, saved) in self.read_saved(share)? {
            if self.is_given_up() {
                break;
            }
            let Wanted { config, partition, begin } = &self.wanted[at];
            let ledger = saved.ledger(self.sources[1], *partition)?;
            let engine = saved.engine(self.sources[0], &self.wanted[at])?;
            self.progress.step();
            let Beginning { read_from, write_from, .. } = begin;
            metrics::partition_restored(&config.topic, *partition, engine.entities(), *read_from, *write_from);
            restored.push((at, Restored { engine, ledger }));
        }
        Ok(restored)
    }

    /// Reads the group's latest committed records in these partitions of the state and the ledger topic, all at once; gives those of
    /// each of the wanted, with its place in the order.
    fn read_saved(&self, share: &[i32]) -> Result<Vec<(usize, Saved)>, ProcessorError> {
        let group = &self.config.settings.group_id;
        let mine = self.wanted.iter().enumerate().filter(|(_, wanted)| share.contains(&wanted.partition));
        let mut saved: Vec<(usize, Saved)> = mine.map(|(at, wanted)| (at, Saved::new(group, wanted))).collect();
        let mut reader = PartitionReader::new(&self.config.kafka, true)?;
        let places =
            self.sources.iter().flat_map(|&topic| share.iter().map(move |&at| (topic, at, StartAt::Beginning)));
        reader.assign(&places.collect::<Vec<_>>())?;
        let mut read = sum(reader.positions());
        self.progress.add_to_restore(sum(reader.end_offsets()?) - read);
        while !reader.is_at_end() && !self.is_given_up() {
            for message in reader.read(READ_MAX, READ_WAIT)?.iter() {
                let Some(key) = message.key() else { continue };
                let is_state = *message.topic() == *self.sources[0];
                let here = saved.iter_mut().filter(|(at, _)| self.wanted[*at].partition == message.partition());
                for (_, saved) in here {
                    if saved.take(is_state, key, message.offset(), message.value()) {
                        break;
                    }
                }
            }
            let now = sum(reader.positions());
            self.progress.add_read_back(now - mem::replace(&mut read, now));
        }
        end_aside(reader);
        Ok(saved)
    }

    fn is_given_up(&self) -> bool {
        self.is_given_up.load(Relaxed)
    }
}

/// Ends clients on a thread of its own: each takes up to a tenth of a second, and nobody has to wait for it.
fn end_aside(clients: impl Send + 'static) {
    // Without a thread they end here.
    let _ = thread::Builder::new().name("end".into()).spawn(move || drop(clients));
}

fn sum<T: AsRef<str>>(offsets: impl IntoIterator<Item = (T, i32, i64)>) -> i64 {
    offsets.into_iter().map(|(.., offset)| offset).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_note_of_a_commit_is_read_back_and_nothing_else_is() {
        let idle: Vec<IdleAdvance> = (0..3).map(|n| IdleAdvance { offset: 42 + n, time: 1_000 * n }).collect();
        let all = [
            (false, None, vec![]),
            (false, Some(9_000), vec![]),
            (false, Some(9_000), idle[..1].to_vec()),
            (true, None, vec![]),
            (true, None, idle[..1].to_vec()),
            (true, None, idle),
        ];
        for (is_snapshot, history_end, idle) in all {
            for id in [None, Some("sM5qhaYeRSWbY6pHkbBM_w".into())] {
                let note = CommitNote {
                    read_from: 42,
                    is_snapshot,
                    topic: InputTopic { partitions: 6, id },
                    history_end,
                    idle: idle.clone(),
                };
                assert_eq!(CommitNote::parse(&note.to_metadata()), Some(note));
            }
        }
        let others = [
            "",
            "snapshot=",
            "snapshot=x;partitions=1",
            "end=1;partitions=1",
            "snapshot=1;partitions=1;idle=1",
            "start=1;partitions=1;history=x",
            "by hand",
        ];
        for other in others {
            assert_eq!(CommitNote::parse(other), None, "{other}");
        }
    }
}
