//! Members of groups on the wire, as dumb as can be: each step of the classic protocol is one call.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::join_group_response::JoinGroupResponse;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::sync_group_response::SyncGroupResponse;
use kafka_protocol::messages::{
    ConsumerProtocolSubscription, GroupId, HeartbeatRequest, JoinGroupRequest, LeaveGroupRequest, OffsetCommitRequest,
    OffsetFetchRequest, SyncGroupRequest,
};

use kafka_protocol::protocol::Encodable as _;

use crate::raw::{Connection, text, topic_name};
use crate::subject::Subject;

pub(crate) const JOIN_VERSION: i16 = 9;
pub(crate) const SYNC_VERSION: i16 = 5;

/// One member on a connection of its own.
pub(crate) struct Member {
    pub(crate) connection: Connection,
    pub(crate) group: String,
    pub(crate) id: String,
    pub(crate) instance: Option<String>,
    pub(crate) generation: i32,
    pub(crate) session_timeout_ms: i32,
    pub(crate) rebalance_timeout_ms: i32,
    pub(crate) protocols: &'static [&'static str],
    /// The metadata of all its protocols.
    pub(crate) subscription: Bytes,
}

impl Member {
    pub(crate) fn new(subject: &Subject, group: &str) -> Self {
        Self {
            connection: Connection::open(subject),
            group: group.to_owned(),
            id: String::new(),
            instance: None,
            generation: -1,
            session_timeout_ms: 60_000,
            rebalance_timeout_ms: 60_000,
            protocols: &["range"],
            subscription: subscription_to("some-topic"),
        }
    }

    pub(crate) fn of_instance(subject: &Subject, group: &str, instance: &str) -> Self {
        Self { instance: Some(instance.to_owned()), ..Self::new(subject, group) }
    }

    /// A member that has joined an empty group and led it to an assignment of `assigned` for itself.
    pub(crate) fn alone(subject: &Subject, group: &str) -> Self {
        let mut member = Self::new(subject, group);
        let joined = member.join();
        assert_eq!(joined.error_code, 0);
        assert_eq!(joined.leader, joined.member_id);
        let id = member.id.clone();
        assert_eq!(member.sync(&[(&id, b"assigned")]).error_code, 0);
        member
    }

    pub(crate) fn group_id(&self) -> GroupId {
        GroupId(text(&self.group))
    }

    fn instance_text(&self) -> Option<kafka_protocol::protocol::StrBytes> {
        self.instance.as_deref().map(text)
    }

    pub(crate) fn join_request(&self) -> JoinGroupRequest {
        self.join_request_with(self.protocols)
    }

    pub(crate) fn join_request_with(&self, protocols: &[&str]) -> JoinGroupRequest {
        let protocol = |name: &&str| {
            JoinGroupRequestProtocol::default().with_name(text(name)).with_metadata(self.subscription.clone())
        };
        JoinGroupRequest::default()
            .with_group_id(self.group_id())
            .with_session_timeout_ms(self.session_timeout_ms)
            .with_rebalance_timeout_ms(self.rebalance_timeout_ms)
            .with_member_id(text(&self.id))
            .with_group_instance_id(self.instance_text())
            .with_protocol_type(text("consumer"))
            .with_protocols(protocols.iter().map(protocol).collect())
            .with_reason(Some(text("the test")))
    }

    /// Sends the request and leaves the waiting to [`joined`](Self::joined).
    pub(crate) fn start_join(&mut self) {
        let request = self.join_request();
        self.connection.start(JOIN_VERSION, &request);
    }

    pub(crate) fn joined(&mut self) -> JoinGroupResponse {
        let response = self.connection.finish::<JoinGroupRequest>(JOIN_VERSION);
        if response.error_code == 0 {
            self.generation = response.generation_id;
        }
        if [0, 79].contains(&response.error_code) {
            self.id = response.member_id.to_string();
        }
        response
    }

    /// Joins; a member without an id is given one first (MEMBER_ID_REQUIRED), and comes back with it.
    pub(crate) fn join(&mut self) -> JoinGroupResponse {
        self.ask_for_an_id();
        self.start_join();
        self.joined()
    }

    /// A dynamic member's first request, which only gives it an id.
    pub(crate) fn ask_for_an_id(&mut self) {
        if self.id.is_empty() && self.instance.is_none() {
            self.start_join();
            assert_eq!(self.joined().error_code, 79, "MEMBER_ID_REQUIRED");
            assert!(!self.id.is_empty());
        }
    }

