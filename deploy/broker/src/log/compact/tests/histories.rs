//! Random histories against a naive model: plain and transactional records of several producers, tombstones, compactions,
//! restarts.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

const PRODUCERS: usize = 3;
/// How much larger values and segments are where batches are to be larger than what is read at a time.
const LARGE: usize = 200;

#[derive(Clone, Debug)]
enum Step {
    /// One batch, of a producer with a transaction if it has one open.
    Append {
        producer: Option<usize>,
        records: Vec<Change>,
        codec: Codec,
    },
    Begin {
        producer: usize,
    },
    End {
        producer: usize,
        is_commit: bool,
    },
    Wait {
        ms: i64,
    },
    Forget,
    Restart,
    Compact {
        keys_max: usize,
    },
}

/// A key, and its new value; no value: a tombstone.
type Change = (u8, Option<u8>);

fn steps() -> impl Strategy<Value = Step> {
    let codec = prop::sample::select(vec![Codec::None, Codec::Lz4, Codec::Gzip]);
    let producer = 0..PRODUCERS;
    let records = prop::collection::vec((0..6_u8, prop::option::weighted(0.7, any::<u8>())), 1..5);
    prop_oneof![
        10 => (prop::option::weighted(0.7, producer.clone()), records, codec)
            .prop_map(|(producer, records, codec)| Step::Append { producer, records, codec }),
        4 => producer.clone().prop_map(|producer| Step::Begin { producer }),
        4 => (producer, any::<bool>()).prop_map(|(producer, is_commit)| Step::End { producer, is_commit }),
        2 => (0..150_i64).prop_map(|ms| Step::Wait { ms }),
        1 => Just(Step::Forget),
        1 => Just(Step::Restart),
        3 => prop_oneof![3 => Just(KEYS_MAX), 1 => 1..6_usize].prop_map(|keys_max| Step::Compact { keys_max }),
    ]
}

/// A log and what should be in it.
struct Run {
    log: PartitionLog,
    /// `None`: in memory.
    folder: Option<tempfile::TempDir>,
    /// 1 or [`LARGE`].
    scale: usize,
    now_ms: i64,
    sequences: [i32; PRODUCERS],
    /// Offsets of each producer's open transaction.
    open: [Option<Vec<i64>>; PRODUCERS],
    /// Every record that is not aborted, by its offset.
    written: BTreeMap<i64, Seen>,
}

impl Run {
    fn new(is_in_memory: bool, scale: usize) -> Self {
        let folder = (!is_in_memory).then(|| tempfile::tempdir().unwrap());
        let log = Self::open(folder.as_ref());
        Self {
            log,
            folder,
            scale,
            now_ms: 1_000,
            sequences: [0; PRODUCERS],
            open: Default::default(),
            written: BTreeMap::new(),
        }
    }

    fn open(folder: Option<&tempfile::TempDir>) -> PartitionLog {
        folder.map_or_else(memory, |path| super::folder(path.path()))
    }

