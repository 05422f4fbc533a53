//! `Fetch`: whole batches of the partitions named, or a wait until there are some.
//!
//! There are no fetch sessions: a request that would begin one is answered with session 0, as by a Kafka whose sessions are
//! all taken, and clients then name all their partitions each time. Partitions are read in the order of the request, which
//! clients rotate, so that none starves at the bound of bytes.
//! Source: `KafkaApis.handleFetchRequest`, `ReplicaManager.fetchMessages` and `readFromLog`, `DelayedFetch`, `FetchManager` of
//! Apache Kafka.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::{AbortedTransaction, FetchableTopicResponse, PartitionData};
use kafka_protocol::messages::{FetchRequest, FetchResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::{Context, Outcome};
use crate::log::{Isolation, PartitionLog};
use crate::node::{LEADER_EPOCH, Node, NodeRef};

/// The first version in which a follower's id is a tagged field.
const REPLICA_STATE_SINCE: i16 = 15;
/// The first version with topics' ids in the place of their names.
const TOPIC_IDS_SINCE: i16 = 13;

pub(crate) async fn handle(node: &NodeRef, request: FetchRequest, context: &Context) -> Outcome<FetchResponse> {
    // 0 begins a session, -1 ends one: both name all partitions. Anything else goes on with one, and none was begun here.
    if !matches!(request.session_epoch, -1 | 0) {
        let response = FetchResponse::default().with_error_code(ResponseError::FetchSessionIdNotFound.code());
        return Outcome::Answer(response);
    }
    let deadline = Instant::from_std(context.now.instant) + Duration::from_millis(request.max_wait_ms.max(0) as u64);
    let changed = Arc::new(Notify::new());
    loop {
        let waiting_for = {
            let node = &mut *node.borrow_mut();
            let read = read_all(node, &request, context.version);
            let is_due = read.is_failed || read.bytes >= bytes_min(node, &request) || Instant::now() >= deadline;
            if is_due || read.responses.iter().all(|topic| topic.partitions.is_empty()) {
                return Outcome::Answer(FetchResponse::default().with_responses(read.responses));
            }
            Waiting {
                bytes_missing: bytes_min(node, &request) - read.bytes,
                seen: look(node, &request, context.version),
            }
        };
        wait(node, &request, context.version, waiting_for, &changed, deadline).await;
    }
}

pub(crate) fn refuse(request: &FetchRequest, error: ResponseError, version: i16) -> FetchResponse {
    // A request that names no partition has only this place for an error.
    let top_level = if request.topics.is_empty() && version >= 7 { error.code() } else { 0 };
    let refused = |topic: &FetchTopic| {
        let partitions = topic.partitions.iter().map(|wanted| refused(wanted.partition, error)).collect();
        topic_answer(topic, partitions)
    };
    FetchResponse::default().with_error_code(top_level).with_responses(request.topics.iter().map(refused).collect())
}

/// Which records a request is shown.
pub(super) fn isolation(level: i8) -> Isolation {
    if level == 1 { Isolation::ReadCommitted } else { Isolation::ReadUncommitted }
}

/// Whether a client knows of the one leader there is; -1 if it does not say.
pub(super) fn check_leader_epoch(known: i32) -> Result<(), ResponseError> {
    match known {
        -1 | LEADER_EPOCH => Ok(()),
        older if older < LEADER_EPOCH => Err(ResponseError::FencedLeaderEpoch),
        _ => Err(ResponseError::UnknownLeaderEpoch),
    }
}

/// All that can be read now.
struct ReadAll {
    responses: Vec<FetchableTopicResponse>,
    bytes: usize,
    /// Whether a partition was answered with an error, which is not kept waiting.
    is_failed: bool,
}

/// What a request can still be given.
struct Allowance {
    bytes: usize,
    /// Whether the next batch is given whole though it is larger: the first one is, or a client could never get past it.
    is_first: bool,
}

fn read_all(node: &mut Node, request: &FetchRequest, version: i16) -> ReadAll {
    let limits = &node.config.limits;
    let unused = limits.reads_bytes_max.saturating_sub(node.unsent_bytes.get());
    let asker = Asker { is_follower: is_follower(request, version), isolation: isolation(request.isolation_level) };
    let mut allowance = Allowance { bytes: bytes_max(node, request).min(unused), is_first: true };
    let mut all = ReadAll { responses: Vec::with_capacity(request.topics.len()), bytes: 0, is_failed: false };
    for topic in &request.topics {
        let name = name_of(node, topic, version);
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for wanted in &topic.partitions {
            let log = name.clone().and_then(|name| Ok(node.topics.partition_mut(&name, wanted.partition)?.0));
            let answer = match log.map(|log| read_one(log, wanted, asker, &mut allowance)) {
                Ok(Ok(read)) => read,
                Ok(Err(error)) => refused(wanted.partition, error).with_aborted_transactions(None),
                Err(error) => refused(wanted.partition, error),
            };
            all.is_failed |= answer.error_code != 0;
            all.bytes += answer.records.as_ref().map_or(0, Bytes::len);
            partitions.push(answer);
        }
        all.responses.push(topic_answer(topic, partitions));
    }
    all
}

/// Who reads, and what it is shown.
#[derive(Clone, Copy)]
struct Asker {
    is_follower: bool,
    isolation: Isolation,
}

/// Clients have no broker's id. Nobody else follows this broker's partitions.
fn is_follower(request: &FetchRequest, version: i16) -> bool {
    let replica = if version < REPLICA_STATE_SINCE { request.replica_id } else { request.replica_state.replica_id };
    replica.0 >= 0
}

fn read_one(
    log: &PartitionLog,
    wanted: &FetchPartition,
    Asker { is_follower, isolation }: Asker,
    allowance: &mut Allowance,
) -> Result<PartitionData, ResponseError> {
    check_leader_epoch(wanted.current_leader_epoch)?;
    if is_follower {
        return Err(ResponseError::NotLeaderOrFollower);
    }
    if wanted.last_fetched_epoch > LEADER_EPOCH {
        // It has read records that were never written here.
        return Err(ResponseError::OffsetOutOfRange);
    }
    let bytes_max = allowance.bytes.min(usize::try_from(wanted.partition_max_bytes).unwrap_or(0));
    let read = log.read(wanted.fetch_offset, bytes_max, allowance.is_first, isolation)?;
    allowance.bytes = allowance.bytes.saturating_sub(read.records.len());
    allowance.is_first &= read.records.is_empty();
    let aborted = read.aborted.into_iter().map(|(producer_id, first_offset)| {
        AbortedTransaction::default().with_producer_id(producer_id.into()).with_first_offset(first_offset)
    });
    Ok(PartitionData::default()
        .with_partition_index(wanted.partition)
        .with_high_watermark(log.end_offset())
        .with_last_stable_offset(log.stable_offset())
        .with_log_start_offset(log.start_offset())
        .with_aborted_transactions((isolation == Isolation::ReadCommitted).then(|| aborted.collect()))
        .with_records(Some(read.records)))
}

fn bytes_max(node: &Node, request: &FetchRequest) -> usize {
    usize::try_from(request.max_bytes).unwrap_or(0).min(node.config.limits.fetch_bytes_max)
}

fn bytes_min(node: &Node, request: &FetchRequest) -> usize {
    usize::try_from(request.min_bytes).unwrap_or(0).min(bytes_max(node, request))
}

/// What a request waits for.
struct Waiting {
    bytes_missing: usize,
    seen: Seen,
}

/// What can be seen of the partitions of a request without reading records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Seen {
    /// The sum of the offsets where reading ends; it moves with every change that may matter.
    ends: i64,
    bytes: u64,
    /// A partition is gone.
    is_failed: bool,
}

