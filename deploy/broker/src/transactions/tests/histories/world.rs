//! Logs, groups and the coordinator in one folder, as the broker has them; and a process that can be killed between any two
//! writes of the coordinator.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::TxnOffsetCommitRequest;
use kafka_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::records::{Record as Shown, RecordBatchDecoder};
use tempfile::TempDir;

use super::super::disk::{Clock, group, partitions};
use crate::config::BrokerConfig;
use crate::damage::OnDamage;
use crate::groups::Groups;
use crate::journal::Journal;
use crate::log::testing::TestBatch;
use crate::log::{Isolation, PartitionLog};
use crate::node::Now;
use crate::topics::Topics;
use crate::transactions::participants::{LogsAndGroups, Participants, Written};
use crate::transactions::record::Record;
use crate::transactions::transaction::{Producer, State};
use crate::transactions::{Decisions, JOURNAL, Transactions};

const TOPIC: &str = "t";
const TIMEOUT_MS: i32 = 60_000;

/// How many writes the process has left; none: it lives.
type Left = Rc<Cell<Option<u32>>>;

/// Something written to until the process is killed.
struct Mortal<T> {
    inner: T,
    left: Left,
}

impl<T> Mortal<T> {
    fn step(&self) -> Result<(), ResponseError> {
        match self.left.get() {
            None => Ok(()),
            Some(0) => Err(ResponseError::KafkaStorageError),
            Some(left) => {
                self.left.set(Some(left - 1));
                Ok(())
            }
        }
    }
}

impl Decisions for Mortal<Journal<Record>> {
    fn append(&mut self, records: &[Record]) -> io::Result<()> {
        self.step().map_err(|_| io::Error::from(io::ErrorKind::StorageFull))?;
        self.inner.append(records)
    }

    fn is_worth_rewriting(&self, _: usize) -> bool {
        true
    }

    fn rewrite(&mut self, records: impl Iterator<Item = Record>) -> io::Result<()> {
        self.step().map_err(|_| io::Error::from(io::ErrorKind::StorageFull))?;
        self.inner.rewrite(records)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.step().map_err(|_| io::Error::from(io::ErrorKind::StorageFull))?;
        self.inner.sync()
    }
}

impl Participants for Mortal<LogsAndGroups<'_>> {
    fn write_marker(
        &mut self,
        topic: &str,
        partition: i32,
        producer: Producer,
        is_commit: bool,
        is_again: bool,
        now: Now,
    ) -> Result<(), ResponseError> {
        self.step()?;
        self.inner.write_marker(topic, partition, producer, is_commit, is_again, now)
    }

    fn end_offsets(&mut self, group: &str, producer_id: i64, is_commit: bool, now: Now) -> Result<(), ResponseError> {
        self.step()?;
        self.inner.end_offsets(group, producer_id, is_commit, now)
    }

    fn sync(&mut self) -> Result<(), ResponseError> {
        self.step()?;
        self.inner.sync()
    }

    fn producers(&self) -> Vec<Written> {
        self.inner.producers()
    }

    fn staged(&self) -> Vec<(String, i64)> {
        self.inner.staged()
    }
}

/// What the process has in memory.
struct Process {
    topics: Topics,
    groups: Groups,
    transactions: Transactions<Mortal<Journal<Record>>>,
}

impl Process {
    fn start(config: &BrokerConfig, folder: &TempDir, left: &Left, now: Now) -> Self {
        let mut topics = Topics::open(config).unwrap();
        let mut groups = Groups::open(config, now).unwrap();
        let (inner, records) = Journal::open(Some(&folder.path().join(JOURNAL)), OnDamage::CutTorn).unwrap();
        let mut transactions = Transactions::new(Mortal { inner, left: left.clone() }, records, config, now);
        let inner = LogsAndGroups { topics: &mut topics, groups: &mut groups };
        transactions.recover_with(&mut Mortal { inner, left: left.clone() }, now);
        Self { topics, groups, transactions }
    }
}

/// The folder and the process that works on it.
pub(super) struct World {
    folder: TempDir,
    config: BrokerConfig,
    clock: Clock,
    left: Left,
    /// None only while one is replaced by the next.
    process: Option<Process>,
    sequences: BTreeMap<(i64, i16, i32), i32>,
}

impl World {
    pub(super) fn new(partitions: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = BrokerConfig::at(folder.path());
        let (clock, left) = (Clock::new(), Left::default());
        let mut process = Process::start(&config, &folder, &left, clock.now());
        process.topics.create(TOPIC, i32::try_from(partitions).unwrap(), BTreeMap::new()).unwrap();
        Self { folder, config, clock, left, process: Some(process), sequences: BTreeMap::new() }
    }

    /// From here on the coordinator writes so often and no more.
    pub(super) fn kill_after(&mut self, writes: Option<u32>) {
        self.left.set(writes);
    }

    /// The process is gone, another one starts; killed in its recovery first, if that is asked for.
    pub(super) fn restart(&mut self, killed_in_recovery: Option<u32>) {
        for left in killed_in_recovery.map(Some).into_iter().chain([None]) {
            drop(self.process.take());
            self.left.set(left);
            self.process = Some(Process::start(&self.config, &self.folder, &self.left, self.clock.now()));
        }
    }

    fn process(&self) -> &Process {
        self.process.as_ref().unwrap()
    }

    fn parts(&mut self) -> (&mut Transactions<Mortal<Journal<Record>>>, Mortal<LogsAndGroups<'_>>) {
        let Process { topics, groups, transactions } = self.process.as_mut().unwrap();
        (transactions, Mortal { inner: LogsAndGroups { topics, groups }, left: self.left.clone() })
    }

