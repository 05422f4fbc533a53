//! What an output holds: the claims and the files that they name, as a reader finds them.
//!
//! Invariant: nothing is changed, and nothing is taken for stored whose files are not all there in full. The cost is one read for
//! each claim and one look at each file.

use std::collections::BTreeMap;

use super::kind::TopicKind;
use super::shelf::{Shelf, StorageError};
use super::{DeliveryError, REJECTED_FOLDER};
use crate::config::DeliveryConfig;

/// Records of a topic in an output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// In files that are there in full.
    pub records: u64,
    /// Of these, records that could not be read and were kept raw.
    pub rejected: u64,
    /// Stored once, in files that somebody has removed since.
    pub removed: u64,
}

/// What the output holds of each topic that is stored there; `None` if there is no such output yet.
///
/// # Errors
/// An output that cannot be read, or a claim of another version.
pub fn stored(config: &DeliveryConfig) -> Result<Option<BTreeMap<TopicKind, Held>>, DeliveryError> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(DeliveryError::Runtime)?;
    let Some(shelf) = Shelf::look(&config.output, config.retry)? else { return Ok(None) };
    let mut held = BTreeMap::new();
    for topic in &config.topics {
        held.insert(topic.kind, runtime.block_on(of_topic(&shelf, &topic.name))?);
    }
    Ok(Some(held))
}

/// What a shelf holds of a topic.
pub(crate) async fn of_topic(shelf: &Shelf, topic: &str) -> Result<Held, StorageError> {
    let mut held = Held::default();
    for partition in shelf.claimed_partitions(topic).await? {
        let claims = shelf.claims(topic, partition).await?;
        let newest = claims.last().map(|claim| claim.first_offset);
        for claim in &claims {
            if shelf.is_complete(claim).await? {
                let is_rejected = |path: &str| path.split('/').next() == Some(REJECTED_FOLDER);
                held.records += claim.records;
                held.rejected +=
                    claim.files.iter().filter(|file| is_rejected(&file.path)).map(|file| file.rows).sum::<u64>();
            } else if newest != Some(claim.first_offset) {
                // Only the newest claim can be unfinished, see the module above.
                held.removed += claim.records;
            }
        }
    }
    Ok(held)
}
