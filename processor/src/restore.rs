//! How an input partition's engine comes back: its last snapshot, then the input from there to the committed offset.
//!
//! The metadata of a committed offset names the input offset R of the last complete snapshot round, how many partitions the topic
//! had, and what the clock decided since (a silent partition's event time went on). The engine is read from the state topic as
//! it was at R, whatever a later round has written there already; reading starts at R; and what the input between R and the committed offset leads to is not written, because it is
//! committed already. The engine is deterministic, so this is exact. The ledger's last record is read from its topic and must end at
//! the committed offset. Both topics are read when every transaction that has written to them is settled.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidewatch_processor_core::state::StateKey;
use tidewatch_processor_core::{Engine, StreamConfig};
use tidewatch_schemas::record::{Ledger, State};
use tidewatch_schemas::{Record, entity, wire};
use tidewatch_topic_io::{Admin, KafkaConfig, PartitionReader, StartAt};

use crate::{ProcessorError, metrics};

/// Records of one read of the state or ledger topic, and how long it may wait.
const READ_MAX: usize = 10_000;
const READ_WAIT: Duration = Duration::from_millis(100);

/// What the metadata of a committed offset says: `snapshot=4711;partitions=6;idle=4720@1736121600000`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CommitNote {
    /// Input offset of the last snapshot; or, before the first one, of the first record ever taken in.
    pub(crate) read_from: i64,
    /// Whether there is a snapshot.
    pub(crate) is_snapshot: bool,
    /// Partitions that the input topic had.
    pub(crate) partitions: i32,
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
        let mut text = format!("{what}={};partitions={}", self.read_from, self.partitions);
        for (at, IdleAdvance { offset, time }) in self.idle.iter().enumerate() {
            let lead = if at == 0 { ";idle=" } else { "," };
            text.push_str(&format!("{lead}{offset}@{time}"));
        }
        text
    }

    pub(crate) fn parse(metadata: &str) -> Option<Self> {
        let (metadata, idle) = metadata.split_once(";idle=").unwrap_or((metadata, ""));
        let (what, partitions) = metadata.split_once(";partitions=")?;
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
        Some(Self { read_from: read_from.parse().ok()?, is_snapshot, partitions: partitions.parse().ok()?, idle })
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
    /// What the clock decided between the two.
    pub(crate) idle: Vec<IdleAdvance>,
}

/// Makes the engine of an input partition as of `begin.read_from` out of its state records.
pub(crate) fn restore(
    config: &Arc<StreamConfig>,
    partition: i32,
    begin: &Beginning,
    records: Vec<(u8, State)>,
) -> Result<Engine, ProcessorError> {
    // Without a snapshot the input is read again from the first record that was ever taken in.
    let round = begin.is_snapshot.then_some(begin.read_from);
    let engine = Engine::restore(config.clone(), partition, round, records)?;
    metrics::restored(&config.topic, partition, engine.entities(), begin.read_from, begin.write_from);
    Ok(engine)
}

/// The state of input partitions: the records of each stream and partition, and the slots that they are in.
pub(crate) type StateRecords = BTreeMap<(String, i32), Vec<(u8, State)>>;

/// Reads the latest committed records of these partitions of the state topic, all partitions at once.
pub(crate) fn read_state(
    kafka: &KafkaConfig,
    topic: &str,
    group_id: &str,
    partitions: &BTreeSet<i32>,
) -> Result<StateRecords, ProcessorError> {
    let broken = |topic, partition, offset, problem| ProcessorError::StateRecord { topic, partition, offset, problem };
    let mut records = StateRecords::new();
    for ((partition, key), state) in read_latest::<State>(kafka, topic, group_id, partitions, broken)? {
        let slot = u8::from(key.ends_with(SLOT_1.as_bytes()));
        records.entry((state.stream.clone(), partition)).or_default().push((slot, state));
    }
    Ok(records)
}

/// Reads the group's last committed record of each stream in these partitions of the ledger topic.
pub(crate) fn read_ledgers(
    kafka: &KafkaConfig,
    topic: &str,
    group_id: &str,
    partitions: &BTreeSet<i32>,
) -> Result<BTreeMap<(String, i32), Ledger>, ProcessorError> {
    let broken = |topic, partition, offset, problem| ProcessorError::LedgerRecord { topic, partition, offset, problem };
    let latest = read_latest::<Ledger>(kafka, topic, group_id, partitions, broken)?;
    Ok(latest.into_iter().map(|((partition, _), ledger)| ((ledger.stream.clone(), partition), ledger)).collect())
}

