//! `OffsetForLeaderEpoch`: where the records of a leader's epoch end, so that a client sees a log that was cut.
//!
//! The leader never changes here, so there is one epoch, and it ends where the log does.
//! Source: `Partition.lastOffsetForLeaderEpoch` and `LeaderEpochFileCache.endOffsetFor` of Apache Kafka.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::offset_for_leader_epoch_request::OffsetForLeaderPartition;
use kafka_protocol::messages::offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult};
use kafka_protocol::messages::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse, TopicName};

use super::Context;
use super::fetch::check_leader_epoch;
use crate::node::{LEADER_EPOCH, Node};

pub(crate) fn handle(
    node: &mut Node,
    request: OffsetForLeaderEpochRequest,
    _: &Context,
) -> OffsetForLeaderEpochResponse {
    answer(&request, |topic, wanted| {
        let (log, _) = node.topics.partition_mut(topic, wanted.partition)?;
        check_leader_epoch(wanted.current_leader_epoch)?;
        Ok(match wanted.leader_epoch {
            LEADER_EPOCH => (LEADER_EPOCH, log.end_offset()),
            // One that may come, or none: nothing is known of it.
            -1 | 1.. => (-1, -1),
            // Before the first one there was nothing.
            earlier => (earlier, log.start_offset()),
        })
    })
}

pub(crate) fn refuse(
    request: &OffsetForLeaderEpochRequest,
    error: ResponseError,
    _: i16,
) -> OffsetForLeaderEpochResponse {
    answer(request, |_, _| Err(error))
}

fn answer(
    request: &OffsetForLeaderEpochRequest,
    mut end: impl FnMut(&TopicName, &OffsetForLeaderPartition) -> Result<(i32, i64), ResponseError>,
) -> OffsetForLeaderEpochResponse {
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|wanted| {
            let answer = EpochEndOffset::default().with_partition(wanted.partition);
            match end(&topic.topic, wanted) {
                Ok((epoch, end_offset)) => answer.with_leader_epoch(epoch).with_end_offset(end_offset),
                Err(error) => answer.with_error_code(error.code()),
            }
        });
        OffsetForLeaderTopicResult::default().with_topic(topic.topic.clone()).with_partitions(partitions.collect())
    });
    OffsetForLeaderEpochResponse::default().with_topics(topics.collect())
}
