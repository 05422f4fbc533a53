//! What is left when everything in memory is gone: a journal, and logs and groups that are as simple as they can be. Every
//! step on them can be made to fail.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use kafka_protocol::ResponseError;

use super::super::participants::{Participants, Written};
use super::super::record::Record;
use super::super::transaction::{Enlisted, Producer};
use super::super::{Decisions, Transactions};
use crate::config::BrokerConfig;
use crate::log::ActiveProducer;
use crate::node::Now;

/// What fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Failing {
    #[default]
    Nothing,
    /// All steps after so many: the process was killed.
    AllAfter(u32),
    /// The one step after so many: the disk was full.
    OneAfter(u32),
}

/// A partition: what read_committed shows of it, and what is open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Log {
    pub(super) shown: Vec<u32>,
    pub(super) open: BTreeMap<i64, (i16, Vec<u32>)>,
    pub(super) markers: usize,
    epochs: BTreeMap<i64, i16>,
}

/// A group: the committed offset and the staged ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) committed: Option<i64>,
    pub(super) staged: BTreeMap<i64, i64>,
}

/// The files.
#[derive(Clone, Debug, Default)]
struct Files {
    journal: Vec<Record>,
    logs: BTreeMap<(String, i32), Log>,
    groups: BTreeMap<String, Group>,
}

#[derive(Debug, Default)]
struct Contents {
    files: Files,
    /// What a power loss leaves at least.
    synced: Files,
    failing: Failing,
    steps: u32,
}

impl Contents {
    fn step(&mut self) -> Result<(), ResponseError> {
        let done = self.steps;
        self.steps += 1;
        let fails = match self.failing {
            Failing::Nothing => false,
            Failing::AllAfter(count) => done >= count,
            Failing::OneAfter(count) => done == count,
        };
        if fails { Err(ResponseError::KafkaStorageError) } else { Ok(()) }
    }
}

/// A handle of the disk; clones are the same disk.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk(Rc<RefCell<Contents>>);

pub(super) type Coordinator = Transactions<Disk>;

impl Disk {
    /// With these partitions of topic `t`.
    pub(super) fn new(partitions: i32) -> Self {
        let disk = Self::default();
        disk.0.borrow_mut().files.logs = (0..partitions).map(|p| (("t".to_owned(), p), Log::default())).collect();
        disk
    }

    /// A coordinator as after a start, recovery included.
    pub(super) fn start(&self, now: Now) -> Coordinator {
        self.start_with(&BrokerConfig::in_memory(), now)
    }

    pub(super) fn start_with(&self, config: &BrokerConfig, now: Now) -> Coordinator {
        let records = self.0.borrow().files.journal.clone();
        let mut transactions = Transactions::new(self.clone(), records, config, now);
        transactions.recover_with(&mut self.clone(), now);
        transactions
    }

    /// From here on; steps are counted from 0 again.
    pub(super) fn fail(&self, failing: Failing) {
        let mut contents = self.0.borrow_mut();
        (contents.failing, contents.steps) = (failing, 0);
    }

    /// Syncs all, as the broker before each answer.
    pub(super) fn sync_all(&self) {
        let mut contents = self.0.borrow_mut();
        contents.synced = contents.files.clone();
    }

    /// The power fails: of every file of an odd bit only what was synced is left; the journal is bit 0.
    pub(super) fn lose_power(&self, files: u32) {
        let mut contents = self.0.borrow_mut();
        let Contents { files: now, synced, .. } = &mut *contents;
        let mut bits = (0..).map(|bit| files >> bit & 1 == 1);
        let mut is_lost = || bits.next() == Some(true);
        if is_lost() {
            now.journal.clone_from(&synced.journal);
        }
        for (name, log) in now.logs.iter_mut().filter(|_| is_lost()) {
            log.clone_from(&synced.logs[name]);
        }
        for (name, group) in now.groups.iter_mut().filter(|_| is_lost()) {
            group.clone_from(&synced.groups[name]);
        }
    }

    pub(super) fn steps(&self) -> u32 {
        self.0.borrow().steps
    }

    pub(super) fn journal(&self) -> Vec<Record> {
        self.0.borrow().files.journal.clone()
    }

    pub(super) fn log(&self, partition: i32) -> Log {
        self.0.borrow().files.logs[&("t".to_owned(), partition)].clone()
    }

    pub(super) fn group(&self, group: &str) -> Group {
        self.0.borrow().files.groups.get(group).cloned().unwrap_or_default()
    }

    pub(super) fn delete(&self, partition: i32) {
        self.0.borrow_mut().files.logs.remove(&("t".to_owned(), partition));
    }

    /// A transactional record, as produce lets it in.
    pub(super) fn write(&self, partition: i32, producer: Producer, value: u32) {
        let mut contents = self.0.borrow_mut();
        let log = contents.files.logs.entry(("t".to_owned(), partition)).or_default();
        log.epochs.insert(producer.id, producer.epoch);
        log.open.entry(producer.id).or_insert((producer.epoch, Vec::new())).1.push(value);
    }

