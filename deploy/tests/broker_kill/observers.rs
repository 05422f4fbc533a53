//! Readers: those that watch all the while, a group that commits as it reads, and those that look at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use tidewatch_topic_io::{
    Disposition, GroupEvent, GroupOptions, GroupReader, KafkaConfig, OffsetCommit, PartitionReader, StartAt,
};

use crate::{Load, PARTITIONS, PATIENCE, PLAIN};

/// How long a question may wait; nothing is concluded from it.
const WAIT: Duration = Duration::from_millis(50);
/// Records between two commits of the group.
const COMMIT_EVERY: usize = 300;

/// A record: where it is, who wrote it, and which of his it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) producer: u32,
    pub(crate) number: u32,
    pub(crate) part: u32,
}

impl Seen {
    /// The bytes of a record, with so many to fill it up.
    pub(crate) fn payload(producer: u32, number: u32, part: u32, filling: usize) -> Vec<u8> {
        let mut bytes = [producer, number, part].map(u32::to_be_bytes).concat();
        bytes.extend((0..filling).map(|place| (place % 251) as u8));
        bytes
    }

    pub(crate) fn of(partition: i32, offset: i64, payload: &[u8]) -> Self {
        let word = |place: usize| u32::from_be_bytes(payload[4 * place..4 * place + 4].try_into().unwrap());
        Self { partition, offset, producer: word(0), number: word(1), part: word(2) }
    }
}

fn reader(kafka: &KafkaConfig, topic: &str, committed: bool) -> PartitionReader {
    let mut reader = PartitionReader::new(kafka, committed).unwrap();
    let all: Vec<_> = (0..PARTITIONS).map(|partition| (topic, partition, StartAt::Beginning)).collect();
    reader.assign(&all).unwrap();
    reader
}

fn sorted(mut seen: Vec<Seen>) -> Vec<Seen> {
    seen.sort_by_key(|seen| (seen.partition, seen.offset));
    seen
}

/// Reads what has come since the last time. What passes by itself, as a broker that is away, is passed over.
fn read_more(reader: &mut PartitionReader, seen: &mut Vec<Seen>) {
    match reader.read(10_000, WAIT) {
        Ok(batch) => seen.extend(batch.iter().map(|m| Seen::of(m.partition(), m.offset(), m.value().unwrap()))),
        Err(error) => assert_eq!(error.disposition(), Disposition::Retry, "{error}"),
    }
}

/// Everything that a topic holds now.
pub(crate) fn read_all(kafka: &KafkaConfig, topic: &str, committed: bool) -> Vec<Seen> {
    let mut reader = reader(kafka, topic, committed);
    let (mut seen, begun) = (Vec::new(), Instant::now());
    while !reader.is_at_end() {
        assert!(begun.elapsed() < PATIENCE, "the end of {topic} does not come");
        read_more(&mut reader, &mut seen);
    }
    sorted(seen)
}

/// Reads on through all kills until the load is over, and then to the end.
pub(crate) fn watch(load: &Load, topic: &str, committed: bool) -> Vec<Seen> {
    let mut reader = reader(&load.kafka, topic, committed);
    let mut seen = Vec::new();
    while !load.is_over.load(Relaxed) {
        read_more(&mut reader, &mut seen);
    }
    // The producers end later than that; who reads as much as there is has read all.
    let begun = Instant::now();
    loop {
        assert!(begun.elapsed() < 2 * PATIENCE, "{} records of {topic} seen", seen.len());
        read_more(&mut reader, &mut seen);
        if reader.is_at_end()
            && load.is_settled.load(Relaxed)
            && seen.len() >= read_all(&load.kafka, topic, committed).len()
        {
            return sorted(seen);
        }
    }
}

/// What a group's member did.
#[derive(Default)]
pub(crate) struct Followed {
    /// The last acknowledged commit of each partition.
    pub(crate) acknowledged: BTreeMap<i32, i64>,
    /// Everything that was tried to be committed.
    pub(crate) tried: BTreeSet<(i32, i64)>,
    /// How many commits were acknowledged.
    pub(crate) commits: usize,
}

/// A member of a group reads the plain topic through all kills and commits as it goes. Whenever it is given a partition, it is
/// given it where the last acknowledged commit left it, or at a later one whose answer was lost.
pub(crate) fn follow(load: &Load, group: &str) -> Followed {
    let mut followed = Followed::default();
    let mut reader = GroupReader::new(&load.kafka, group, &[PLAIN], GroupOptions::default()).unwrap();
    let mut since = 0;
    while !load.is_over.load(Relaxed) {
        match reader.serve_group(&mut |_, _, _| StartAt::Committed) {
            Ok(events) => check_starts(&followed, &events),
            Err(error) => assert_eq!(error.disposition(), Disposition::Retry, "{error}"),
        }
        match reader.read(COMMIT_EVERY, WAIT) {
            Ok(batch) => since += batch.len(),
            Err(error) => assert_eq!(error.disposition(), Disposition::Retry, "{error}"),
        }
        if since < COMMIT_EVERY {
            continue;
        }
        since = 0;
        let places: Vec<(i32, i64)> = reader.positions().map(|(_, partition, offset)| (partition, offset)).collect();
        followed.tried.extend(places.iter().copied());
        let offsets: Vec<_> = places
            .iter()
            .map(|&(partition, offset)| OffsetCommit { topic: PLAIN, partition, offset, metadata: "" })
            .collect();
        if reader.commit(&offsets).is_ok() {
            followed.acknowledged.extend(places);
            followed.commits += 1;
        }
    }
    followed
}

fn check_starts(followed: &Followed, events: &[GroupEvent]) {
    for event in events {
        let GroupEvent::Assigned(given) = event else { continue };
        for given in given {
            let Some(&acknowledged) = followed.acknowledged.get(&given.partition) else { continue };
            let offset = given.committed.as_ref().map(|committed| committed.offset);
            let is_known = offset.is_some_and(|offset| {
                offset == acknowledged || offset > acknowledged && followed.tried.contains(&(given.partition, offset))
            });
            assert!(is_known, "partition {} begins at {offset:?}, {acknowledged} was committed", given.partition);
        }
    }
}
