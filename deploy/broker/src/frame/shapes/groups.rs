//! Requests of groups and their offsets.

use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    DeleteGroupsRequest, DescribeGroupsRequest, FindCoordinatorRequest, HeartbeatRequest, JoinGroupRequest,
    LeaveGroupRequest, ListGroupsRequest, OffsetCommitRequest, OffsetDeleteRequest, OffsetFetchRequest,
    SyncGroupRequest,
};
use kafka_protocol::protocol::Message as _;

use super::*;

pub(super) static OFFSET_COMMIT: Request = Request {
    versions: OffsetCommitRequest::VERSIONS,
    flexible_since: 8,
    fields: &[
        field("group_id", TEXT),
        field("generation_id_or_member_epoch", INT32),
        field("member_id", TEXT),
        field("group_instance_id", TEXT).since(7),
        field("retention_time_ms", INT64).until(4),
        Array("topics").of::<OffsetCommitRequestTopic>(&[
            field("name", TEXT),
            Array("partitions").of::<OffsetCommitRequestPartition>(&[
                field("partition_index", INT32),
                field("committed_offset", INT64),
                field("committed_leader_epoch", INT32).since(6),
                field("committed_metadata", TEXT),
            ]),
        ]),
    ],
};

pub(super) static OFFSET_FETCH: Request = Request {
    versions: OffsetFetchRequest::VERSIONS,
    flexible_since: 6,
    fields: &[
        field("group_id", TEXT).until(7),
        Array("topics")
            .of::<OffsetFetchRequestTopic>(&[field("name", TEXT).until(7), field("partition_indexes", INT32S).until(7)])
            .until(7),
        Array("groups")
            .of::<OffsetFetchRequestGroup>(&[
                field("group_id", TEXT).since(8),
                field("member_id", TEXT).since(9),
                field("member_epoch", INT32).since(9),
                Array("topics")
                    .of::<OffsetFetchRequestTopics>(&[
                        field("name", TEXT).since(8),
                        field("partition_indexes", INT32S).since(8),
                    ])
                    .since(8),
            ])
            .since(8),
        field("require_stable", BOOL).since(7),
    ],
};

pub(super) static FIND_COORDINATOR: Request = Request {
    versions: FindCoordinatorRequest::VERSIONS,
    flexible_since: 3,
    fields: &[field("key", TEXT).until(3), field("key_type", INT8).since(1), field("coordinator_keys", TEXTS).since(4)],
};

pub(super) static JOIN_GROUP: Request = Request {
    versions: JoinGroupRequest::VERSIONS,
    flexible_since: 6,
    fields: &[
        field("group_id", TEXT),
        field("session_timeout_ms", INT32),
        field("rebalance_timeout_ms", INT32).since(1),
        field("member_id", TEXT),
        field("group_instance_id", TEXT).since(5),
        field("protocol_type", TEXT),
        Array("protocols").of::<JoinGroupRequestProtocol>(&[field("name", TEXT), field("metadata", BYTES)]),
        field("reason", TEXT).since(8),
    ],
};

pub(super) static HEARTBEAT: Request = Request {
    versions: HeartbeatRequest::VERSIONS,
    flexible_since: 4,
    fields: &[
        field("group_id", TEXT),
        field("generation_id", INT32),
        field("member_id", TEXT),
        field("group_instance_id", TEXT).since(3),
    ],
};

pub(super) static LEAVE_GROUP: Request = Request {
    versions: LeaveGroupRequest::VERSIONS,
    flexible_since: 4,
    fields: &[
        field("group_id", TEXT),
        field("member_id", TEXT).until(2),
        Array("members")
            .of::<MemberIdentity>(&[
                field("member_id", TEXT).since(3),
                field("group_instance_id", TEXT).since(3),
                field("reason", TEXT).since(5),
            ])
            .since(3),
    ],
};

pub(super) static SYNC_GROUP: Request = Request {
    versions: SyncGroupRequest::VERSIONS,
    flexible_since: 4,
    fields: &[
        field("group_id", TEXT),
        field("generation_id", INT32),
        field("member_id", TEXT),
        field("group_instance_id", TEXT).since(3),
        field("protocol_type", TEXT).since(5),
        field("protocol_name", TEXT).since(5),
        Array("assignments").of::<SyncGroupRequestAssignment>(&[field("member_id", TEXT), field("assignment", BYTES)]),
    ],
};

pub(super) static DESCRIBE_GROUPS: Request = Request {
    versions: DescribeGroupsRequest::VERSIONS,
    flexible_since: 5,
    fields: &[field("groups", TEXTS), field("include_authorized_operations", BOOL).since(3)],
};

pub(super) static LIST_GROUPS: Request = Request {
    versions: ListGroupsRequest::VERSIONS,
    flexible_since: 3,
    fields: &[field("states_filter", TEXTS).since(4), field("types_filter", TEXTS).since(5)],
};

pub(super) static DELETE_GROUPS: Request =
    Request { versions: DeleteGroupsRequest::VERSIONS, flexible_since: 2, fields: &[field("groups_names", TEXTS)] };

pub(super) static OFFSET_DELETE: Request = Request {
    versions: OffsetDeleteRequest::VERSIONS,
    flexible_since: NEVER,
    fields: &[
        field("group_id", TEXT),
        Array("topics").of::<OffsetDeleteRequestTopic>(&[
            field("name", TEXT),
            Array("partitions").of::<OffsetDeleteRequestPartition>(&[field("partition_index", INT32)]),
        ]),
    ],
};