    pub(super) fn stage(&self, group: &str, producer_id: i64, offset: i64) {
        let mut contents = self.0.borrow_mut();
        contents.files.groups.entry(group.to_owned()).or_default().staged.insert(producer_id, offset);
    }
}

impl Decisions for Disk {
    fn append(&mut self, records: &[Record]) -> io::Result<()> {
        if records.is_empty() {
            return Ok(());
        }
        let mut contents = self.0.borrow_mut();
        contents.step().map_err(|_| io::Error::from(io::ErrorKind::StorageFull))?;
        contents.files.journal.extend_from_slice(records);
        Ok(())
    }

    fn is_worth_rewriting(&self, alive: usize) -> bool {
        self.0.borrow().files.journal.len() > 4 * alive
    }

    fn rewrite(&mut self, records: impl Iterator<Item = Record>) -> io::Result<()> {
        let mut contents = self.0.borrow_mut();
        contents.step().map_err(|_| io::Error::from(io::ErrorKind::StorageFull))?;
        contents.files.journal = records.collect();
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut contents = self.0.borrow_mut();
        contents.step().map_err(|_| io::Error::from(io::ErrorKind::StorageFull))?;
        contents.synced.journal = contents.files.journal.clone();
        Ok(())
    }
}

impl Participants for Disk {
    fn write_marker(
        &mut self,
        topic: &str,
        partition: i32,
        producer: Producer,
        is_commit: bool,
        is_again: bool,
        _: Now,
    ) -> Result<(), ResponseError> {
        let mut contents = self.0.borrow_mut();
        contents.step()?;
        let log = contents
            .files
            .logs
            .get_mut(&(topic.to_owned(), partition))
            .ok_or(ResponseError::UnknownTopicOrPartition)?;
        if log.epochs.get(&producer.id).is_some_and(|&epoch| epoch > producer.epoch) {
            return Err(ResponseError::InvalidProducerEpoch);
        }
        let values = log.open.remove(&producer.id).map(|(_, values)| values);
        if is_again && values.is_none() && log.epochs.get(&producer.id) == Some(&producer.epoch) {
            return Ok(());
        }
        log.markers += 1;
        log.epochs.insert(producer.id, producer.epoch);
        if is_commit {
            log.shown.extend(values.into_iter().flatten());
        }
        Ok(())
    }

    fn end_offsets(&mut self, group: &str, producer_id: i64, is_commit: bool, _: Now) -> Result<(), ResponseError> {
        let mut contents = self.0.borrow_mut();
        contents.step()?;
        if let Some(group) = contents.files.groups.get_mut(group)
            && let Some(offset) = group.staged.remove(&producer_id)
            && is_commit
        {
            group.committed = Some(offset);
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), ResponseError> {
        let mut contents = self.0.borrow_mut();
        contents.step()?;
        contents.synced.logs = contents.files.logs.clone();
        contents.synced.groups = contents.files.groups.clone();
        Ok(())
    }

    fn producers(&self) -> Vec<Written> {
        let contents = self.0.borrow();
        let all = contents.files.logs.iter().flat_map(|((topic, partition), log)| {
            log.epochs.iter().map(|(&producer_id, &producer_epoch)| Written {
                topic: topic.clone(),
                partition: *partition,
                producer: ActiveProducer {
                    producer_id,
                    producer_epoch,
                    last_sequence: 0,
                    last_timestamp_ms: 0,
                    coordinator_epoch: -1,
                    transaction_start: log.open.get(&producer_id).map(|_| 0),
                },
            })
        });
        all.collect()
    }

    fn staged(&self) -> Vec<(String, i64)> {
        let contents = self.0.borrow();
        let staged = |(name, group): (&String, &Group)| group.staged.keys().map(|&id| (name.clone(), id)).collect();
        contents.files.groups.iter().flat_map(staged as fn(_) -> Vec<_>).collect()
    }
}

/// Time that a test moves.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock(Now);

impl Clock {
    pub(super) fn new() -> Self {
        Self(Now { unix_ms: 1_000_000, instant: Instant::now() })
    }

    pub(super) fn now(&self) -> Now {
        self.0
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.0.unix_ms += i64::try_from(time.as_millis()).unwrap();
        self.0.instant += time;
    }
}

pub(super) fn partitions(partitions: impl IntoIterator<Item = i32>) -> Enlisted {
    let partitions: BTreeSet<i32> = partitions.into_iter().collect();
    Enlisted { partitions: BTreeMap::from([("t".to_owned(), partitions)]), ..Enlisted::default() }
}

pub(super) fn group(group: &str) -> Enlisted {
    Enlisted { groups: BTreeSet::from([group.to_owned()]), ..Enlisted::default() }
}
