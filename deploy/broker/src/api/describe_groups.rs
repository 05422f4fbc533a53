//! DescribeGroups: groups and their members.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_groups_response::DescribedGroup;
use kafka_protocol::messages::{DescribeGroupsRequest, DescribeGroupsResponse, GroupId};

use super::Context;
use crate::node::Node;

/// From this version on a group that is not there is an error, not only dead.
const NOT_FOUND_SINCE: i16 = 6;
/// Read, delete, describe, describe and alter settings, as bits of Kafka's `AclOperation` codes: nobody is refused anything.
const ALL_OPERATIONS: i32 = 1 << 3 | 1 << 6 | 1 << 8 | 1 << 10 | 1 << 11;

pub(crate) fn handle(node: &mut Node, request: DescribeGroupsRequest, context: &Context) -> DescribeGroupsResponse {
    let groups = request.groups.iter().map(|id| {
        let group = node.groups.describe(id).unwrap_or_else(|| dead(id, context.version));
        let is_operations_asked = request.include_authorized_operations && group.error_code == 0;
        if is_operations_asked { group.with_authorized_operations(ALL_OPERATIONS) } else { group }
    });
    DescribeGroupsResponse::default().with_groups(context.fill(groups).collect())
}

pub(crate) fn refuse(request: &DescribeGroupsRequest, error: ResponseError, _version: i16) -> DescribeGroupsResponse {
    let groups = request
        .groups
        .iter()
        .map(|id| DescribedGroup::default().with_group_id(id.clone()).with_error_code(error.code()));
    DescribeGroupsResponse::default().with_groups(groups.collect())
}

fn dead(id: &GroupId, version: i16) -> DescribedGroup {
    let group = DescribedGroup::default().with_group_id(id.clone()).with_group_state("Dead".into());
    if version < NOT_FOUND_SINCE {
        return group;
    }
    group
        .with_error_code(ResponseError::GroupIdNotFound.code())
        .with_error_message(Some(format!("Group {} not found.", id.as_str()).into()))
}
