//! `ListOffsets`: a partition's first offset, its last, or that of the first record from a time on.
//!
//! Source: `ReplicaManager.fetchOffset`, `Partition.fetchOffsetForTimestamp` and `ListOffsetsRequest` of Apache Kafka.

use std::collections::HashSet;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::list_offsets_request::ListOffsetsPartition;
use kafka_protocol::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use kafka_protocol::messages::{ListOffsetsRequest, ListOffsetsResponse, TopicName};

use super::Context;
use super::fetch::{check_leader_epoch, isolation};
use crate::log::{Isolation, PartitionLog};
use crate::node::{LEADER_EPOCH, Node};

/// The first version whose answers tell the leader's epoch.
const LEADER_EPOCH_SINCE: i16 = 4;
/// The end of the log, as the isolation has it.
const LATEST: i64 = -1;
/// The start of the log.
const EARLIEST: i64 = -2;
/// The record with the greatest timestamp (KIP-734).
const MAX_TIMESTAMP: i64 = -3;
/// The start of what is on this machine (KIP-405): of everything.
const EARLIEST_LOCAL: i64 = -4;
/// The end of what was moved to remote storage (KIP-1005): of nothing.
const LATEST_TIERED: i64 = -5;

pub(crate) fn handle(node: &mut Node, request: ListOffsetsRequest, context: &Context) -> ListOffsetsResponse {
    let (mut once, mut repeated) = (HashSet::new(), HashSet::new());
    for topic in &request.topics {
        let again = topic.partitions.iter().map(|of| (&topic.name, of.partition_index)).filter(|of| !once.insert(*of));
        repeated.extend(again);
    }
    answer(&request, context.version, |topic, wanted| {
        if repeated.contains(&(topic, wanted.partition_index)) {
            return Err(ResponseError::InvalidRequest);
        }
        let (log, _) = node.topics.partition_mut(topic, wanted.partition_index)?;
        check_leader_epoch(wanted.current_leader_epoch)?;
        find(log, wanted.timestamp, isolation(request.isolation_level), context.version)
    })
}

pub(crate) fn refuse(request: &ListOffsetsRequest, error: ResponseError, version: i16) -> ListOffsetsResponse {
    answer(request, version, |_, _| Err(error))
}

/// An offset and the timestamp of its record; -1 where there is none.
type Found = (i64, i64);

fn find(log: &PartitionLog, wanted: i64, isolation: Isolation, version: i16) -> Result<Found, ResponseError> {
    let end = match isolation {
        Isolation::ReadUncommitted => log.end_offset(),
        Isolation::ReadCommitted => log.stable_offset(),
    };
    const NONE: Found = (-1, -1);
    match wanted {
        LATEST => Ok((end, -1)),
        EARLIEST => Ok((log.start_offset(), -1)),
        MAX_TIMESTAMP if version >= 7 => {
            Ok(log.offset_of_max_timestamp()?.filter(|(offset, _)| *offset < end).unwrap_or(NONE))
        }
        EARLIEST_LOCAL if version >= 8 => Ok((log.start_offset(), -1)),
        LATEST_TIERED if version >= 9 => Ok(NONE),
        0.. => Ok(log.offset_at_time(wanted, isolation)?.unwrap_or(NONE)),
        _ => Err(ResponseError::UnsupportedVersion),
    }
}

/// The answer to each partition, once if it is named more than once; one that found no offset has no leader's epoch either.
fn answer(
    request: &ListOffsetsRequest,
    version: i16,
    mut find: impl FnMut(&TopicName, &ListOffsetsPartition) -> Result<Found, ResponseError>,
) -> ListOffsetsResponse {
    let mut answered = HashSet::new();
    let topics = request.topics.iter().map(|topic| {
        let first = topic.partitions.iter().filter(|of| answered.insert((&topic.name, of.partition_index)));
        let partitions: Vec<_> = first
            .map(|wanted| {
                let answer = ListOffsetsPartitionResponse::default().with_partition_index(wanted.partition_index);
                match find(&topic.name, wanted) {
                    Ok((offset, timestamp)) => answer.with_offset(offset).with_timestamp(timestamp).with_leader_epoch(
                        if offset >= 0 && version >= LEADER_EPOCH_SINCE { LEADER_EPOCH } else { -1 },
                    ),
                    Err(error) => answer.with_error_code(error.code()),
                }
            })
            .collect();
        ListOffsetsTopicResponse::default().with_name(topic.name.clone()).with_partitions(partitions)
    });
    ListOffsetsResponse::default().with_topics(topics.collect())
}