    fn settings(&self) -> TopicSettings {
        let small = super::compacted();
        TopicSettings { segment_bytes: small.segment_bytes * self.scale as u64, ..small }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Append { producer, records, codec } => self.append(*producer, records, *codec),
            Step::Begin { producer } => {
                self.open[*producer].get_or_insert_default();
            }
            Step::End { producer, is_commit } => self.end(*producer, *is_commit),
            Step::Wait { ms } => self.now_ms += ms,
            Step::Forget => {
                self.log.forget_idle_producers(0, at(i64::MAX));
                for producer in (0..PRODUCERS).filter(|producer| self.open[*producer].is_none()) {
                    self.sequences[producer] = 0;
                }
            }
            Step::Restart => self.restart(),
            Step::Compact { keys_max } => self.compact(*keys_max),
        }
    }

    fn append(&mut self, producer: Option<usize>, records: &[Change], codec: Codec) {
        let mut batch = keyed(&vec![("", None); records.len()], self.now_ms).compressed(codec);
        for (to, (key, value)) in batch.records.iter_mut().zip(records) {
            to.0 = Some(format!("key {key}").into());
            to.1 = value.map(|value| format!("a value that takes some room: {value}").repeat(self.scale).into());
        }
        if let Some(producer) = producer {
            batch.header.producer_id = producer as i64;
            batch.header.producer_epoch = 0;
            batch.header.base_sequence = self.sequences[producer];
            self.sequences[producer] += records.len() as i32;
            if self.open[producer].is_some() {
                batch = batch.transactional();
            }
        }
        let now = at(self.now_ms);
        let base_offset = self.log.append(batch.build(), true, &self.settings(), now).unwrap().base_offset;
        for (offset, (key, value, timestamp)) in (base_offset..).zip(batch.records) {
            self.written.insert(offset, (text(key.as_deref()), text(value.as_deref()), timestamp));
            if let Some(open) = producer.and_then(|producer| self.open[producer].as_mut()) {
                open.push(offset);
            }
        }
    }

    fn end(&mut self, producer: usize, is_commit: bool) {
        let Some(offsets) = self.open[producer].take() else { return };
        self.log.write_marker(producer as i64, 0, is_commit, &self.settings(), at(self.now_ms)).unwrap();
        // Of one that was forgotten it is all that is known: as in Kafka it begins anew.
        if sequences(&self.log).get(&(producer as i64)).is_some_and(|(_, last_sequence)| *last_sequence == -1) {
            self.sequences[producer] = 0;
        }
        if !is_commit {
            offsets.iter().for_each(|offset| drop(self.written.remove(offset)));
        }
    }

    /// A new log of the same files; in memory nothing is left to open.
    fn restart(&mut self) {
        if self.folder.is_none() {
            return;
        }
        let known = sequences(&self.log);
        let before = (self.log.start_offset(), self.log.stable_offset(), self.log.end_offset(), all_batches(&self.log));
        self.log = Self::open(self.folder.as_ref());
        let after = (self.log.start_offset(), self.log.stable_offset(), self.log.end_offset(), all_batches(&self.log));
        assert!(after == before);
        let found = sequences(&self.log);
        // The log remembers who was forgotten, also what such a one wrote before the marker from which it is known anew.
        let is_found = |(id, known): (&i64, &(i16, i32))| known.1 == -1 || found.get(id) == Some(known);
        assert!(known.iter().all(is_found), "{known:?}, then {found:?}");
        for (producer, (_, last_sequence)) in found {
            self.sequences[producer as usize] = last_sequence + 1;
        }
        self.verify();
    }

    fn compact(&mut self, keys_max: usize) {
        let known = sequences(&self.log);
        let offsets = (self.log.start_offset(), self.log.stable_offset(), self.log.end_offset());
        let aborted_before = self.log.producers.aborted().count();
        if let Some(mut plan) = plan(&self.log, &self.settings(), at(self.now_ms)) {
            plan.limits.keys_max = keys_max;
            run(&plan, &Arc::default()).unwrap().apply(&mut self.log).unwrap();
            assert!(self.log.clean_until > plan.clean_until, "each run gets somewhere");
        }
        assert_eq!((self.log.start_offset(), self.log.stable_offset(), self.log.end_offset()), offsets);
        assert_eq!(sequences(&self.log), known);
        assert!(self.log.producers.aborted().count() <= aborted_before);
        self.verify();
        self.verify_clean();

        // Nothing more to do, even if all of it is looked at again.
        let (clean_until, settings) = (self.log.clean_until, self.settings());
        if clean_until > 0 && keys_max == KEYS_MAX {
            compact_anew(&mut self.log, &settings, self.now_ms);
            let before = all_batches(&self.log);
            compact_anew(&mut self.log, &settings, self.now_ms);
            assert!(all_batches(&self.log) == before);
            self.log.set_clean_until(clean_until);
        }
    }

    /// A reader of committed records sees nothing but what was written, and of each key the last value.
    fn verify(&self) {
        let stable_offset = self.log.stable_offset();
        let written = || self.written.range(..stable_offset);
        for bytes_max in [1, 300, 1 << 20] {
            let seen = committed(&self.log, bytes_max);
            for (offset, record) in &seen {
                assert_eq!(self.written.get(offset), Some(record), "at {offset}");
            }
            assert_eq!(last_values(seen.iter()), last_values(written()));
        }
    }

    /// What has been compacted holds each key once, nothing that was aborted, and no tombstone beyond its time.
    fn verify_clean(&self) {
        let mut keys = BTreeSet::new();
        for (header, payload) in all_batches(&self.log) {
            if header.next_offset() > self.log.clean_until || header.is_control() {
                continue;
            }
            for (offset, (key, _, _)) in records(&header, &payload) {
                assert!(self.written.contains_key(&offset), "the record at {offset} was aborted");
                assert!(keys.insert(key), "a key twice, at {offset}");
            }
        }
    }
}

/// The epoch and last sequence of each producer.
fn sequences(log: &PartitionLog) -> BTreeMap<i64, (i16, i32)> {
    let producers = log.producers().into_iter();
    producers.map(|producer| (producer.producer_id, (producer.producer_epoch, producer.last_sequence))).collect()
}

/// The last value of each key, and where it stands; keys without one left out.
fn last_values<'a>(records: impl Iterator<Item = (&'a i64, &'a Seen)>) -> BTreeMap<String, (i64, String)> {
    let mut last = BTreeMap::new();
    for (offset, (key, value, _)) in records {
        let key = key.clone().unwrap();
        match value {
            Some(value) => drop(last.insert(key, (*offset, value.clone()))),
            None => drop(last.remove(&key)),
        }
    }
    last
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn readers_see_the_same_before_and_after(steps in prop::collection::vec(steps(), 1..120), is_in_memory in prop::bool::weighted(0.85), is_large in prop::bool::weighted(0.2)) {
        let mut run = Run::new(is_in_memory, if is_large { LARGE } else { 1 });
        for step in &steps {
            run.step(step);
        }
        // In the end everything is decided, in sealed segments, and compacted until tombstones and markers are gone.
        for producer in 0..PRODUCERS {
            run.end(producer, producer % 2 == 0);
        }
        let (large, settings) = ("x".repeat(300 * run.scale), run.settings());
        for _ in 0..2 {
            let seal = keyed(&[("seal", Some(&large))], 0).build();
            let base_offset = run.log.append(seal, true, &settings, at(0)).unwrap().base_offset;
            run.written.insert(base_offset, (Some("seal".to_owned()), Some(large.clone()), 0));
        }
        run.compact(KEYS_MAX);
        run.restart();
        run.now_ms += 1_000;
        run.log.clean_until = 0;
        run.compact(KEYS_MAX);
        run.now_ms += 1_000;
        run.log.clean_until = 0;
        run.compact(KEYS_MAX);
        let clean_until = run.log.clean_until;
        let batches = all_batches(&run.log).into_iter().filter(|(header, _)| header.next_offset() <= clean_until);
        let tombstones = batches.flat_map(|(header, payload)| records(&header, &payload)).filter(|(_, seen)| seen.1.is_none());
        let tombstones = tombstones.filter(|(_, (key, _, _))| key.is_some()).count();
        prop_assert_eq!(tombstones, 0);
        run.restart();
    }
}
