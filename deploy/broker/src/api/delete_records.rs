//! `DeleteRecords`: the start of a partition moves up.
//!
//! Source: `KafkaApis.handleDeleteRecordsRequest` and `Partition.deleteRecordsOnLeader` of Apache Kafka.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::delete_records_request::DeleteRecordsTopic;
use kafka_protocol::messages::delete_records_response::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult};
use kafka_protocol::messages::{DeleteRecordsRequest, DeleteRecordsResponse};

use super::Context;
use crate::node::Node;

pub(crate) fn handle(node: &mut Node, request: DeleteRecordsRequest, _: &Context) -> DeleteRecordsResponse {
    answer(&request, |topic, partition, offset| node.topics.delete_records(topic, partition, offset))
}

pub(crate) fn refuse(request: &DeleteRecordsRequest, error: ResponseError, _: i16) -> DeleteRecordsResponse {
    answer(request, |_, _, _| Err(error))
}

fn answer(
    request: &DeleteRecordsRequest,
    mut delete: impl FnMut(&str, i32, i64) -> Result<i64, ResponseError>,
) -> DeleteRecordsResponse {
    let topic = |topic: &DeleteRecordsTopic| {
        let partitions = topic.partitions.iter().map(|partition| {
            let index = partition.partition_index;
            let result = DeleteRecordsPartitionResult::default().with_partition_index(index);
            match delete(&topic.name, index, partition.offset) {
                Ok(start) => result.with_low_watermark(start),
                Err(error) => result.with_low_watermark(-1).with_error_code(error.code()),
            }
        });
        DeleteRecordsTopicResult::default().with_name(topic.name.clone()).with_partitions(partitions.collect())
    };
    DeleteRecordsResponse::default().with_topics(request.topics.iter().map(topic).collect())
}
