//! LeaveGroup: members leave a group; up to version 2 one, which the answer's one error is about.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::{LeaveGroupRequest, LeaveGroupResponse};

use super::Context;
use crate::node::Node;

/// From this version on several members may leave at once.
const BATCH_SINCE: i16 = 3;

pub(crate) fn handle(node: &mut Node, request: LeaveGroupRequest, context: &Context) -> LeaveGroupResponse {
    let is_batch = context.version >= BATCH_SINCE;
    let one = [MemberIdentity::default().with_member_id(request.member_id.clone())];
    let leaving = if is_batch { &request.members[..] } else { &one[..] };
    match node.groups.leave(&request.group_id, leaving, context.now) {
        Ok(members) if is_batch => LeaveGroupResponse::default().with_members(members),
        Ok(members) => {
            let code = members.first().map_or(0, |member| member.error_code);
            LeaveGroupResponse::default().with_error_code(code)
        }
        Err(error) => refuse(&request, error, context.version),
    }
}

pub(crate) fn refuse(_request: &LeaveGroupRequest, error: ResponseError, _version: i16) -> LeaveGroupResponse {
    LeaveGroupResponse::default().with_error_code(error.code())
}
