//! Opening all topics: the journal says which, and every partition's log is read on as many threads as there are cores.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use super::record::{Described, Replayed};
use super::settings::TopicSettings;
use super::{Topic, Topics, folder};
use crate::config::{BrokerConfig, Storage};
use crate::damage::OnDamage;
use crate::durable;
use crate::error::StartError;
use crate::journal::Journal;
use crate::log::{PartitionLog, Place};

/// The journal, in the data folder.
const JOURNAL: &str = "topics.journal";

impl Topics {
    /// Opens the journal and the logs of all partitions. What a killed creation or deletion left behind is removed.
    ///
    /// # Errors
    /// A journal or a log that is corrupt or cannot be read; of several, the first by topic and partition.
    pub(crate) fn open(config: &BrokerConfig) -> Result<Self, StartError> {
        let defaults = TopicSettings::default()
            .with(&config.topic_defaults)
            .map_err(|error| StartError::Setting { problem: error.to_string() })?;
        let data = match &config.storage {
            Storage::Memory => None,
            Storage::Folder(data) => Some(data.as_path()),
        };
        let journal_path = data.map(|data| data.join(JOURNAL));
        if let Some(data) = data {
            let topics = data.join(folder::TOPICS);
            fs::create_dir_all(&topics).map_err(|source| StartError::File {
                action: "make",
                path: topics.clone(),
                source,
            })?;
        }
        let (journal, records) = Journal::open(journal_path.as_deref(), OnDamage::of(config))?;
        let replayed = Replayed::new(records);
        if let Some(data) = data {
            let alive = replayed.topics.iter().map(|(id, topic)| (*id, topic.partitions)).collect();
            folder::tidy(data, &alive, &replayed.deleted)?;
        }
        let folder = data.map(|data| data.join(folder::TOPICS));
        if let Some(folder) = &folder {
            // A killed broker may have made any of them and not synced that.
            let of_topics = replayed.topics.iter().map(|(id, topic)| folder::of_topic(folder, &topic.name, *id));
            for made in data.map(Path::to_owned).into_iter().chain([folder.clone()]).chain(of_topics) {
                match durable::sync(&made) {
                    Err(source) if source.kind() != io::ErrorKind::NotFound => {
                        return Err(StartError::File { action: "sync", path: made, source });
                    }
                    _ => {}
                }
            }
        }
        let topics = open_logs(replayed.topics.into_values().collect(), &defaults, folder.as_deref(), config)?;
        Ok(Self {
            ids: topics.iter().map(|topic| (topic.id, topic.name.clone())).collect::<HashMap<_, _>>(),
            partitions: topics.iter().map(|topic| topic.partitions.len()).sum(),
            topics: topics.into_iter().map(|topic| (topic.name.clone(), topic)).collect::<BTreeMap<_, _>>(),
            journal,
            folder,
            defaults,
            default_partitions: config.default_partitions,
            partitions_max: config.limits.partitions_max,
            decompressed_bytes_max: config.limits.decompressed_bytes_max,
            producer_idle_ms_max: i64::try_from(config.producer_id_expiration.as_millis()).unwrap_or(i64::MAX),
        })
    }
}

/// One log to open.
struct Task {
    place: Place,
    start_offset: i64,
}

fn open_logs(
    mut described: Vec<Described>,
    defaults: &TopicSettings,
    folder: Option<&Path>,
    config: &BrokerConfig,
) -> Result<Vec<Topic>, StartError> {
    described.sort_by(|a, b| a.name.cmp(&b.name));
    let tasks: Vec<Task> = described.iter().flat_map(|topic| tasks(topic, folder)).collect();
    let mut logs = in_parallel(&tasks, config)?.into_iter();
    Ok(described
        .into_iter()
        .map(|topic| Topic {
            // They were checked when they were set; only new defaults could now contradict them, and then the defaults hold.
            settings: Arc::new(defaults.with(&topic.overrides).unwrap_or_else(|_| defaults.clone())),
            partitions: logs.by_ref().take(topic.partitions as usize).collect(),
            id: topic.id,
            name: topic.name,
            overrides: topic.overrides,
        })
        .collect())
}

fn tasks(topic: &Described, folder: Option<&Path>) -> impl Iterator<Item = Task> {
    let folder = folder.map(|folder| folder::of_topic(folder, &topic.name, topic.id));
    (0..topic.partitions).map(move |partition| Task {
        place: place(folder.as_ref(), partition),
        start_offset: topic.starts.get(&partition).copied().unwrap_or(0),
    })
}

/// Where a partition is, given its topic's folder.
pub(crate) fn place(topic_folder: Option<&PathBuf>, partition: u32) -> Place {
    topic_folder.map_or(Place::Memory, |folder| Place::Folder(folder.join(partition.to_string())))
}

/// Opens the logs on all cores and gives them in order, or the error of the first that has one.
fn in_parallel(tasks: &[Task], config: &BrokerConfig) -> Result<Vec<PartitionLog>, StartError> {
    let (next, on_damage) = (AtomicUsize::new(0), OnDamage::of(config));
    let opened = Mutex::new(BTreeMap::new());
    let work = || {
        while let Some((index, task)) =
            Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|i| Some((i, tasks.get(i)?)))
        {
            let log = PartitionLog::open(task.place.clone(), task.start_offset, on_damage);
            let log = log.map(|log| log.with_decompressed_bytes_max(config.limits.decompressed_bytes_max));
            opened.lock().unwrap_or_else(PoisonError::into_inner).insert(index, log);
        }
    };
    let threads = thread::available_parallelism().map_or(1, NonZero::get).min(tasks.len());
    thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(work);
        }
        work();
    });
    opened.into_inner().unwrap_or_else(PoisonError::into_inner).into_values().collect()
}