/// By partition and key, so that what is complained of first does not hang on a hash map's order.
type Latest<R> = BTreeMap<(i32, Vec<u8>), R>;

/// Reads the latest committed records of the group in these partitions of a compacted topic, all partitions at once, after every
/// transaction that has written to them is settled. A record that cannot be read counts for as long as it is the last of its key, so
/// that the answer does not hang on what compaction has come to.
fn read_latest<R: Record>(
    kafka: &KafkaConfig,
    topic: &str,
    group_id: &str,
    partitions: &BTreeSet<i32>,
    broken: impl Fn(String, i32, i64, String) -> ProcessorError,
) -> Result<Latest<R>, ProcessorError> {
    let started = Instant::now();
    let mut reader = PartitionReader::new(kafka, true)?;
    reader.wait_until_settled(&Admin::connect(kafka)?, topic, |partition| partitions.contains(&partition))?;
    let ours = format!("{}/", entity::join(&[group_id]));
    let whole: Vec<_> = partitions.iter().map(|&partition| (topic, partition, StartAt::Beginning)).collect();
    reader.assign(&whole)?;
    let (mut latest, mut unread) = (Latest::new(), BTreeMap::new());
    while !reader.is_at_end() {
        for message in reader.read(READ_MAX, READ_WAIT)?.iter() {
            let Some(key) = message.key().filter(|key| key.starts_with(ours.as_bytes())) else { continue };
            let place = (message.partition(), key.to_vec());
            unread.remove(&place);
            match message.value().map(wire::decode::<R>) {
                None => drop(latest.remove(&place)),
                Some(Ok(record)) => drop(latest.insert(place, record)),
                Some(Err(error)) => drop(unread.insert(place, (message.offset(), error.to_string()))),
            }
        }
    }
    if let Some(((partition, _), (offset, problem))) = unread.into_iter().next() {
        return Err(broken(topic.into(), partition, offset, problem));
    }
    metrics::state_read(topic, latest.len(), partitions.len(), started.elapsed());
    Ok(latest)
}

/// What replaces what in the state topic: two slots for each entity, and for the partition's own state, which has no entity. The group
/// comes first: each has a state of its own.
pub(crate) fn state_key(group_id: &str, stream: &str, place: &StateKey) -> String {
    let mut key = entity::join(&[group_id, stream]).into_owned();
    if let Some(entity) = &place.entity {
        key.push('/');
        key.push_str(entity);
    }
    if place.slot == 1 {
        key.push_str(SLOT_1);
    }
    key
}

/// The end of the key of what is in the second slot. In the names before it a `%` is written `%25`, so that it ends no other key.
const SLOT_1: &str = "%1";

/// The key of a partition's last ledger record.
pub(crate) fn ledger_key(ledger: &Ledger) -> String {
    entity::join(&[&ledger.group, &ledger.stream, &ledger.partition.to_string()]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_has_a_key_of_its_own() {
        let entities = [None, Some("a/b"), Some("a/b%251"), Some("a%2F%251"), Some("")];
        let places = entities
            .into_iter()
            .flat_map(|entity| [0, 1].map(|slot| StateKey { entity: entity.map(Into::into), slot }));
        let keys: BTreeSet<String> = places.map(|place| state_key("g/h", "s%1", &place)).collect();
        assert_eq!(keys.len(), 2 * entities.len());
        assert!(keys.contains("g%2Fh/s%251/a/b%1") && keys.contains("g%2Fh/s%251%1"), "{keys:?}");
    }

    #[test]
    fn the_note_of_a_commit_is_read_back_and_nothing_else_is() {
        let idle: Vec<IdleAdvance> = (0..3).map(|n| IdleAdvance { offset: 42 + n, time: 1_000 * n }).collect();
        for (is_snapshot, idle) in [(false, vec![]), (true, vec![]), (true, idle[..1].to_vec()), (true, idle)] {
            let note = CommitNote { read_from: 42, is_snapshot, partitions: 6, idle };
            assert_eq!(CommitNote::parse(&note.to_metadata()), Some(note));
        }
        let others = [
            "",
            "snapshot=",
            "snapshot=x;partitions=1",
            "end=1;partitions=1",
            "snapshot=1;partitions=1;idle=1",
            "by hand",
        ];
        for other in others {
            assert_eq!(CommitNote::parse(other), None, "{other}");
        }
    }
}
