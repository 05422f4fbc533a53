//! Compacts the logs that are due, one after the other, while the broker goes on.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use uuid::Uuid;

use super::{Compacted, Plan, plan, run};
use crate::node::{NodeRef, Now};

/// The broker's compaction: at most one log at a time.
#[derive(Debug, Default)]
pub(crate) struct Compaction {
    is_running: Rc<Cell<bool>>,
}

/// A topic and one of its partitions.
type Partition = (Uuid, i32);

impl Compaction {
    /// Compacts every log that is due, once, as a task of the present `LocalSet`, unless the last call's is still at work.
    /// Ends with that set, within the time that one batch takes.
    pub(crate) fn start(&self, node: &NodeRef) {
        if self.is_running.replace(true) {
            return;
        }
        let (is_running, node) = (Rc::clone(&self.is_running), Rc::clone(node));
        tokio::task::spawn_local(async move {
            compact_due(&node).await;
            is_running.set(false);
        });
    }
}

async fn compact_due(node: &NodeRef) {
    let mut seen = BTreeSet::new();
    while let Some((partition, plan)) = dirtiest(node, &seen) {
        seen.insert(partition);
        let cancelled = CancelOnDrop::default();
        let flag = Arc::clone(&cancelled.0);
        let outcome = tokio::task::spawn_blocking(move || run(&plan, &flag)).await;
        match outcome {
            Ok(Ok(compacted)) => apply(node, partition, compacted),
            Ok(Err(error)) => {
                tracing::error!(topic_id = %partition.0, partition = partition.1, %error, "cannot compact")
            }
            Err(error) => {
                tracing::error!(topic_id = %partition.0, partition = partition.1, %error, "compaction failed")
            }
        }
    }
}

/// The plan for the log that is due and most of which is new, of those that were not seen yet.
fn dirtiest(node: &NodeRef, seen: &BTreeSet<Partition>) -> Option<(Partition, Plan)> {
    let (node, now) = (node.borrow(), Now::read());
    let compacted = node.topics.iter().filter(|topic| topic.settings.cleanup_policy.is_compact);
    let logs = compacted.flat_map(|topic| {
        let numbered = (0..).zip(&topic.partitions);
        numbered.map(|(partition, log)| ((topic.id, partition), log, &topic.settings))
    });
    let due = logs.filter(|(partition, ..)| !seen.contains(partition));
    let due = due.filter_map(|(partition, log, settings)| Some((partition, plan(log, settings, now)?)));
    due.max_by(|(_, one), (_, other)| one.dirty_ratio.total_cmp(&other.dirty_ratio))
}

fn apply(node: &NodeRef, (topic_id, partition): Partition, mut compacted: Compacted) {
    let topics = &mut node.borrow_mut().topics;
    let Some(topic) = topics.by_id(topic_id).map(|topic| topic.name.clone()) else {
        // Deleted in the meantime, its folder too.
        return compacted.discard();
    };
    let (bytes_before, bytes_after) = compacted.bytes;
    let outcome = topics.partition_mut(&topic, partition).and_then(|(log, _)| compacted.apply(log));
    match outcome {
        Ok(()) => tracing::debug!(topic, partition, bytes_before, bytes_after, "compacted"),
        // The log has told why.
        Err(error) => tracing::error!(topic, partition, ?error, "cannot put compacted segments in place"),
    }
}

/// Ends the run of a task that is dropped.
#[derive(Debug, Default)]
struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
