//! Requests of the cluster, of topics and of their settings.

use kafka_protocol::messages::create_partitions_request::{CreatePartitionsAssignment, CreatePartitionsTopic};
use kafka_protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_log_dirs_request::DescribableLogDirTopic;
use kafka_protocol::messages::{
    AlterConfigsRequest, ApiVersionsRequest, CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest,
    DescribeClusterRequest, DescribeConfigsRequest, DescribeLogDirsRequest, IncrementalAlterConfigsRequest,
    SaslAuthenticateRequest, SaslHandshakeRequest, alter_configs_request, incremental_alter_configs_request,
};
use kafka_protocol::protocol::Message as _;

use super::*;

pub(super) static API_VERSIONS: Request = Request {
    versions: ApiVersionsRequest::VERSIONS,
    flexible_since: 3,
    fields: &[field("client_software_name", TEXT).since(3), field("client_software_version", TEXT).since(3)],
};

pub(super) static SASL_HANDSHAKE: Request =
    Request { versions: SaslHandshakeRequest::VERSIONS, flexible_since: NEVER, fields: &[field("mechanism", TEXT)] };

pub(super) static SASL_AUTHENTICATE: Request =
    Request { versions: SaslAuthenticateRequest::VERSIONS, flexible_since: 2, fields: &[field("auth_bytes", BYTES)] };

pub(super) static DESCRIBE_LOG_DIRS: Request = Request {
    versions: DescribeLogDirsRequest::VERSIONS,
    flexible_since: 2,
    fields: &[Array("topics").of::<DescribableLogDirTopic>(&[field("topic", TEXT), field("partitions", INT32S)])],
};

pub(super) static CREATE_TOPICS: Request = Request {
    versions: CreateTopicsRequest::VERSIONS,
    flexible_since: 5,
    fields: &[
        Array("topics").of::<CreatableTopic>(&[
            field("name", TEXT),
            field("num_partitions", INT32),
            field("replication_factor", INT16),
            Array("assignments")
                .of::<CreatableReplicaAssignment>(&[field("partition_index", INT32), field("broker_ids", INT32S)]),
            Array("configs").of::<CreatableTopicConfig>(&[field("name", TEXT), field("value", TEXT)]),
        ]),
        field("timeout_ms", INT32),
        field("validate_only", BOOL),
    ],
};

pub(super) static DELETE_TOPICS: Request = Request {
    versions: DeleteTopicsRequest::VERSIONS,
    flexible_since: 4,
    fields: &[
        Array("topics")
            .of::<DeleteTopicState>(&[field("name", TEXT).since(6), field("topic_id", UUID).since(6)])
            .since(6),
        field("topic_names", TEXTS).until(5),
        field("timeout_ms", INT32),
    ],
};

pub(super) static DESCRIBE_CONFIGS: Request = Request {
    versions: DescribeConfigsRequest::VERSIONS,
    flexible_since: 4,
    fields: &[
        Array("resources").of::<DescribeConfigsResource>(&[
            field("resource_type", INT8),
            field("resource_name", TEXT),
            field("configuration_keys", TEXTS),
        ]),
        field("include_synonyms", BOOL),
        field("include_documentation", BOOL).since(3),
    ],
};

pub(super) static ALTER_CONFIGS: Request = Request {
    versions: AlterConfigsRequest::VERSIONS,
    flexible_since: 2,
    fields: &[
        Array("resources").of::<alter_configs_request::AlterConfigsResource>(&[
            field("resource_type", INT8),
            field("resource_name", TEXT),
            Array("configs").of::<alter_configs_request::AlterableConfig>(&[field("name", TEXT), field("value", TEXT)]),
        ]),
        field("validate_only", BOOL),
    ],
};

pub(super) static INCREMENTAL_ALTER_CONFIGS: Request = Request {
    versions: IncrementalAlterConfigsRequest::VERSIONS,
    flexible_since: 1,
    fields: &[
        Array("resources").of::<incremental_alter_configs_request::AlterConfigsResource>(&[
            field("resource_type", INT8),
            field("resource_name", TEXT),
            Array("configs").of::<incremental_alter_configs_request::AlterableConfig>(&[
                field("name", TEXT),
                field("config_operation", INT8),
                field("value", TEXT),
            ]),
        ]),
        field("validate_only", BOOL),
    ],
};

pub(super) static CREATE_PARTITIONS: Request = Request {
    versions: CreatePartitionsRequest::VERSIONS,
    flexible_since: 2,
    fields: &[
        Array("topics").of::<CreatePartitionsTopic>(&[
            field("name", TEXT),
            field("count", INT32),
            Array("assignments").of::<CreatePartitionsAssignment>(&[field("broker_ids", INT32S)]),
        ]),
        field("timeout_ms", INT32),
        field("validate_only", BOOL),
    ],
};

pub(super) static DESCRIBE_CLUSTER: Request = Request {
    versions: DescribeClusterRequest::VERSIONS,
    flexible_since: 0,
    fields: &[
        field("include_cluster_authorized_operations", BOOL),
        field("endpoint_type", INT8).since(1),
        field("include_fenced_brokers", BOOL).since(2),
    ],
};
