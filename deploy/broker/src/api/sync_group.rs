//! SyncGroup: a member asks for its assignment, and waits until the leader has brought it.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::{SyncGroupRequest, SyncGroupResponse};

use super::{Context, Outcome};
use crate::node::NodeRef;

pub(crate) async fn handle(node: &NodeRef, request: SyncGroupRequest, context: &Context) -> Outcome<SyncGroupResponse> {
    // From this version on the protocol must be told.
    const PROTOCOL_SINCE: i16 = 5;
    if context.version >= PROTOCOL_SINCE && (request.protocol_type.is_none() || request.protocol_name.is_none()) {
        return Outcome::Answer(refuse(&request, ResponseError::InconsistentGroupProtocol, context.version));
    }
    let answer = node.borrow_mut().groups.sync(&request, context.now);
    match answer.wait().await {
        Some(response) => Outcome::Answer(response),
        None => Outcome::Close("the broker stops"),
    }
}

pub(crate) fn refuse(_request: &SyncGroupRequest, error: ResponseError, _version: i16) -> SyncGroupResponse {
    SyncGroupResponse::default().with_error_code(error.code())
}
