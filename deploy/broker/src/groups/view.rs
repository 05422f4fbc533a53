//! What can be seen of groups: committed offsets, lists, descriptions.
//!
//! Source: Apache Kafka's `OffsetMetadataManager.fetchOffsets` and `GroupMetadataManager.describeGroups`.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::offset_fetch_response::{OffsetFetchResponsePartitions, OffsetFetchResponseTopics};

use super::Groups;
use super::group::{Group, State};
use super::member::Member;

/// The type of group that all groups here are, as Kafka names it.
const CLASSIC: &str = "classic";
/// What a partition without a committed offset is answered.
const NO_OFFSET: i64 = -1;

impl Groups {
    /// The committed offset of a partition. With `require_stable` one that an open transaction has staged an offset for is
    /// answered `UnstableOffsetCommit`.
    pub(crate) fn fetch(
        &self,
        group_id: &str,
        topic: &str,
        partition: i32,
        require_stable: bool,
    ) -> OffsetFetchResponsePartitions {
        fetch_one(self.groups.get(group_id), topic, partition, require_stable)
    }

    /// As [`fetch`](Self::fetch), of all partitions that have one.
    pub(crate) fn fetch_all(&self, group_id: &str, require_stable: bool) -> Vec<OffsetFetchResponseTopics> {
        self.groups.get(group_id).map(|group| fetch_all(group, require_stable)).unwrap_or_default()
    }

    /// All groups, in the order of their ids.
    pub(crate) fn list(&self) -> impl Iterator<Item = ListedGroup> {
        self.groups.iter().map(|(id, group)| {
            ListedGroup::default()
                .with_group_id(text(id).into())
                .with_protocol_type(text(group.protocol_type.as_deref().unwrap_or_default()))
                .with_group_state(group.state.name().into())
                .with_group_type(CLASSIC.into())
        })
    }

    /// A group and its members, if it is there. What a member said for the protocol and what it was assigned is shown of
    /// stable groups only.
    pub(crate) fn describe(&self, group_id: &str) -> Option<DescribedGroup> {
        let group = self.groups.get(group_id)?;
        let is_stable = group.state == State::Stable;
        let protocol = group.protocol.as_deref().filter(|_| is_stable);
        let members = group.members.iter().map(|(id, member)| describe_member(id, member, protocol));
        let described = DescribedGroup::default()
            .with_group_id(text(group_id).into())
            .with_group_state(group.state.name().into())
            .with_protocol_type(text(group.protocol_type.as_deref().unwrap_or_default()))
            .with_protocol_data(text(protocol.unwrap_or_default()))
            .with_members(members.collect());
        Some(described)
    }
}

fn fetch_all(group: &Group, require_stable: bool) -> Vec<OffsetFetchResponseTopics> {
    let mut topics: Vec<OffsetFetchResponseTopics> = Vec::new();
    for (topic, partition, _) in group.offsets.iter() {
        let fetched = fetch_one(Some(group), topic, partition, require_stable);
        match topics.last_mut().filter(|last| last.name.as_str() == topic) {
            Some(last) => last.partitions.push(fetched),
            None => {
                let new = OffsetFetchResponseTopics::default().with_name(text(topic).into());
                topics.push(new.with_partitions(vec![fetched]));
            }
        }
    }
    topics
}

fn fetch_one(
    group: Option<&Group>,
    topic: &str,
    partition: i32,
    require_stable: bool,
) -> OffsetFetchResponsePartitions {
    let none = OffsetFetchResponsePartitions::default()
        .with_partition_index(partition)
        .with_committed_offset(NO_OFFSET)
        .with_committed_leader_epoch(-1)
        .with_metadata(Some(text("")));
    let Some(group) = group else { return none };
    if require_stable && group.offsets.is_unstable(topic, partition) {
        return none.with_error_code(ResponseError::UnstableOffsetCommit.code());
    }
    match group.offsets.get(topic, partition) {
        None => none,
        Some(committed) => none
            .with_committed_offset(committed.offset)
            .with_committed_leader_epoch(committed.leader_epoch)
            .with_metadata(Some(text(&committed.metadata))),
    }
}

fn describe_member(id: &str, member: &Member, protocol: Option<&str>) -> DescribedGroupMember {
    let described = DescribedGroupMember::default()
        .with_member_id(text(id))
        .with_group_instance_id(member.instance_id.as_deref().map(text))
        .with_client_id(text(&member.client_id))
        .with_client_host(text(&member.client_host));
    match protocol {
        None => described,
        Some(_) => {
            described.with_member_metadata(member.metadata(protocol)).with_member_assignment(member.assignment.clone())
        }
    }
}

fn text(text: &str) -> kafka_protocol::protocol::StrBytes {
    text.to_owned().into()
}
