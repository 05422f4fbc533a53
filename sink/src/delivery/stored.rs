//! What an output holds: the claims and the files that they name, as a reader finds them.
//!
//! Invariant: nothing is changed, and nothing is taken for stored whose files are not all there in full. What the group has
//! committed is asked for before, so that a claim below it was finished before any file is looked at: whatever is missing of it was
//! there once. The cost is one read for each claim, one look at each file, and a path in memory for each.

use std::collections::{BTreeMap, BTreeSet};

use super::claim::Claim;
use super::kind::TopicKind;
use super::shelf::{Shelf, StorageError};
use super::{ALERT_LINES_FOLDER, DeliveryError, REJECTED_FOLDER};
use crate::config::DeliveryConfig;

/// Some files of an output.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files {
    /// How many.
    pub number: u64,
    /// The first of them, under the output.
    pub first: String,
}

impl Files {
    fn add(&mut self, path: &str) {
        if self.number == 0 {
            path.clone_into(&mut self.first);
        }
        self.number += 1;
    }
}

/// Records of a topic in an output.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// In files that are there in full.
    pub records: u64,
    /// Of these, records that could not be read and were kept raw.
    pub rejected: u64,
    /// Stored once, in files that are gone or cut short.
    pub removed: u64,
    /// Files that were there once and are not any more.
    pub missing: Files,
    /// Files that were there in full once and have another size now.
    pub cut_short: Files,
    /// Partitions of which the group has committed more than is claimed here, with the two offsets: an earlier output holds it, or
    /// its claims were removed.
    pub unclaimed: Vec<(i32, i64, i64)>,
}

/// What an output holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// Whether there is such an output.
    pub is_there: bool,
    /// By what the records are, each topic that is stored there.
    pub topics: BTreeMap<TopicKind, Held>,
    /// Files among the data that no claim names: whoever reads the folder reads them too.
    pub strays: Files,
}

/// What the group has committed of each topic, by partition.
pub type CommittedOffsets = BTreeMap<String, Vec<Option<i64>>>;

/// What the output holds, given what the group had committed before.
///
/// # Errors
/// An output that cannot be read, or a claim of another version.
pub fn stored(config: &DeliveryConfig, committed: &CommittedOffsets) -> Result<Stored, DeliveryError> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(DeliveryError::Runtime)?;
    let topics = config.topics.iter().map(|topic| (topic.name.as_str(), topic.kind));
    let shelf = Shelf::look(&config.output, config.retry)?;
    let stored = runtime.block_on(on_shelf(shelf.as_ref(), topics.collect(), committed))?;
    Ok(stored)
}

/// What a shelf holds of these topics; without a shelf, what is missed of them.
pub(crate) async fn on_shelf(
    shelf: Option<&Shelf>,
    topics: BTreeMap<&str, TopicKind>,
    committed: &CommittedOffsets,
) -> Result<Stored, StorageError> {
    let mut stored = Stored { is_there: shelf.is_some(), ..Stored::default() };
    // Before the claims: a file is claimed before it is put.
    let files = match shelf {
        Some(shelf) => shelf.data_files().await?,
        None => Vec::new(),
    };
    let mut claimed = BTreeSet::new();
    let mut others = match shelf {
        Some(shelf) => shelf.claimed_topics().await?,
        None => BTreeSet::new(),
    };
    for (topic, kind) in topics {
        others.remove(topic);
        let committed = committed.get(topic).map(Vec::as_slice).unwrap_or_default();
        let held = of_topic(shelf, topic, committed, &mut claimed).await?;
        stored.topics.insert(kind, held);
    }
    if let Some(shelf) = shelf {
        for topic in &others {
            for partition in shelf.claimed_partitions(topic).await? {
                let claims = shelf.claims(topic, partition).await?;
                claimed.extend(claims.into_iter().flat_map(|claim| claim.files).map(|file| file.path));
            }
        }
    }
    files.iter().filter(|path| !claimed.contains(*path)).for_each(|path| stored.strays.add(path));
    Ok(stored)
}

async fn of_topic(
    shelf: Option<&Shelf>,
    topic: &str,
    committed: &[Option<i64>],
    claimed: &mut BTreeSet<String>,
) -> Result<Held, StorageError> {
    let mut held = Held::default();
    let committed: BTreeMap<i32, i64> =
        (0..).zip(committed).filter_map(|(partition, committed)| Some((partition, (*committed)?))).collect();
    let mut partitions: BTreeSet<i32> = committed.keys().copied().collect();
    if let Some(shelf) = shelf {
        partitions.extend(shelf.claimed_partitions(topic).await?);
    }
    for partition in partitions {
        let claims = match shelf {
            Some(shelf) => shelf.claims(topic, partition).await?,
            None => Vec::new(),
        };
        let committed = committed.get(&partition).copied().unwrap_or(0);
        let behind = claims.last().map_or(0, |claim| claim.last_offset + 1);
        if committed > behind {
            held.unclaimed.push((partition, behind, committed));
        }
        let newest = claims.last().map(|claim| claim.first_offset);
        for claim in claims {
            // Only the newest claim can be unfinished, see the module above, and not once the group has committed it.
            let is_finished = newest != Some(claim.first_offset) || committed > claim.last_offset;
            if let Some(shelf) = shelf {
                held.take(shelf, &claim, is_finished).await?;
            }
            claimed.extend(claim.files.into_iter().map(|file| file.path));
        }
    }
    Ok(held)
}

impl Held {
    async fn take(&mut self, shelf: &Shelf, claim: &Claim, is_finished: bool) -> Result<(), StorageError> {
        if !is_finished && !shelf.is_complete(claim).await? {
            return Ok(());
        }
        for file in &claim.files {
            let folder = file.path.split('/').next();
            // The alerts' lines are the alerts of their Parquet file once more.
            let rows = if folder == Some(ALERT_LINES_FOLDER) { 0 } else { file.rows };
            let found = shelf.size(&file.path.as_str().into()).await?;
            if found == Some(file.bytes) {
                self.records += rows;
                self.rejected += if folder == Some(REJECTED_FOLDER) { rows } else { 0 };
                continue;
            }
            self.removed += rows;
            if found.is_none() { self.missing.add(&file.path) } else { self.cut_short.add(&file.path) }
        }
        Ok(())
    }
}
