//! JoinGroup: a member joins a group, and waits until the generation is known.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::{JoinGroupRequest, JoinGroupResponse};

use super::{Context, Outcome};
use crate::node::NodeRef;

/// From this version on a rebalance time-out is given; before, the session's stands for it.
const REBALANCE_TIMEOUT_SINCE: i16 = 1;
/// From this version on there may be no protocol name.
const NULL_PROTOCOL_SINCE: i16 = 7;

pub(crate) async fn handle(
    node: &NodeRef,
    mut request: JoinGroupRequest,
    context: &Context,
) -> Outcome<JoinGroupResponse> {
    if context.version < REBALANCE_TIMEOUT_SINCE {
        request.rebalance_timeout_ms = request.session_timeout_ms;
    }
    let answer = node.borrow_mut().groups.join(&request, context);
    match answer.wait().await {
        Some(response) => Outcome::Answer(in_version(response, context.version)),
        None => Outcome::Close("the broker stops"),
    }
}

pub(crate) fn refuse(request: &JoinGroupRequest, error: ResponseError, version: i16) -> JoinGroupResponse {
    let response = JoinGroupResponse::default()
        .with_error_code(error.code())
        .with_member_id(request.member_id.clone())
        .with_protocol_name(None);
    in_version(response, version)
}

fn in_version(mut response: JoinGroupResponse, version: i16) -> JoinGroupResponse {
    if version < NULL_PROTOCOL_SINCE {
        response.protocol_name.get_or_insert_default();
    }
    response
}
