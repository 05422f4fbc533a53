//! OffsetDelete: committed offsets that nobody needs any more.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::{OffsetDeleteRequest, OffsetDeleteResponse};

use super::Context;
use crate::node::Node;

pub(crate) fn handle(node: &mut Node, request: OffsetDeleteRequest, context: &Context) -> OffsetDeleteResponse {
    let Node { topics, groups, .. } = node;
    groups.delete_offsets(&request, &|topic, partition| topics.partition(topic, partition).is_ok(), context.now)
}

pub(crate) fn refuse(_request: &OffsetDeleteRequest, error: ResponseError, _version: i16) -> OffsetDeleteResponse {
    OffsetDeleteResponse::default().with_error_code(error.code())
}