    pub(crate) fn start_sync(&mut self, assignments: &[(&str, &[u8])]) {
        let assignment = |(member, bytes): &(&str, &[u8])| {
            SyncGroupRequestAssignment::default()
                .with_member_id(text(member))
                .with_assignment(Bytes::copy_from_slice(bytes))
        };
        let request = SyncGroupRequest::default()
            .with_group_id(self.group_id())
            .with_generation_id(self.generation)
            .with_member_id(text(&self.id))
            .with_group_instance_id(self.instance_text())
            .with_protocol_type(Some(text("consumer")))
            .with_protocol_name(Some(text("range")))
            .with_assignments(assignments.iter().map(assignment).collect());
        self.connection.start(SYNC_VERSION, &request);
    }

    pub(crate) fn synced(&mut self) -> SyncGroupResponse {
        self.connection.finish::<SyncGroupRequest>(SYNC_VERSION)
    }

    pub(crate) fn sync(&mut self, assignments: &[(&str, &[u8])]) -> SyncGroupResponse {
        self.start_sync(assignments);
        self.synced()
    }

    pub(crate) fn heartbeat(&mut self) -> i16 {
        let request = HeartbeatRequest::default()
            .with_group_id(self.group_id())
            .with_generation_id(self.generation)
            .with_member_id(text(&self.id))
            .with_group_instance_id(self.instance_text());
        self.connection.ask(4, request).error_code
    }

    /// Leaves and gives the error of the request and of the member.
    pub(crate) fn leave(&mut self) -> (i16, i16) {
        let identity =
            MemberIdentity::default().with_member_id(text(&self.id)).with_group_instance_id(self.instance_text());
        let request = LeaveGroupRequest::default().with_group_id(self.group_id()).with_members(vec![identity]);
        let response = self.connection.ask(5, request);
        (response.error_code, response.members.first().map_or(-1, |member| member.error_code))
    }

    /// Commits one partition's offset in this member's name.
    pub(crate) fn commit(&mut self, topic: &str, partition: i32, offset: i64) -> i16 {
        let request = commit_request(&self.group, topic, partition, offset, "")
            .with_member_id(text(&self.id))
            .with_group_instance_id(self.instance_text())
            .with_generation_id_or_member_epoch(self.generation);
        self.connection.ask(8, request).topics[0].partitions[0].error_code
    }
}

/// What a consumer says of itself when it joins: Kafka reads it, and one that it cannot read would halt its group.
pub(crate) fn subscription_to(topic: &str) -> Bytes {
    let subscription = ConsumerProtocolSubscription::default().with_topics(vec![text(topic)]);
    let mut buffer = BytesMut::from(&1_i16.to_be_bytes()[..]);
    subscription.encode(&mut buffer, 1).unwrap();
    buffer.freeze()
}

/// A commit from outside of the group's membership.
pub(crate) fn commit_request(
    group: &str,
    topic: &str,
    partition: i32,
    offset: i64,
    metadata: &str,
) -> OffsetCommitRequest {
    let partition = OffsetCommitRequestPartition::default()
        .with_partition_index(partition)
        .with_committed_offset(offset)
        .with_committed_metadata(Some(text(metadata)));
    let topic = OffsetCommitRequestTopic::default().with_name(topic_name(topic)).with_partitions(vec![partition]);
    OffsetCommitRequest::default()
        .with_group_id(GroupId(text(group)))
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![topic])
}

/// Commits from outside of the group's membership.
pub(crate) fn commit(connection: &mut Connection, group: &str, topic: &str, partition: i32, offset: i64) -> i16 {
    connection.ask(8, commit_request(group, topic, partition, offset, "")).topics[0].partitions[0].error_code
}

/// What is committed: `(error, offset, metadata)`; offset -1 for nothing.
pub(crate) fn committed(
    connection: &mut Connection,
    group: &str,
    topic: &str,
    partition: i32,
    require_stable: bool,
) -> (i16, i64, String) {
    let topics =
        OffsetFetchRequestTopics::default().with_name(topic_name(topic)).with_partition_indexes(vec![partition]);
    let group = OffsetFetchRequestGroup::default().with_group_id(GroupId(text(group))).with_topics(Some(vec![topics]));
    let request = OffsetFetchRequest::default().with_groups(vec![group]).with_require_stable(require_stable);
    let mut group = connection.ask(8, request).groups.remove(0);
    assert_eq!(group.error_code, 0);
    let told = group.topics.remove(0).partitions.remove(0);
    (told.error_code, told.committed_offset, told.metadata.map(|text| text.to_string()).unwrap_or_default())
}
