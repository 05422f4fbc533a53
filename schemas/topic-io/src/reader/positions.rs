//! The partitions that a reader owns and the next offset of each.
//!
//! Invariant: [`accept`](Positions::accept) says yes to an offset once, in increasing order, and only for an owned partition.

use crate::batch::Message;

pub(super) struct Position {
    pub(super) topic: String,
    pub(super) partition: i32,
    pub(super) next_offset: i64,
    /// The end that was reported for the partition, if ends are reported.
    pub(super) end: Option<i64>,
}

#[derive(Default)]
pub(super) struct Positions {
    /// Sorted by topic and partition: few, and looked up once per run of messages.
    owned: Vec<Position>,
    /// The run in progress: topic id, partition, index. Topic ids are good for one batch.
    run: Option<(usize, i32, Option<usize>)>,
}

impl Positions {
    pub(super) fn insert(&mut self, topic: &str, partition: i32, next_offset: i64) {
        match self.find(topic, partition) {
            Ok(index) => self.owned[index].next_offset = next_offset,
            Err(index) => {
                let position = Position { topic: topic.to_owned(), partition, next_offset, end: None };
                self.owned.insert(index, position);
            }
        }
        self.run = None;
    }

    pub(super) fn remove(&mut self, topic: &str, partition: i32) {
        if let Ok(index) = self.find(topic, partition) {
            self.owned.remove(index);
        }
        self.run = None;
    }

    pub(super) fn clear(&mut self) {
        self.owned.clear();
        self.run = None;
    }

    pub(super) fn get(&self, topic: &str, partition: i32) -> Option<i64> {
        self.find(topic, partition).ok().map(|index| self.owned[index].next_offset)
    }

    pub(super) fn set_end(&mut self, topic: &str, partition: i32, end: i64) {
        if let Ok(index) = self.find(topic, partition) {
            self.owned[index].end = Some(end);
        }
    }

    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = &Position> {
        self.owned.iter()
    }

    /// To be called before the first message of a batch.
    pub(super) fn start_batch(&mut self) {
        self.run = None;
    }

    /// Whether this message is wanted; if so, its successor is wanted next.
    pub(super) fn accept(&mut self, message: Message<'_>) -> bool {
        let (topic_id, partition) = (message.topic_id(), message.partition());
        let index = match self.run {
            Some((run_topic, run_partition, index)) if run_topic == topic_id && run_partition == partition => index,
            _ => {
                let index = self.find(message.topic(), partition).ok();
                self.run = Some((topic_id, partition, index));
                index
            }
        };
        let Some(position) = index.and_then(|index| self.owned.get_mut(index)) else { return false };
        let wanted = message.offset() >= position.next_offset;
        if wanted {
            position.next_offset = message.offset() + 1;
        }
        wanted
    }

    fn find(&self, topic: &str, partition: i32) -> Result<usize, usize> {
        self.owned.binary_search_by(|position| (position.topic.as_str(), position.partition).cmp(&(topic, partition)))
    }
}
