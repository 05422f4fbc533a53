//! ListGroups: all groups, or those in some states or of some types.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::{ListGroupsRequest, ListGroupsResponse};
use kafka_protocol::protocol::StrBytes;

use super::Context;
use crate::node::Node;

pub(crate) fn handle(node: &mut Node, request: ListGroupsRequest, _context: &Context) -> ListGroupsResponse {
    let groups = node.groups.list().filter(|group| {
        passes(&request.states_filter, &group.group_state) && passes(&request.types_filter, &group.group_type)
    });
    ListGroupsResponse::default().with_groups(groups.collect())
}

pub(crate) fn refuse(_request: &ListGroupsRequest, error: ResponseError, _version: i16) -> ListGroupsResponse {
    ListGroupsResponse::default().with_error_code(error.code())
}

/// No filter lets everything pass; capitals do not count.
fn passes(filter: &[StrBytes], value: &str) -> bool {
    filter.is_empty() || filter.iter().any(|name| name.trim().eq_ignore_ascii_case(value))
}
