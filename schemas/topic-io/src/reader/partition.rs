//! Given partitions, read from a start to their end without joining a group: state to restore, a topic to look at.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::{Message as _, Offset, TopicPartitionList};

use super::positions::Positions;
use super::{StartAt, open_consumer, poll, read_error};
use crate::admin::{Admin, PartitionOffsets};
use crate::batch::{Batch, BatchQueue};
use crate::config::{KafkaConfig, ReaderRole};
use crate::context::ConsumerEvents;
use crate::error::{self, KafkaError};
use crate::metrics;

/// Bound of what is fetched ahead, in KiB.
const PREFETCH_KBYTES: u32 = 16 * 1024;
/// How long an unsettled transaction is waited for, and between two looks: longer than any of ours stands open.
const SETTLE_MAX: Duration = Duration::from_secs(90);
const SETTLE_PAUSE: Duration = Duration::from_millis(20);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// A reader of partitions that it is given. It commits nothing.
pub struct PartitionReader {
    // The queue goes first when this is dropped: its messages belong to the client.
    queue: BatchQueue,
    consumer: Arc<BaseConsumer<ConsumerEvents>>,
    positions: Positions,
    pending: Vec<KafkaError>,
}

impl PartitionReader {
    /// Makes the client; nothing is read before [`assign`](Self::assign). The client wants a group's name though it joins
    /// none: it gets `client_id`.
    ///
    /// # Errors
    /// A setting that the client does not accept.
    pub fn new(config: &KafkaConfig, read_committed: bool) -> Result<Self, KafkaError> {
        let properties = config.reader_properties(&ReaderRole {
            group_id: &config.client_id,
            instance_id: None,
            read_committed,
            prefetch_kbytes_total: PREFETCH_KBYTES,
            report_end: true,
        })?;
        let consumer = Arc::new(open_consumer(config, &properties)?);
        consumer.context().close(); // there are no rebalances to serve
        let queue = BatchQueue::new(Arc::clone(&consumer));
        Ok(Self { queue, consumer, positions: Positions::default(), pending: Vec::new() })
    }

    /// Reads these partitions from now on, and no others. `StartAt::Committed` is the beginning here.
    ///
    /// # Errors
    /// A partition that there is not, or no answer in time.
    pub fn assign(&mut self, partitions: &[(&str, i32, StartAt)]) -> Result<(), KafkaError> {
        self.consumer.unassign().map_err(|error| KafkaError::client("assigning partitions", &error))?;
        self.positions.clear();
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for (topic, partition, start) in partitions {
            let offset = match start {
                StartAt::Offset(offset) => *offset,
                StartAt::Beginning | StartAt::Committed => self.watermarks(topic, *partition)?.0,
                StartAt::End => self.watermarks(topic, *partition)?.1,
            };
            let added = list.add_partition_offset(topic, *partition, Offset::Offset(offset));
            added.map_err(|error| KafkaError::client("assigning a partition", &error))?;
            self.queue.forward(topic, *partition);
            self.positions.insert(topic, *partition, offset);
        }
        self.consumer.assign(&list).map_err(|error| KafkaError::client("assigning partitions", &error))
    }

