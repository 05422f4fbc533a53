//! Topics against a model: random histories of changes, restarts, and kills between the steps of a change.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;

use kafka_protocol::ResponseError;
use proptest::prelude::*;
use tempfile::TempDir;
use tokio::sync::Notify;
use uuid::Uuid;

use super::{Overrides, Topics, folder, id};
use crate::config::BrokerConfig;
use crate::error::StartError;
use crate::log::testing::{TestBatch, at};

const NAMES: [&str; 4] = ["a", "a.b", "a_b", "c"];
const PARTITIONS_MAX: usize = 12;

fn config(data: Option<&Path>) -> BrokerConfig {
    let mut config = data.map_or_else(BrokerConfig::in_memory, BrokerConfig::at);
    config.limits.partitions_max = PARTITIONS_MAX;
    config.default_partitions = 2;
    config
}

fn overrides(of: &[(&str, &str)]) -> Overrides {
    of.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// Everything about the topics that a client can see.
type View = BTreeMap<String, (Uuid, Overrides, Vec<(i64, i64)>)>;

fn view(topics: &Topics) -> View {
    let shown = topics.iter().map(|topic| {
        let offsets = topic.partitions.iter().map(|log| (log.start_offset(), log.end_offset())).collect();
        assert_eq!(topics.by_id(topic.id).map(|topic| &topic.name), Some(&topic.name));
        (topic.name.clone(), (topic.id, topic.overrides.clone(), offsets))
    });
    let view: View = shown.collect();
    assert_eq!(topics.partitions, view.values().map(|(_, _, offsets)| offsets.len()).sum::<usize>());
    assert_eq!(topics.ids.len(), view.len());
    view
}

/// The folders of topics in a data folder, and those set aside.
fn folders(data: &Path) -> (usize, usize) {
    let count = |name| fs::read_dir(data.join(name)).map_or(0, Iterator::count);
    (count(folder::TOPICS), count(folder::LOST))
}

fn append(topics: &mut Topics, name: &str, partition: i32) {
    let (log, settings) = topics.partition_mut(name, partition).unwrap();
    log.append(TestBatch::new(&["x", "y"], 1_000).build(), false, &settings, at(1_000)).unwrap();
}

#[derive(Clone, Debug)]
enum Step {
    Create(usize, i32, bool),
    Delete(usize),
    AddPartitions(usize, i32),
    Alter(usize, Option<i64>),
    Append(usize, i32),
    DeleteRecords(usize, i32, i64),
    Rewrite,
    Reopen,
    /// The process is killed in the last change, after the folders were made or before they were removed.
    Kill,
}

fn step() -> impl Strategy<Value = Step> {
    let (name, partition) = (0..NAMES.len(), -1..5_i32);
    prop_oneof![
        3 => (name.clone(), -2..5_i32, any::<bool>()).prop_map(|(name, count, set)| Step::Create(name, count, set)),
        1 => name.clone().prop_map(Step::Delete),
        1 => (name.clone(), -1..8_i32).prop_map(|(name, count)| Step::AddPartitions(name, count)),
        1 => (name.clone(), prop::option::of(-2..9_i64)).prop_map(|(name, ms)| Step::Alter(name, ms)),
        4 => (name.clone(), partition.clone()).prop_map(|(name, partition)| Step::Append(name, partition)),
        2 => (name, partition, -2..9_i64).prop_map(|(name, p, before)| Step::DeleteRecords(name, p, before)),
        1 => Just(Step::Rewrite),
        1 => Just(Step::Reopen),
        1 => Just(Step::Kill),
    ]
}

/// What Kafka would say to a step, and the view after it.
fn expect(model: &View, step: &Step) -> Result<View, ResponseError> {
    let mut after = model.clone();
    match *step {
        Step::Create(name, count, set) => {
            let (name, count) = (NAMES[name], if count == -1 { 2 } else { count });
            let collides = |other: &str| model.contains_key(other) && other.replace('.', "_") == name.replace('.', "_");
            if model.contains_key(name) {
                return Err(ResponseError::TopicAlreadyExists);
            }
            if NAMES.iter().any(|other| collides(other)) {
                return Err(ResponseError::InvalidTopicException);
            }
            if count <= 0 {
                return Err(ResponseError::InvalidPartitions);
            }
            check_room(model, count)?;
            let set = if set { overrides(&[("retention.ms", "5")]) } else { Overrides::new() };
            after.insert(name.to_owned(), (Uuid::nil(), set, vec![(0, 0); count as usize]));
        }
        Step::Delete(name) => {
            after.remove(NAMES[name]).ok_or(ResponseError::UnknownTopicOrPartition)?;
        }
        Step::AddPartitions(name, count) => {
            let (_, _, offsets) = after.get_mut(NAMES[name]).ok_or(ResponseError::UnknownTopicOrPartition)?;
            let more = count - offsets.len() as i32;
            if more <= 0 {
                return Err(ResponseError::InvalidPartitions);
            }
            check_room(model, more)?;
            offsets.resize(count as usize, (0, 0));
        }
        Step::Alter(name, ms) => {
            if ms.is_some_and(|ms| ms < -1) {
                return Err(ResponseError::InvalidConfig);
            }
            let (_, overrides, _) = after.get_mut(NAMES[name]).ok_or(ResponseError::UnknownTopicOrPartition)?;
            *overrides = ms.map(|ms| ("retention.ms".to_owned(), ms.to_string())).into_iter().collect();
        }
        Step::Append(name, partition) => offsets_mut(&mut after, name, partition)?.1 += 2,
        Step::DeleteRecords(name, partition, before) => {
            let (start, end) = offsets_mut(&mut after, name, partition)?;
            let before = if before == -1 { *end } else { before };
            if !(0..=*end).contains(&before) {
                return Err(ResponseError::OffsetOutOfRange);
            }
            *start = before.max(*start);
        }
        Step::Rewrite | Step::Reopen | Step::Kill => {}
    }
    Ok(after)
}

fn check_room(model: &View, more: i32) -> Result<(), ResponseError> {
    let open: usize = model.values().map(|(_, _, offsets)| offsets.len()).sum();
    if open + more as usize > PARTITIONS_MAX { Err(ResponseError::PolicyViolation) } else { Ok(()) }
}

fn offsets_mut(view: &mut View, name: usize, partition: i32) -> Result<&mut (i64, i64), ResponseError> {
    let offsets = view.get_mut(NAMES[name]).map(|(_, _, offsets)| offsets);
    let offsets = offsets.and_then(|offsets| offsets.get_mut(usize::try_from(partition).ok()?));
    offsets.ok_or(ResponseError::UnknownTopicOrPartition)
}

fn carry_out(topics: &mut Topics, step: &Step) -> Result<(), ResponseError> {
    match *step {
        Step::Create(name, count, set) => {
            let set = if set { overrides(&[("retention.ms", "5")]) } else { Overrides::new() };
            topics.create(NAMES[name], count, set)?;
        }
        Step::Delete(name) => topics.delete(NAMES[name])?,
        Step::AddPartitions(name, count) => topics.add_partitions(NAMES[name], count)?,
        Step::Alter(name, ms) => {
            let set = ms.map(|ms| ("retention.ms".to_owned(), ms.to_string()));
            topics.alter(NAMES[name], set.into_iter().collect())?;
        }
        Step::Append(name, partition) => {
            topics.partition_mut(NAMES[name], partition)?;
            append(topics, NAMES[name], partition);
        }
        Step::DeleteRecords(name, partition, before) => {
            topics.delete_records(NAMES[name], partition, before)?;
        }
        Step::Rewrite => {
            let described: Vec<_> = topics.iter().map(super::Topic::describe).collect();
            topics.journal.rewrite(described.into_iter().flat_map(super::Described::records)).unwrap();
        }
        Step::Reopen | Step::Kill => {}
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to.join(entry.file_name())),
            false => drop(fs::copy(entry.path(), to.join(entry.file_name())).unwrap()),
        }
    }
}