fn look(node: &mut Node, request: &FetchRequest, version: i16) -> Seen {
    let mut seen = Seen::default();
    for_each_log(node, request, version, |log| match (log, isolation(request.isolation_level)) {
        (Some(log), isolation) => {
            seen.ends += match isolation {
                Isolation::ReadUncommitted => log.end_offset(),
                Isolation::ReadCommitted => log.stable_offset(),
            };
            seen.bytes += log.size_bytes();
        }
        (None, _) => seen.is_failed = true,
    });
    seen
}

/// Waits until a read may give what is missing, or for the deadline. Records are not read to find out.
async fn wait(
    node: &NodeRef,
    request: &FetchRequest,
    version: i16,
    waiting_for: Waiting,
    changed: &Arc<Notify>,
    deadline: Instant,
) {
    let Waiting { bytes_missing, seen: before } = waiting_for;
    loop {
        for_each_log(&mut node.borrow_mut(), request, version, |log| {
            log.into_iter().for_each(|log| log.wake_when_changed(changed));
        });
        if tokio::time::timeout_at(deadline, changed.notified()).await.is_err() {
            return;
        }
        let now = look(&mut node.borrow_mut(), request, version);
        // A marker makes records visible that were written before; how many bytes, only a read can tell.
        let is_marker = isolation(request.isolation_level) == Isolation::ReadCommitted && now.ends != before.ends;
        let is_enough = now.bytes.saturating_sub(before.bytes) >= bytes_missing as u64;
        if now.is_failed || is_marker || (is_enough && now.ends != before.ends) {
            return;
        }
    }
}

fn for_each_log(
    node: &mut Node,
    request: &FetchRequest,
    version: i16,
    mut each: impl FnMut(Option<&mut PartitionLog>),
) {
    for topic in &request.topics {
        let name = name_of(node, topic, version);
        for wanted in &topic.partitions {
            let log = name.as_ref().ok().and_then(|name| node.topics.partition_mut(name, wanted.partition).ok());
            each(log.map(|(log, _)| log));
        }
    }
}

fn name_of(node: &Node, topic: &FetchTopic, version: i16) -> Result<TopicName, ResponseError> {
    if version < TOPIC_IDS_SINCE {
        return Ok(topic.topic.clone());
    }
    let topic = node.topics.by_id(topic.topic_id).ok_or(ResponseError::UnknownTopicId)?;
    Ok(StrBytes::from_string(topic.name.clone()).into())
}

fn refused(partition: i32, error: ResponseError) -> PartitionData {
    PartitionData::default().with_partition_index(partition).with_error_code(error.code()).with_high_watermark(-1)
}

/// Names the topic as the request does: by name or by id, whichever its version has.
fn topic_answer(topic: &FetchTopic, partitions: Vec<PartitionData>) -> FetchableTopicResponse {
    FetchableTopicResponse::default()
        .with_topic(topic.topic.clone())
        .with_topic_id(topic.topic_id)
        .with_partitions(partitions)
}
