//! Random histories of a log, held against a model that is a list of batches, and against damage to its files.

use std::fs;
use std::path::Path;

use proptest::prelude::*;

use super::super::codec::Codec;
use super::super::testing::{TestBatch, at, settings};
use super::super::*;
use crate::damage::OnDamage;
use crate::error::StartError;

/// One step.
#[derive(Clone, Debug)]
enum Step {
    /// Records with these timestamps and values of about this length, by a producer's next sequence or by none.
    Append {
        producer: Option<i64>,
        is_transactional: bool,
        timestamps: Vec<i64>,
        value_len: usize,
    },
    Marker {
        producer: i64,
        is_commit: bool,
    },
}

/// What the log must hold.
#[derive(Clone, Debug, Default)]
struct Model {
    batches: Vec<ModelBatch>,
}

#[derive(Clone, Debug)]
struct ModelBatch {
    bytes: Bytes,
    header: BatchHeader,
    timestamps: Vec<i64>,
}

impl Model {
    fn push(&mut self, read: Bytes, timestamps: Vec<i64>) {
        let header = BatchHeader::parse(&read).unwrap();
        self.batches.push(ModelBatch { bytes: read, header, timestamps });
    }

    fn end(&self) -> i64 {
        self.batches.last().map_or(0, |batch| batch.header.next_offset())
    }

    /// The batches of one read, found by going through all of them.
    fn read(&self, log: &PartitionLog, from: i64, bytes_max: usize, is_first_whole: bool, until: i64) -> Bytes {
        let mut records = Vec::new();
        let bases: Vec<i64> = log.segments.iter().map(|segment| segment.base_offset).collect();
        let segment_of = |offset: i64| bases.partition_point(|base| *base <= offset);
        let mut segment = None;
        for batch in self.batches.iter().filter(|batch| batch.header.last_offset() >= from) {
            let its_segment = segment_of(batch.header.base_offset);
            let is_first = segment.is_none();
            let fits = records.len() + batch.bytes.len() <= bytes_max || (is_first && is_first_whole);
            if batch.header.base_offset >= until || !fits || *segment.get_or_insert(its_segment) != its_segment {
                break;
            }
            records.extend_from_slice(&batch.bytes);
        }
        records.into()
    }

    fn offset_at_time(&self, timestamp_ms: i64) -> Option<(i64, i64)> {
        self.records().find(|(_, timestamp)| *timestamp >= timestamp_ms)
    }

    fn offset_of_max_timestamp(&self) -> Option<(i64, i64)> {
        let greatest = self.records().map(|(_, timestamp)| timestamp).max()?;
        self.offset_at_time(greatest)
    }

    fn records(&self) -> impl Iterator<Item = (i64, i64)> {
        self.batches.iter().flat_map(|batch| (batch.header.base_offset..).zip(batch.timestamps.iter().copied()))
    }
}

/// Carries out the steps and gives the model of what the log then holds.
fn play(log: &mut PartitionLog, steps: &[Step], segment_bytes: u64) -> Model {
    let settings = TopicSettings { segment_bytes, ..settings() };
    let mut model = Model::default();
    let mut sequences = std::collections::BTreeMap::new();
    for step in steps {
        let end = log.end_offset();
        let timestamps = match step {
            Step::Append { producer, is_transactional, timestamps, value_len } => {
                let value = "v".repeat(*value_len);
                let mut batch = TestBatch::new(&vec![value.as_str(); timestamps.len()], timestamps[0]);
                for (record, timestamp) in batch.records.iter_mut().zip(timestamps) {
                    record.2 = *timestamp;
                }
                batch.codec = if value_len.is_multiple_of(3) { Codec::Lz4 } else { Codec::None };
                if let Some(id) = producer {
                    let sequence: &mut i32 = sequences.entry(*id).or_default();
                    (batch.header.producer_id, batch.header.producer_epoch) = (*id, 0);
                    batch.header.base_sequence = *sequence;
                    let is_open =
                        log.producers().iter().any(|it| it.producer_id == *id && it.transaction_start.is_some());
                    if *is_transactional || is_open {
                        batch = batch.transactional();
                    }
                    *sequence += timestamps.len() as i32;
                }
                assert_eq!(log.append(batch.build(), true, &settings, at(0)).unwrap().base_offset, end);
                timestamps.clone()
            }
            Step::Marker { producer, is_commit } => {
                log.write_marker(*producer, 0, *is_commit, &settings, at(50)).unwrap();
                vec![50]
            }
        };
        let read = log.read(end, usize::MAX >> 1, true, Isolation::ReadUncommitted).unwrap();
        model.push(read.records, timestamps);
        assert_eq!(model.end(), log.end_offset());
    }
    model
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let append = (prop::option::of(0_i64..3), any::<bool>(), prop::collection::vec(0_i64..100, 1..5), 0_usize..60);
    let large = (Just(None), Just(false), prop::collection::vec(0_i64..100, 1..2), 14_000_usize..24_000);
    let append =
        prop_oneof![9 => append, 1 => large].prop_map(|(producer, is_transactional, timestamps, value_len)| {
            Step::Append { producer, is_transactional, timestamps, value_len }
        });
    let marker = (0_i64..3, any::<bool>()).prop_map(|(producer, is_commit)| Step::Marker { producer, is_commit });
    prop::collection::vec(prop_oneof![4 => append, 1 => marker], 1..60)
}