    /// As a client: it asks again while an older transaction is being ended.
    pub(super) fn start(&mut self, id: &str) -> Result<Producer, ResponseError> {
        let now = self.clock.now();
        let (transactions, mut participants) = self.parts();
        let mut ask = || transactions.initialise_with(&mut participants, id, None, TIMEOUT_MS, now);
        ask().or_else(|error| if error == ResponseError::ConcurrentTransactions { ask() } else { Err(error) })
    }

    pub(super) fn write(
        &mut self,
        id: &str,
        producer: Producer,
        partition: i32,
        value: u32,
    ) -> Result<(), ResponseError> {
        let now = self.clock.now();
        let sequence = self.sequences.entry((producer.id, producer.epoch, partition)).or_default();
        let Process { topics, transactions, .. } = self.process.as_mut().unwrap();
        transactions.enlist(id, producer, &partitions([partition]), now)?;
        transactions.verify_partition(id, producer, TOPIC, partition, 9)?;
        let mut batch = TestBatch::of_producer(1, producer.id, producer.epoch, *sequence).transactional();
        batch.records = record(value, now);
        let (log, settings) = topics.partition_mut(TOPIC, partition)?;
        log.append(batch.build(), true, &settings, now)?;
        *sequence += 1;
        Ok(())
    }

    pub(super) fn write_plain(&mut self, partition: i32, value: u32) {
        let now = self.clock.now();
        let mut batch = TestBatch::new(&["v"], now.unix_ms);
        batch.records = record(value, now);
        let (log, settings) = self.process.as_mut().unwrap().topics.partition_mut(TOPIC, partition).unwrap();
        log.append(batch.build(), false, &settings, now).unwrap();
    }

    pub(super) fn stage(
        &mut self,
        id: &str,
        producer: Producer,
        to: &'static str,
        offset: i64,
    ) -> Result<(), ResponseError> {
        let now = self.clock.now();
        let Process { groups, transactions, .. } = self.process.as_mut().unwrap();
        transactions.enlist(id, producer, &group(to), now)?;
        transactions.verify_group(id, producer, to, 4)?;
        let partition = TxnOffsetCommitRequestPartition::default().with_committed_offset(offset);
        let topic = TxnOffsetCommitRequestTopic::default()
            .with_name(StrBytes::from_static_str(TOPIC).into())
            .with_partitions(vec![partition]);
        let request = TxnOffsetCommitRequest::default()
            .with_group_id(StrBytes::from_static_str(to).into())
            .with_producer_id(producer.id.into())
            .with_producer_epoch(producer.epoch)
            .with_topics(vec![topic]);
        let response = groups.stage(&request, &|_, _| true, now);
        assert_eq!(response.topics[0].partitions[0].error_code, 0);
        Ok(())
    }

    pub(super) fn end(&mut self, id: &str, producer: Producer, is_commit: bool) -> Result<(), ResponseError> {
        let now = self.clock.now();
        let (transactions, mut participants) = self.parts();
        transactions.end_with(&mut participants, id, producer, is_commit, now)
    }

    pub(super) fn pass(&mut self, seconds: u64) {
        self.clock.pass(Duration::from_secs(seconds));
        let now = self.clock.now();
        let (transactions, mut participants) = self.parts();
        transactions.tick_with(&mut participants, now);
    }

    pub(super) fn state(&self, id: &str) -> State {
        self.process().transactions.get(id).unwrap().state
    }

    /// What a reader that follows the protocol is shown, fetch by fetch.
    pub(super) fn shown(&self, partition: i32) -> Vec<u32> {
        let log = self.log(partition);
        let mut shown = Vec::new();
        let mut next = log.start_offset();
        loop {
            let read = log.read(next, 300, true, Isolation::ReadCommitted).unwrap();
            if read.records.is_empty() {
                return shown;
            }
            let mut aborted: Vec<(i64, i64)> = read.aborted;
            aborted.sort_by_key(|(_, first)| *first);
            let mut aborted = aborted.into_iter().peekable();
            let mut aborting = BTreeSet::new();
            for set in RecordBatchDecoder::decode_all(&mut read.records.clone()).unwrap() {
                for record in set.records {
                    while let Some((producer_id, _)) = aborted.next_if(|(_, first)| *first <= record.offset) {
                        aborting.insert(producer_id);
                    }
                    let is_new = record.offset >= next;
                    next = next.max(record.offset + 1);
                    if record.control {
                        aborting.remove(&record.producer_id);
                    } else if is_new && !(record.transactional && aborting.contains(&record.producer_id)) {
                        shown.push(value(&record));
                    }
                }
            }
        }
    }

    pub(super) fn committed(&self, group: &str) -> Option<i64> {
        let topics = self.process().groups.fetch_all(group, false);
        topics.iter().flat_map(|topic| &topic.partitions).map(|partition| partition.committed_offset).next()
    }

    /// No transaction is open in any log or group.
    pub(super) fn is_settled(&self) -> bool {
        let Process { topics, groups, .. } = self.process();
        let partitions = &topics.get(TOPIC).unwrap().partitions;
        partitions.iter().all(|log| log.stable_offset() == log.end_offset()) && groups.staged().is_empty()
    }

    fn log(&self, partition: i32) -> &PartitionLog {
        self.process().topics.partition(TOPIC, partition).unwrap()
    }
}

fn record(value: u32, now: Now) -> Vec<(Option<Bytes>, Option<Bytes>, i64)> {
    vec![(None, Some(Bytes::copy_from_slice(&value.to_be_bytes())), now.unix_ms)]
}

fn value(record: &Shown) -> u32 {
    u32::from_be_bytes(record.value.as_deref().unwrap().try_into().unwrap())
}
