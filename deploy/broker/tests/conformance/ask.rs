//! The questions that many checks ask, each on a connection of its own or a given one, in one version that both brokers know.

use bytes::Bytes;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::create_topics_response::CreatableTopicResult;
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::list_offsets_response::ListOffsetsPartitionResponse;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::MetadataResponseTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::PartitionProduceResponse;
use kafka_protocol::messages::{
    CreateTopicsRequest, DeleteTopicsRequest, FetchRequest, ListOffsetsRequest, MetadataRequest, ProduceRequest,
    TransactionalId,
};

use crate::raw::Author;
use crate::raw::{Connection, batch, records_of, text, topic_name};
use crate::subject::{Subject, eventually, unique};

/// ListOffsets' names for times that are none.
pub(crate) const LATEST: i64 = -1;
pub(crate) const EARLIEST: i64 = -2;
pub(crate) const MAX_TIMESTAMP: i64 = -3;

/// Isolation levels.
pub(crate) const UNCOMMITTED: i8 = 0;
pub(crate) const COMMITTED: i8 = 1;

/// What a topic shall be like.
pub(crate) fn new_topic(name: &str, partitions: i32, settings: &[(&str, &str)]) -> CreatableTopic {
    let configs = settings
        .iter()
        .map(|(name, value)| CreatableTopicConfig::default().with_name(text(name)).with_value(Some(text(value))));
    CreatableTopic::default()
        .with_name(topic_name(name))
        .with_num_partitions(partitions)
        .with_replication_factor(1)
        .with_configs(configs.collect())
}

/// Asks for topics as they are, whatever comes of it.
pub(crate) fn create_topics(connection: &mut Connection, topics: Vec<CreatableTopic>) -> Vec<CreatableTopicResult> {
    let request = CreateTopicsRequest::default().with_topics(topics).with_timeout_ms(30_000);
    connection.ask(7, request).topics
}

/// Makes a topic of a name of its own and waits until it can be used.
pub(crate) fn topic(subject: &Subject, what: &str, partitions: i32, settings: &[(&str, &str)]) -> String {
    let name = unique(what);
    topic_named(subject, &name, partitions, settings);
    name
}

/// Makes a topic and waits until it can be used.
pub(crate) fn topic_named(subject: &Subject, name: &str, partitions: i32, settings: &[(&str, &str)]) {
    let mut connection = Connection::open(subject);
    let results = create_topics(&mut connection, vec![new_topic(name, partitions, settings)]);
    assert_eq!(results[0].error_code, 0, "{name}: {:?}", results[0].error_message);
    wait_for_partitions(&mut connection, name, partitions);
}

/// Waits until a topic has so many partitions that are led and answer: Kafka tells of a leader before it is one.
pub(crate) fn wait_for_partitions(connection: &mut Connection, name: &str, partitions: i32) {
    eventually(&format!("{name} has {partitions} partitions"), || {
        let topic = metadata_of(connection, name);
        let led = topic.partitions.iter().filter(|partition| partition.error_code == 0).count();
        let mut answers = |partition| list_offset(connection, name, partition, LATEST, UNCOMMITTED).error_code == 0;
        (topic.error_code == 0 && led == partitions as usize && (0..partitions).all(&mut answers)).then_some(())
    });
}

/// Deletes a topic and waits until it is gone.
pub(crate) fn delete_topic(subject: &Subject, name: &str) {
    let mut connection = Connection::open(subject);
    let state = DeleteTopicState::default().with_name(Some(topic_name(name)));
    let request = DeleteTopicsRequest::default().with_topics(vec![state]).with_timeout_ms(30_000);
    assert_eq!(connection.ask(6, request).responses[0].error_code, 0, "{name}");
    eventually("the topic is gone", || (metadata_of(&mut connection, name).error_code == 3).then_some(()));
}

/// One topic's metadata; it is not made by the question.
pub(crate) fn metadata_of(connection: &mut Connection, name: &str) -> MetadataResponseTopic {
    let topic = MetadataRequestTopic::default().with_name(Some(topic_name(name)));
    let request = MetadataRequest::default().with_topics(Some(vec![topic])).with_allow_auto_topic_creation(false);
    connection.ask(12, request).topics.remove(0)
}

/// Produces batches to one partition.
pub(crate) fn produce(
    connection: &mut Connection,
    topic: &str,
    partition: i32,
    transactional_id: Option<&str>,
    records: Bytes,
) -> PartitionProduceResponse {
    let request = produce_request(topic, partition, transactional_id, records);
    connection.ask(9, request).responses.remove(0).partition_responses.remove(0)
}