fn open(folder: &Path, repair: bool) -> Result<PartitionLog, StartError> {
    let on_damage = if repair { OnDamage::Cut } else { OnDamage::CutTorn };
    PartitionLog::open(Place::Folder(folder.to_owned()), 0, on_damage)
}

/// Everything that is known of producers, whenever it was learned.
fn producers(log: &mut PartitionLog) -> String {
    log.forget_idle_producers(i64::MAX, at(0));
    let known = format!("{:?}", log.producers);
    known.replace("written_ms: Some(50)", "written_ms: Some(0)")
}

/// The log holds what the model does, whichever way it is asked.
fn verify(log: &PartitionLog, model: &Model, lookups: &[(i64, usize, bool)]) {
    assert_eq!(log.end_offset(), model.end());
    for (from, bytes_max, is_first_whole) in lookups {
        let from = from.rem_euclid(model.end() + 1);
        for isolation in [Isolation::ReadUncommitted, Isolation::ReadCommitted] {
            let read = log.read(from, *bytes_max, *is_first_whole, isolation).unwrap();
            let expected = model.read(log, from, *bytes_max, *is_first_whole, log.bound(isolation));
            assert_eq!(read.records, expected, "{from} {bytes_max} {is_first_whole} {isolation:?}");
        }
    }
    for time in [-1, 0, 1, 30, 50, 51, 98, 99, 100] {
        assert_eq!(log.offset_at_time(time, Isolation::ReadUncommitted), Ok(model.offset_at_time(time)), "{time}");
    }
    assert_eq!(log.offset_of_max_timestamp(), Ok(model.offset_of_max_timestamp()));
}