    /// Reads up to `max` messages, waiting up to `timeout` for the first.
    ///
    /// # Errors
    /// What came in place of a message: lost records, a deleted topic, a lost right. Passing trouble is not an error.
    pub fn read(&mut self, max: usize, timeout: Duration) -> Result<Batch<'_>, KafkaError> {
        if let Some(error) = self.pending.pop() {
            return Err(error);
        }
        self.serve()?;
        let (mut errors, positions) = (Vec::new(), &mut self.positions);
        positions.start_batch();
        self.queue.fill(max, timeout, &mut errors, |message| positions.accept(message));
        for error in errors {
            if error.code == Code::PartitionEOF {
                self.positions.set_end(&error.topic, error.partition, error.offset);
            } else if error::is_passing(error.code) {
                metrics::client_error();
            } else {
                self.pending.push(read_error(&error, self.positions.get(&error.topic, error.partition)));
            }
        }
        if self.queue.is_empty()
            && let Some(error) = self.pending.pop()
        {
            return Err(error);
        }
        let batch = self.queue.batch();
        metrics::records_read(batch.len());
        Ok(batch)
    }

    /// Whether every assigned partition has been read to an end that it had since [`assign`](Self::assign): at some moment
    /// there was nothing more to read, and nothing was read since.
    pub fn is_at_end(&self) -> bool {
        self.positions.iter().all(|position| position.end.is_some_and(|end| end >= position.next_offset))
    }

    /// The partitions that have been read to an end, in order, with that end: behind the newest record and behind what only takes an
    /// offset, such as the end marker of a transaction.
    pub fn ends(&self) -> impl Iterator<Item = (&str, i32, i64)> {
        let end = |position: &super::positions::Position| position.end.filter(|&end| end >= position.next_offset);
        self.positions.iter().filter_map(move |at| Some((at.topic.as_str(), at.partition, end(at)?)))
    }

    /// The assigned partitions, in order, with the next offset of each.
    pub fn positions(&self) -> impl ExactSizeIterator<Item = (&str, i32, i64)> {
        self.positions.iter().map(|position| (position.topic.as_str(), position.partition, position.next_offset))
    }

    /// The offset behind the newest record of each assigned partition now; for a reader of committed data, behind the newest
    /// settled one.
    ///
    /// # Errors
    /// No answer in time.
    pub fn end_offsets(&self) -> Result<Vec<(String, i32, i64)>, KafkaError> {
        let end = |position: &super::positions::Position| {
            let (_, high) = self.watermarks(&position.topic, position.partition)?;
            Ok((position.topic.clone(), position.partition, high))
        };
        self.positions.iter().map(end).collect()
    }

    /// For a reader of committed data: waits until every transaction that has written to these partitions of some topics is settled. A
    /// commit is answered before each of its partitions knows of it: who reads at once could miss what it wrote.
    ///
    /// # Errors
    /// No answer in time, no such topic, or a transaction that stands open for longer than any of ours may, or until it is given up.
    pub fn wait_until_settled(
        &self,
        admin: &Admin,
        topics: &[&str],
        partitions: impl Fn(i32) -> bool,
        is_given_up: impl Fn() -> bool,
    ) -> Result<(), KafkaError> {
        // Sees all that is written, where this reader sees only what is settled.
        let all = admin.reader_of_all()?;
        let begun = Instant::now();
        let deadline = begun + SETTLE_MAX;
        for topic in topics {
            let written = admin.written_as_seen_by(&all, topic)?;
            for PartitionOffsets { partition, high, .. } in written.into_iter().filter(|at| partitions(at.partition)) {
                while self.watermarks(topic, partition)?.1 < high {
                    if Instant::now() >= deadline || is_given_up() {
                        let operation = "waiting for the end of a transaction";
                        return Err(KafkaError::TimedOut { operation, waited: begun.elapsed() });
                    }
                    std::thread::sleep(SETTLE_PAUSE);
                }
            }
        }
        Ok(())
    }

    /// The oldest offset of a partition and the one behind its newest, asked of the broker.
    ///
    /// # Errors
    /// No answer in time, or no such partition.
    pub fn watermarks(&self, topic: &str, partition: i32) -> Result<(i64, i64), KafkaError> {
        let ask = |remaining| self.consumer.fetch_watermarks(topic, partition, remaining);
        let found = error::retry_passing(REQUEST_TIMEOUT, ask);
        found.map_err(|error| match error.rdkafka_error_code() {
            Some(Code::UnknownTopic | Code::UnknownTopicOrPartition) => {
                KafkaError::UnknownTopic { topic: topic.to_owned() }
            }
            _ => KafkaError::client("asking for watermarks", &error),
        })
    }

    /// Looks at the main queue: the client's errors come there.
    fn serve(&mut self) -> Result<(), KafkaError> {
        match poll(&self.consumer) {
            Some(Ok(message)) => {
                // Its partition is not forwarded: forward it, and fetch again from where we are.
                let (topic, partition) = (message.topic().to_owned(), message.partition());
                drop(message);
                let Some(position) = self.positions.get(&topic, partition) else { return Ok(()) };
                metrics::record_rerouted();
                self.queue.forward(&topic, partition);
                let sought = self.consumer.seek(&topic, partition, Offset::Offset(position), REQUEST_TIMEOUT);
                sought.map_err(|error| KafkaError::client("going back to a position", &error))
            }
            // Errors of a partition come with its messages; those of the connection pass.
            Some(Err(error)) => {
                tracing::debug!(%error, "reading partitions");
                Ok(())
            }
            None => Ok(()),
        }
    }
}

impl fmt::Debug for PartitionReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.positions()).finish()
    }
}
