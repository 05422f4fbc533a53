//! `Produce`: appends a batch to each of the partitions named, each with its own answer.
//!
//! All acknowledgements are the same here, as there is one replica: the answer comes when the batch is written.
//! From version 12 on a producer of the second transaction protocol leaves it to its first batch to enlist a partition in its
//! transaction; that protocol is not offered ([`super::api_versions`]), so such a batch is refused as one that was not enlisted.
//! Source: `KafkaApis.handleProduceRequest`, `ReplicaManager.appendRecords` and `ProduceRequest` of Apache Kafka.

mod rejected;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::produce_request::TopicProduceData;
use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::{ProduceRequest, ProduceResponse};
use kafka_protocol::protocol::StrBytes;

use super::{Context, Outcome};
use crate::log::batch::BatchHeader;
use crate::log::codec::Codec;
use crate::node::Node;
use crate::transactions::transaction::Producer;
use rejected::Rejected;

/// The first version with topics' ids in the place of their names.
const TOPIC_IDS_SINCE: i16 = 13;
/// The first version whose clients may send batches of zstd (KIP-110).
const ZSTD_SINCE: i16 = 7;
/// What Kafka says with `InvalidTxnState` when the coordinator is the one who objects.
const NOT_ENLISTED: &str = "Partition was not added to the transaction";

pub(crate) fn handle(node: &mut Node, request: ProduceRequest, context: &Context) -> Outcome<ProduceResponse> {
    if let Some(error) = refusal(&request) {
        return refuse(&request, error, context.version);
    }
    let transactional_id = request.transactional_id.as_deref().map(|id| &**id);
    let acks = request.acks;
    let answer = |topic| append_topic(node, topic, transactional_id, context);
    answered(acks, request.topic_data.into_iter().map(answer).collect())
}

pub(crate) fn refuse(request: &ProduceRequest, error: ResponseError, _: i16) -> Outcome<ProduceResponse> {
    let refused = |topic: &TopicProduceData| {
        let partitions = topic.partition_data.iter().map(|partition| refused(partition.index, error)).collect();
        topic_answer(topic, partitions)
    };
    answered(request.acks, request.topic_data.iter().map(refused).collect())
}

/// A producer with acks=0 reads no answer. It learns of an error by a closed connection, and then asks for metadata.
fn answered(acks: i16, topics: Vec<TopicProduceResponse>) -> Outcome<ProduceResponse> {
    let is_ok =
        |topic: &TopicProduceResponse| topic.partition_responses.iter().all(|partition| partition.error_code == 0);
    match acks {
        0 if topics.iter().all(is_ok) => Outcome::Silence,
        0 => Outcome::Close("a produce request with acks=0 has failed"),
        _ => Outcome::Answer(ProduceResponse::default().with_responses(topics)),
    }
}

/// What is wrong with the request as a whole.
fn refusal(request: &ProduceRequest) -> Option<ResponseError> {
    let records = || request.topic_data.iter().flat_map(|topic| &topic.partition_data).flat_map(|data| &data.records);
    let is_transactional = |records: &Bytes| BatchHeader::parse(records).is_ok_and(|header| header.is_transactional());
    if request.transactional_id.is_none() && records().any(is_transactional) {
        return Some(ResponseError::TransactionalIdAuthorizationFailed);
    }
    (!matches!(request.acks, -1..=1)).then_some(ResponseError::InvalidRequiredAcks)
}

fn append_topic(
    node: &mut Node,
    mut topic: TopicProduceData,
    transactional_id: Option<&str>,
    context: &Context,
) -> TopicProduceResponse {
    let name = if context.version < TOPIC_IDS_SINCE {
        Ok(topic.name.to_string())
    } else {
        node.topics.by_id(topic.topic_id).map(|topic| topic.name.clone()).ok_or(ResponseError::UnknownTopicId)
    };
    let partitions = std::mem::take(&mut topic.partition_data);
    let answer = |(index, records)| {
        let appended = name.as_ref().map_err(|error| *error);
        let appended = appended.and_then(|name| append(node, name, index, records, transactional_id, context));
        appended.unwrap_or_else(|error| refused(index, error))
    };
    let answers =
        partitions.into_iter().map(|data| (data.index, data.records.unwrap_or_default())).map(answer).collect();
    topic_answer(&topic, answers)
}

fn append(
    node: &mut Node,
    topic: &str,
    partition: i32,
    records: Bytes,
    transactional_id: Option<&str>,
    context: &Context,
) -> Result<PartitionProduceResponse, ResponseError> {
    let (log, settings) = node.topics.partition_mut(topic, partition)?;
    let header = BatchHeader::parse(&records).ok();
    if context.version < ZSTD_SINCE && header.is_some_and(|header| matches!(header.codec(), Ok(Codec::Zstd))) {
        return Err(ResponseError::UnsupportedCompressionType);
    }
    let enlisted = match (transactional_id, header) {
        (Some(id), Some(header)) if header.is_transactional() => {
            let producer = Producer { id: header.producer_id, epoch: header.producer_epoch };
            node.transactions.verify_partition(id, producer, topic, partition, context.version)
        }
        _ => Ok(()),
    };
    match (log.append(records.clone(), enlisted.is_ok(), &settings, context.now), enlisted) {
        (Ok(appended), _) => Ok(PartitionProduceResponse::default()
            .with_index(partition)
            .with_base_offset(appended.base_offset)
            .with_log_append_time_ms(appended.append_time_ms)
            .with_log_start_offset(log.start_offset())),
        // Only the batch that opens a transaction here is held against the coordinator, whose reason is then the better one.
        (Err(ResponseError::InvalidTxnState), Err(reason)) => {
            header.iter().for_each(|header| log.learn_refused(header));
            let message = (reason == ResponseError::InvalidTxnState).then_some(NOT_ENLISTED);
            Ok(refused(partition, reason).with_error_message(message.map(StrBytes::from_static_str)))
        }
        (Err(error), _) => {
            header.iter().for_each(|header| log.learn_refused(header));
            let rejected = Rejected {
                error,
                batch: &records,
                partition: format!("{topic}-{partition}"),
                settings: &settings,
                decompressed_bytes_max: node.config.limits.decompressed_bytes_max,
                now_ms: context.now.unix_ms,
            };
            Ok(rejected.explain(refused(partition, error), log.start_offset()))
        }
    }
}

fn refused(partition: i32, error: ResponseError) -> PartitionProduceResponse {
    PartitionProduceResponse::default().with_index(partition).with_error_code(error.code()).with_base_offset(-1)
}

/// Names the topic as the request does: by name or by id, whichever its version has.
fn topic_answer(topic: &TopicProduceData, partitions: Vec<PartitionProduceResponse>) -> TopicProduceResponse {
    TopicProduceResponse::default()
        .with_name(topic.name.clone())
        .with_topic_id(topic.topic_id)
        .with_partition_responses(partitions)
}