/// The state in which a kill between the folders and the journal leaves a change: either the journal is the old one and the
/// folders have what is new, or the journal is the new one and the folders still have what is old.
fn interrupt(before: &Path, after: &Path) {
    let is_deletion = folders(after).0 < folders(before).0;
    if is_deletion {
        copy(&before.join(folder::TOPICS), &after.join(folder::TOPICS));
    } else {
        fs::copy(before.join("topics.journal"), after.join("topics.journal")).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_history_is_the_models(steps in prop::collection::vec(step(), 1..40), is_on_disk in any::<bool>()) {
        let data = TempDir::new().unwrap();
        let before = TempDir::new().unwrap();
        let config = config(is_on_disk.then(|| data.path()));
        let mut topics = Topics::open(&config).unwrap();
        let mut model = View::new();
        for (at, step) in steps.iter().enumerate() {
            let is_killed_in_it = is_on_disk
                && matches!(steps.get(at + 1), Some(Step::Kill))
                && matches!(step, Step::Create(..) | Step::Delete(..) | Step::AddPartitions(..));
            if is_killed_in_it {
                fs::remove_dir_all(before.path()).unwrap();
                copy(data.path(), before.path());
            }
            let outcome = carry_out(&mut topics, step);
            match expect(&model, step) {
                Err(error) => prop_assert_eq!(outcome, Err(error)),
                Ok(mut expected) => {
                    prop_assert_eq!(outcome, Ok(()));
                    for (name, (id, _, _)) in &mut expected {
                        // An id is new with each creation and stays.
                        let known = model.get(name).map(|(id, _, _)| *id).filter(|_| !matches!(step, Step::Create(..)));
                        *id = known.unwrap_or_else(|| topics.get(name).map_or(*id, |topic| topic.id));
                    }
                    let is_deletion = matches!(step, Step::Delete(_));
                    if is_killed_in_it {
                        drop(topics);
                        interrupt(before.path(), data.path());
                        topics = Topics::open(&config).unwrap();
                        model = if is_deletion { expected } else { model };
                    } else {
                        model = expected;
                    }
                }
            }
            if is_on_disk && matches!(step, Step::Reopen) {
                drop(topics);
                topics = Topics::open(&config).unwrap();
            }
            prop_assert_eq!(&view(&topics), &model);
        }
        if is_on_disk {
            drop(topics);
            topics = Topics::open(&config).unwrap();
            prop_assert_eq!(&view(&topics), &model);
            prop_assert_eq!(folders(data.path()), (model.len(), 0), "no folder is left over, none was set aside");
        }
    }
}

#[test]
fn a_topic_that_is_made_anew_begins_anew() {
    let data = TempDir::new().unwrap();
    let mut topics = Topics::open(&config(Some(data.path()))).unwrap();
    topics.create("a", 1, overrides(&[("retention.ms", "5")])).unwrap();
    append(&mut topics, "a", 0);
    topics.delete_records("a", 0, 1).unwrap();
    let first = view(&topics);
    topics.delete("a").unwrap();
    topics.create("a", 1, Overrides::new()).unwrap();
    let second = view(&topics);
    assert_ne!(first["a"].0, second["a"].0);
    assert_eq!((&second["a"].1, &second["a"].2), (&Overrides::new(), &vec![(0, 0)]));
    drop(topics);
    assert_eq!(view(&Topics::open(&config(Some(data.path()))).unwrap()), second);
}

#[test]
fn whoever_waits_for_records_of_a_deleted_topic_is_woken() {
    let mut topics = Topics::open(&config(None)).unwrap();
    topics.create("a", 1, Overrides::new()).unwrap();
    let waker = Arc::new(Notify::new());
    topics.partition_mut("a", 0).unwrap().0.wake_when_changed(&waker);
    assert!(!pin!(waker.notified()).enable());
    topics.delete("a").unwrap();
    assert!(pin!(waker.notified()).enable());
}

#[test]
fn records_that_no_journal_names_are_set_aside_and_nothing_else_is() {
    let data = TempDir::new().unwrap();
    let config = config(Some(data.path()));
    let mut topics = Topics::open(&config).unwrap();
    let journal = data.path().join("topics.journal");
    topics.create("a", 1, Overrides::new()).unwrap();
    topics.create("empty", 1, Overrides::new()).unwrap();
    append(&mut topics, "a", 0);
    let is_known = view(&topics);
    drop(topics);
    // As after a power loss or a repair: the journal has nothing of them.
    let kept = fs::read(&journal).unwrap();
    fs::remove_file(&journal).unwrap();
    for count in 1..3 {
        let topics = Topics::open(&config).unwrap();
        assert!(view(&topics).is_empty());
        assert_eq!(folders(data.path()), (0, count), "the one that has records is kept, under a name of its own");
        drop(topics);
        let lost = data.path().join(folder::LOST);
        let first = folder::of_topic(&lost, "a", is_known["a"].0);
        assert!(first.join("0/00000000000000000000.log").exists());
        let again = folder::of_topic(&data.path().join(folder::TOPICS), "a", is_known["a"].0);
        copy(&first, &again);
    }
    // Put back, with its journal, it is the topic again.
    fs::write(&journal, kept).unwrap();
    let topics = Topics::open(&config).unwrap();
    assert_eq!(view(&topics), is_known);
}

#[test]
fn partitions_that_the_journal_does_not_name_are_put_away() {
    let data = TempDir::new().unwrap();
    let config = config(Some(data.path()));
    let mut topics = Topics::open(&config).unwrap();
    let id = topics.create("a", 1, Overrides::new()).unwrap().id;
    let known = view(&topics);
    drop(topics);
    let topic = folder::of_topic(&data.path().join(folder::TOPICS), "a", id);
    fs::create_dir(topic.join("1")).unwrap();
    fs::create_dir(topic.join("2")).unwrap();
    fs::write(topic.join("2/00000000000000000000.log"), "x").unwrap();
    let mut topics = Topics::open(&config).unwrap();
    assert_eq!(view(&topics), known);
    assert_eq!((topic.join("1").exists(), topic.join("2").exists()), (false, false));
    assert!(data.path().join(folder::LOST).join("2").exists());
    topics.add_partitions("a", 3).unwrap();
    assert_eq!(view(&topics)["a"].2, [(0, 0); 3]);
}

#[test]
fn the_longest_name_has_a_folder() {
    let data = TempDir::new().unwrap();
    let config = config(Some(data.path()));
    let mut topics = Topics::open(&config).unwrap();
    // They differ after the part that their folders have.
    let names = ["y", "z"].map(|end| "x".repeat(248) + end);
    for name in &names {
        topics.create(name, 1, Overrides::new()).unwrap();
    }
    append(&mut topics, &names[0], 0);
    let known = view(&topics);
    drop(topics);
    assert_eq!(view(&Topics::open(&config).unwrap()), known);
    for entry in fs::read_dir(data.path().join(folder::TOPICS)).unwrap() {
        assert_eq!(entry.unwrap().file_name().len(), 200 + 1 + id::TEXT_LENGTH);
    }
}

#[test]
fn what_cannot_be_is_refused() {
    let mut topics = Topics::open(&config(None)).unwrap();
    for (name, count, set, error) in [
        ("a/b", 1, &[][..], ResponseError::InvalidTopicException),
        ("__consumer_offsets", 1, &[], ResponseError::InvalidRequest),
        ("a", 0, &[], ResponseError::InvalidPartitions),
        ("a", 13, &[], ResponseError::PolicyViolation),
        ("a", i32::MAX, &[], ResponseError::PolicyViolation),
        ("a", 1, &[("nope", "1")], ResponseError::InvalidConfig),
    ] {
        assert_eq!(
            topics.create(name, count, overrides(set)).err().map(|refused| refused.error),
            Some(error),
            "{name}"
        );
    }
    topics.create("compacted", 1, overrides(&[("cleanup.policy", "compact")])).unwrap();
    assert_eq!(topics.delete_records("compacted", 0, -1), Err(ResponseError::PolicyViolation));
    assert_eq!(
        topics.check_settings("a", &Overrides::new()).unwrap_err().error,
        ResponseError::UnknownTopicOrPartition
    );
}

#[test]
fn a_failing_disk_leaves_topics_as_they_were() {
    let data = TempDir::new().unwrap();
    let config = config(Some(data.path()));
    let mut topics = Topics::open(&config).unwrap();
    topics.create("a", 1, Overrides::new()).unwrap();
    let known = view(&topics);
    // A file in the place of the folder: nothing can be made in it.
    let folder = data.path().join(folder::TOPICS);
    fs::rename(&folder, data.path().join("away")).unwrap();
    fs::write(&folder, "").unwrap();
    assert_eq!(topics.create("b", 1, Overrides::new()).err().unwrap().error, ResponseError::KafkaStorageError);
    assert_eq!(topics.add_partitions("a", 2).err().unwrap().error, ResponseError::KafkaStorageError);
    assert_eq!(view(&topics), known);
    fs::remove_file(&folder).unwrap();
    fs::rename(data.path().join("away"), &folder).unwrap();
    topics.create("b", 1, Overrides::new()).unwrap();
}

#[test]
fn defaults_of_the_broker_hold_where_a_topic_sets_nothing() {
    let mut config = config(None);
    config.topic_defaults = overrides(&[("retention.ms", "5"), ("min.compaction.lag.ms", "9")]);
    let mut topics = Topics::open(&config).unwrap();
    topics.create("a", 1, Overrides::new()).unwrap();
    topics.create("c", 1, overrides(&[("retention.ms", "7")])).unwrap();
    assert_eq!(topics.get("a").unwrap().settings.retention_ms, Some(5));
    assert_eq!(topics.get("c").unwrap().settings.retention_ms, Some(7));
    let refused = topics.check_settings("a", &overrides(&[("max.compaction.lag.ms", "8")])).unwrap_err();
    assert_eq!(refused.error, ResponseError::InvalidConfig);
    config.topic_defaults = overrides(&[("retention", "5")]);
    let error = Topics::open(&config).err().unwrap();
    assert!(matches!(error, StartError::Setting { .. }));
    assert_eq!(error.to_string(), "a default setting of topics cannot be used: Unknown topic config name: retention");
}

#[test]
fn what_is_written_is_taken_to_be_synced_once() {
    let data = TempDir::new().unwrap();
    let mut topics = Topics::open(&config(Some(data.path()))).unwrap();
    topics.create("a", 1, Overrides::new()).unwrap();
    append(&mut topics, "a", 0);
    assert!(topics.take_dirty().len() >= 3, "the folders, the journal, the segment");
    assert_eq!(topics.take_dirty().len(), 0);
    append(&mut topics, "a", 0);
    assert_eq!(topics.take_dirty().len(), 1);
}

#[test]
fn maintenance_applies_retention_and_rewrites_the_journal() {
    let data = TempDir::new().unwrap();
    let mut topics = Topics::open(&config(Some(data.path()))).unwrap();
    topics.create("a", 1, overrides(&[("retention.ms", "10")])).unwrap();
    append(&mut topics, "a", 0);
    topics.maintain(at(1_005));
    assert_eq!(view(&topics)["a"].2, [(0, 2)]);
    topics.maintain(at(1_100));
    assert_eq!(view(&topics)["a"].2, [(2, 2)]);
    for ms in 0..5_000 {
        topics.alter("a", overrides(&[("retention.ms", &ms.to_string())])).unwrap();
    }
    let journal = data.path().join("topics.journal");
    let grown = fs::metadata(&journal).unwrap().len();
    topics.maintain(at(1_100));
    assert!(fs::metadata(&journal).unwrap().len() * 100 < grown);
    let known = view(&topics);
    drop(topics);
    assert_eq!(view(&Topics::open(&config(Some(data.path()))).unwrap()), known);
}
