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
        compact(node, partition, plan).await;
    }
}

async fn compact(node: &NodeRef, (topic_id, partition): Partition, plan: Plan) {
    let cancelled = CancelOnDrop::default();
    let flag = Arc::clone(&cancelled.0);
    let outcome = tokio::task::spawn_blocking(move || run(&plan, &flag)).await;
    match outcome {
        Ok(Ok(compacted)) => apply(node, (topic_id, partition), compacted),
        // Its files went with it while they were read.
        Ok(Err(error)) if node.borrow().topics.by_id(topic_id).is_none() => {
            tracing::debug!(%topic_id, partition, %error, "a deleted topic is not compacted");
        }
        Ok(Err(error)) => tracing::error!(%topic_id, partition, %error, "cannot compact"),
        Err(error) => tracing::error!(%topic_id, partition, %error, "compaction failed"),
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::super::super::Isolation;
    use super::super::super::testing::TestBatch;
    use super::*;
    use crate::config::BrokerConfig;
    use crate::node::Node;

    fn node(config: BrokerConfig) -> NodeRef {
        Rc::new(Node::open(config, String::new(), String::new(), 0).unwrap().into())
    }

    fn fill(node: &NodeRef, name: &str, policy: &str) {
        let topics = &mut node.borrow_mut().topics;
        let overrides =
            [("cleanup.policy", policy), ("segment.bytes", "1048576"), ("min.cleanable.dirty.ratio", "0.1")];
        let overrides = overrides.map(|(key, value)| (key.to_owned(), value.to_owned()));
        topics.create(name, 2, overrides.into_iter().collect()).unwrap();
        let value = "x".repeat(50_000);
        for round in 0..100 {
            let (log, settings) = topics.partition_mut(name, 1).unwrap();
            let mut batch = TestBatch::new(&[&value], 1_000);
            batch.records[0].0 = Some(format!("key {}", round % 3).into());
            log.append(batch.build(), false, &settings, Now::read()).unwrap();
        }
    }

    fn size(node: &NodeRef, name: &str) -> u64 {
        node.borrow().topics.partition(name, 1).unwrap().size_bytes()
    }

    #[tokio::test]
    async fn the_compacted_topics_are_compacted_and_the_others_not() {
        let data = tempfile::tempdir().unwrap();
        for config in [BrokerConfig::in_memory(), BrokerConfig::at(data.path())] {
            let node = node(config);
            for (name, policy) in [("kept", "delete"), ("one", "compact"), ("two", "compact")] {
                fill(&node, name, policy);
            }
            let before = size(&node, "kept");
            compact_due(&node).await;
            assert_eq!(size(&node, "kept"), before);
            assert!(size(&node, "one") < before / 2 && size(&node, "two") < before / 2);
            assert!(dirtiest(&node, &BTreeSet::new()).is_none());
            let node = node.borrow();
            let log = node.topics.partition("two", 1).unwrap();
            assert_eq!((log.start_offset(), log.end_offset()), (0, 100));
            assert!(!log.read(0, 1 << 20, true, Isolation::ReadUncommitted).unwrap().records.is_empty());
        }
    }

    /// Counts what is told as an error.
    #[derive(Clone, Default)]
    struct Errors(Arc<AtomicUsize>);

    impl tracing::Subscriber for Errors {
        fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
            metadata.is_event() && *metadata.level() == tracing::Level::ERROR
        }
        fn event(&self, _: &tracing::Event<'_>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
        fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
            tracing::span::Id::from_u64(1)
        }
        fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
        fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
        fn enter(&self, _: &tracing::span::Id) {}
        fn exit(&self, _: &tracing::span::Id) {}
    }

    /// The files go with the topic, before or while they are read: nothing is broken, and nobody is alarmed.
    #[tokio::test]
    async fn a_topic_that_is_deleted_while_it_is_read_is_no_error() {
        let data = tempfile::tempdir().unwrap();
        let node = node(BrokerConfig::at(data.path()));
        let errors = Errors::default();
        let _subscribed = tracing::subscriber::set_default(errors.clone());
        for (is_deleted, expected) in [(true, 0), (false, 1)] {
            fill(&node, "gone", "compact");
            let (partition, plan) = dirtiest(&node, &BTreeSet::new()).unwrap();
            if is_deleted {
                node.borrow_mut().topics.delete("gone").unwrap();
            } else {
                std::fs::remove_dir_all(data.path().join("topics")).unwrap();
            }
            compact(&node, partition, plan).await;
            assert_eq!(errors.0.load(Ordering::Relaxed), expected, "is deleted: {is_deleted}");
        }
    }

    #[tokio::test]
    async fn a_topic_that_is_deleted_meanwhile_is_no_harm() {
        let node = node(BrokerConfig::in_memory());
        fill(&node, "gone", "compact");
        let (partition, plan) = dirtiest(&node, &BTreeSet::new()).unwrap();
        let compacted = run(&plan, &Arc::default()).unwrap();
        node.borrow_mut().topics.delete("gone").unwrap();
        fill(&node, "gone", "compact");
        let before = size(&node, "gone");
        apply(&node, partition, compacted);
        assert_eq!(size(&node, "gone"), before, "another topic of the same name");
    }
}