/// A request that produces to one partition, with all acknowledgements.
pub(crate) fn produce_request(
    topic: &str,
    partition: i32,
    transactional_id: Option<&str>,
    records: Bytes,
) -> ProduceRequest {
    let data = PartitionProduceData::default().with_index(partition).with_records(Some(records));
    let topic = TopicProduceData::default().with_name(topic_name(topic)).with_partition_data(vec![data]);
    ProduceRequest::default()
        .with_transactional_id(transactional_id.map(|id| TransactionalId(text(id))))
        .with_acks(-1)
        .with_timeout_ms(30_000)
        .with_topic_data(vec![topic])
}

/// Produces plain records without keys as one batch and gives the first's offset.
pub(crate) fn produce_values(connection: &mut Connection, topic: &str, partition: i32, values: &[&str]) -> i64 {
    let response = produce(connection, topic, partition, None, batch(Author::PLAIN, values));
    assert_eq!(response.error_code, 0, "{:?}", response.error_message);
    response.base_offset
}

/// How to fetch from one partition.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FetchOptions {
    pub(crate) isolation: i8,
    pub(crate) max_wait_ms: i32,
    pub(crate) min_bytes: i32,
    pub(crate) max_bytes: i32,
    pub(crate) partition_max_bytes: i32,
}

impl Default for FetchOptions {
    fn default() -> Self {
        let mib = 1 << 20;
        Self { isolation: UNCOMMITTED, max_wait_ms: 0, min_bytes: 0, max_bytes: 50 * mib, partition_max_bytes: mib }
    }
}

/// A request for one partition's records.
pub(crate) fn fetch_request(topic: &str, partition: i32, offset: i64, options: FetchOptions) -> FetchRequest {
    let wanted = FetchPartition::default()
        .with_partition(partition)
        .with_fetch_offset(offset)
        .with_partition_max_bytes(options.partition_max_bytes);
    let topic = FetchTopic::default().with_topic(topic_name(topic)).with_partitions(vec![wanted]);
    FetchRequest::default()
        .with_isolation_level(options.isolation)
        .with_max_wait_ms(options.max_wait_ms)
        .with_min_bytes(options.min_bytes)
        .with_max_bytes(options.max_bytes)
        .with_topics(vec![topic])
}

/// Fetches from one partition, without a session.
pub(crate) fn fetch(
    connection: &mut Connection,
    topic: &str,
    partition: i32,
    offset: i64,
    options: FetchOptions,
) -> PartitionData {
    let response = connection.ask(12, fetch_request(topic, partition, offset, options));
    assert_eq!(response.error_code, 0);
    response.responses.into_iter().next().unwrap().partitions.remove(0)
}

/// The values of all data records from an offset on, as one fetch shows them: an uncommitted reader's view.
pub(crate) fn values(connection: &mut Connection, topic: &str, partition: i32, from: i64) -> Vec<String> {
    let data = fetch(connection, topic, partition, from, FetchOptions::default());
    assert_eq!(data.error_code, 0);
    let records = records_of(&data.records.unwrap_or_default());
    let shown = records.into_iter().filter(|record| !record.control && record.offset >= from);
    shown.map(|record| String::from_utf8(record.value.unwrap_or_default().to_vec()).unwrap()).collect()
}

/// Asks for the offset at a time, or at [`LATEST`], [`EARLIEST`], [`MAX_TIMESTAMP`].
pub(crate) fn list_offset(
    connection: &mut Connection,
    topic: &str,
    partition: i32,
    timestamp: i64,
    isolation: i8,
) -> ListOffsetsPartitionResponse {
    let wanted = ListOffsetsPartition::default().with_partition_index(partition).with_timestamp(timestamp);
    let topic = ListOffsetsTopic::default().with_name(topic_name(topic)).with_partitions(vec![wanted]);
    let request = ListOffsetsRequest::default()
        .with_replica_id((-1).into())
        .with_isolation_level(isolation)
        .with_topics(vec![topic]);
    connection.ask(7, request).topics.remove(0).partitions.remove(0)
}

/// `(start, last stable, end)` of a partition.
pub(crate) fn bounds(connection: &mut Connection, topic: &str, partition: i32) -> (i64, i64, i64) {
    let mut ask = |timestamp, isolation| {
        let answer = list_offset(connection, topic, partition, timestamp, isolation);
        assert_eq!(answer.error_code, 0);
        answer.offset
    };
    (ask(EARLIEST, UNCOMMITTED), ask(LATEST, COMMITTED), ask(LATEST, UNCOMMITTED))
}
