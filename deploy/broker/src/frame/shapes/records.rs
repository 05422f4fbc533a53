//! Requests of records and where they are.

use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic, ReplicaState};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    DeleteRecordsRequest, DescribeProducersRequest, DescribeTopicPartitionsRequest, FetchRequest, ListOffsetsRequest,
    MetadataRequest, OffsetForLeaderEpochRequest, ProduceRequest, describe_producers_request,
    describe_topic_partitions_request,
};
use kafka_protocol::protocol::Message as _;

use super::*;

pub(super) static PRODUCE: Request = Request {
    versions: ProduceRequest::VERSIONS,
    flexible_since: 9,
    fields: &[
        field("transactional_id", TEXT),
        field("acks", INT16),
        field("timeout_ms", INT32),
        Array("topic_data").of::<TopicProduceData>(&[
            field("name", TEXT).until(12),
            field("topic_id", UUID).since(13),
            Array("partition_data").of::<PartitionProduceData>(&[field("index", INT32), field("records", BYTES)]),
        ]),
    ],
};

pub(super) static FETCH: Request = Request {
    versions: FetchRequest::VERSIONS,
    flexible_since: 12,
    fields: &[
        field("replica_id", INT32).until(14),
        field("max_wait_ms", INT32),
        field("min_bytes", INT32),
        field("max_bytes", INT32),
        field("isolation_level", INT8),
        field("session_id", INT32).since(7),
        field("session_epoch", INT32).since(7),
        Array("topics").of::<FetchTopic>(&[
            field("topic", TEXT).until(12),
            field("topic_id", UUID).since(13),
            Array("partitions").of::<FetchPartition>(&[
                field("partition", INT32),
                field("current_leader_epoch", INT32).since(9),
                field("fetch_offset", INT64),
                field("last_fetched_epoch", INT32).since(12),
                field("log_start_offset", INT64).since(5),
                field("partition_max_bytes", INT32),
                field("replica_directory_id", UUID).tag(0).since(17),
                field("high_watermark", INT64).tag(1).since(18),
            ]),
        ]),
        Array("forgotten_topics_data")
            .of::<ForgottenTopic>(&[
                field("topic", TEXT).since(7).until(12),
                field("topic_id", UUID).since(13),
                field("partitions", INT32S).since(7),
            ])
            .since(7),
        field("rack_id", TEXT).since(11),
        field("cluster_id", TEXT).tag(0).since(12),
        One("replica_state")
            .of::<ReplicaState>(&[field("replica_id", INT32).since(15), field("replica_epoch", INT64).since(15)])
            .tag(1)
            .since(15),
    ],
};

pub(super) static LIST_OFFSETS: Request = Request {
    versions: ListOffsetsRequest::VERSIONS,
    flexible_since: 6,
    fields: &[
        field("replica_id", INT32),
        field("isolation_level", INT8).since(2),
        Array("topics").of::<ListOffsetsTopic>(&[
            field("name", TEXT),
            Array("partitions").of::<ListOffsetsPartition>(&[
                field("partition_index", INT32),
                field("current_leader_epoch", INT32).since(4),
                field("timestamp", INT64),
            ]),
        ]),
        field("timeout_ms", INT32).since(10),
    ],
};

pub(super) static METADATA: Request = Request {
    versions: MetadataRequest::VERSIONS,
    flexible_since: 9,
    fields: &[
        Array("topics").of::<MetadataRequestTopic>(&[field("topic_id", UUID).since(10), field("name", TEXT)]),
        field("allow_auto_topic_creation", BOOL).since(4),
        field("include_cluster_authorized_operations", BOOL).since(8).until(10),
        field("include_topic_authorized_operations", BOOL).since(8),
    ],
};

pub(super) static DELETE_RECORDS: Request = Request {
    versions: DeleteRecordsRequest::VERSIONS,
    flexible_since: 2,
    fields: &[
        Array("topics").of::<DeleteRecordsTopic>(&[
            field("name", TEXT),
            Array("partitions")
                .of::<DeleteRecordsPartition>(&[field("partition_index", INT32), field("offset", INT64)]),
        ]),
        field("timeout_ms", INT32),
    ],
};

pub(super) static OFFSET_FOR_LEADER_EPOCH: Request = Request {
    versions: OffsetForLeaderEpochRequest::VERSIONS,
    flexible_since: 4,
    fields: &[
        field("replica_id", INT32).since(3),
        Array("topics").of::<OffsetForLeaderTopic>(&[
            field("topic", TEXT),
            Array("partitions").of::<OffsetForLeaderPartition>(&[
                field("partition", INT32),
                field("current_leader_epoch", INT32),
                field("leader_epoch", INT32),
            ]),
        ]),
    ],
};

pub(super) static DESCRIBE_PRODUCERS: Request = Request {
    versions: DescribeProducersRequest::VERSIONS,
    flexible_since: 0,
    fields: &[Array("topics")
        .of::<describe_producers_request::TopicRequest>(&[field("name", TEXT), field("partition_indexes", INT32S)])],
};

pub(super) static DESCRIBE_TOPIC_PARTITIONS: Request = Request {
    versions: DescribeTopicPartitionsRequest::VERSIONS,
    flexible_since: 0,
    fields: &[
        Array("topics").of::<describe_topic_partitions_request::TopicRequest>(&[field("name", TEXT)]),
        field("response_partition_limit", INT32),
        Optional("cursor").of::<describe_topic_partitions_request::Cursor>(&[
            field("topic_name", TEXT),
            field("partition_index", INT32),
        ]),
    ],
};