/// The last file of a log.
fn last_file(folder: &Path) -> std::path::PathBuf {
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.pop().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn memory_a_folder_and_a_reopened_folder_are_the_same(
        steps in steps(),
        segment_bytes in prop_oneof![Just(1_u64 << 30), 25_000_u64..60_000],
        lookups in prop::collection::vec((any::<i64>(), prop_oneof![0_usize..300, 300_usize..40_000], any::<bool>()), 60),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let mut memory = PartitionLog::open(Place::Memory, 0, OnDamage::CutTorn).unwrap();
        let mut live = open(folder.path(), false).unwrap();
        let model = play(&mut memory, &steps, segment_bytes);
        play(&mut live, &steps, segment_bytes);
        let mut reopened = open(folder.path(), false).unwrap();
        for log in [&memory, &live, &reopened] {
            verify(log, &model, &lookups);
        }
        prop_assert_eq!(producers(&mut memory), producers(&mut live));
        prop_assert_eq!(producers(&mut live), producers(&mut reopened));
    }

    /// Cut anywhere in its last file, a log is what had been appended before the cut; and it goes on from there.
    #[test]
    fn a_cut_file_is_a_prefix(steps in steps(), segment_bytes in 25_000_u64..60_000, cut: prop::sample::Index) {
        let folder = tempfile::tempdir().unwrap();
        let mut live = open(folder.path(), false).unwrap();
        let mut model = play(&mut live, &steps, segment_bytes);
        let Some(last) = live.segments.last() else { return Ok(()) };
        let (base_offset, size) = (last.base_offset, last.size);
        let cut = cut.index(size as usize + 1) as u64;
        fs::OpenOptions::new().write(true).open(last_file(folder.path())).unwrap().set_len(cut).unwrap();
        let mut kept = 0;
        model.batches.retain(|batch| {
            kept += if batch.header.base_offset >= base_offset { batch.bytes.len() as u64 } else { 0 };
            kept <= cut
        });

        let mut reopened = open(folder.path(), false).unwrap();
        verify(&reopened, &model, &[(0, 1 << 20, true), (7, 100, true)]);
        let next = reopened.append(TestBatch::new(&["next"], 99).build(), true, &settings(), at(0)).unwrap().base_offset;
        prop_assert_eq!(next, model.end());
        let again = open(folder.path(), false).unwrap();
        prop_assert_eq!(again.end_offset(), next + 1);
        prop_assert_eq!(again.size_bytes(), reopened.size_bytes());
    }

    /// A changed byte is cut off if it is in the last batch, and refused with its file and place if it is before.
    #[test]
    fn a_changed_byte_is_found(
        steps in steps(),
        segment_bytes in 25_000_u64..60_000,
        place: prop::sample::Index,
        change in 1_u8..,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let model = play(&mut open(folder.path(), false).unwrap(), &steps, segment_bytes);
        prop_assume!(!model.batches.is_empty());
        let changed = place.index(model.batches.len());
        let log = open(folder.path(), false).unwrap();
        let batch = &model.batches[changed].header;
        let segment = &log.segments[log.segment_of(batch.base_offset)];
        let is_in_segment = |other: &&ModelBatch| {
            (segment.base_offset..batch.base_offset).contains(&other.header.base_offset)
        };
        let position: u64 = model.batches.iter().filter(is_in_segment).map(|other| other.bytes.len() as u64).sum();
        let path = segment.path().unwrap().to_owned();
        let mut bytes = fs::read(&path).unwrap();
        // Behind the base offset, the length and the leader epoch, which the checksum does not cover.
        let within = 16 + place.index(batch.size - 16);
        bytes[position as usize + within] ^= change;
        fs::write(&path, &bytes).unwrap();

        let is_last = changed + 1 == model.batches.len();
        match open(folder.path(), false) {
            Ok(_) => prop_assert!(is_last),
            Err(StartError::Corrupt { file, position: found, cut_bytes, lost, .. }) => {
                prop_assert!(!is_last);
                prop_assert_eq!((file, found), (path, position));
                let rest: usize = model.batches[changed..].iter().map(|batch| batch.bytes.len()).sum();
                prop_assert_eq!(cut_bytes, rest as u64);
                let (from, to) = (batch.base_offset, model.end() - 1);
                prop_assert!(lost.starts_with(&format!(", which loses offsets {from} to {to} of ")), "{}", lost);
            }
            Err(error) => prop_assert!(false, "{error}"),
        }
        let repaired = open(folder.path(), true).unwrap();
        let kept = Model { batches: model.batches[..changed].to_vec() };
        verify(&repaired, &kept, &[(0, 1 << 20, true)]);
        drop(repaired);
        verify(&open(folder.path(), false).unwrap(), &kept, &[(0, 1 << 20, true)]);
    }

    /// Whatever is in the folder, opening it does not panic; once repaired it opens, takes an append and reads back.
    #[test]
    fn any_files_are_survived(
        files in prop::collection::vec((0_i64..30, prop::collection::vec(any::<u8>(), 0..200), 0_usize..4), 0..4),
        start_offset in 0_i64..20,
    ) {
        let folder = tempfile::tempdir().unwrap();
        for (base_offset, garbage, good) in &files {
            let name = match garbage.len() % 7 {
                0 => format!("{base_offset:020}.log.new"),
                1 => format!("{base_offset:020}-{:020}.swap", base_offset + 3),
                2 => format!("{base_offset}.log"),
                _ => segment::file_name(*base_offset),
            };
            let mut bytes = Vec::new();
            for offset in *base_offset..*base_offset + *good as i64 {
                bytes.extend_from_slice(&TestBatch::new(&["a"], 0).build_with(|header| header.base_offset = offset));
            }
            bytes.extend_from_slice(garbage);
            fs::write(folder.path().join(name), bytes).unwrap();
        }
        let place = || Place::Folder(folder.path().to_owned());
        let _ = PartitionLog::open(place(), start_offset, OnDamage::CutTorn);
        let mut log = PartitionLog::open(place(), start_offset, OnDamage::Cut).unwrap();
        let end = log.end_offset();
        prop_assert!(log.start_offset() >= start_offset && end >= log.start_offset());
        log.append(TestBatch::new(&["a"], 0).build(), false, &settings(), at(0)).unwrap();
        let log = PartitionLog::open(place(), start_offset, OnDamage::CutTorn).unwrap();
        prop_assert_eq!(log.end_offset(), end + 1);
        let read = log.read(end, 1 << 20, true, Isolation::ReadUncommitted).unwrap();
        prop_assert_eq!(BatchHeader::parse(&read.records).unwrap().base_offset, end);
    }
}
