//! DeleteGroups: groups without members go, with their offsets.

use std::collections::BTreeSet;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::{DeleteGroupsRequest, DeleteGroupsResponse};

use super::Context;
use crate::node::Node;

pub(crate) fn handle(node: &mut Node, request: DeleteGroupsRequest, context: &Context) -> DeleteGroupsResponse {
    // A group that is named twice is deleted, and answered, once.
    let mut seen = BTreeSet::new();
    let groups = request.groups_names.iter().filter(|id| seen.insert(id.as_str()));
    let results = groups.map(|id| {
        let code = node.groups.delete(id, context.now).err().map_or(0, |error| error.code());
        DeletableGroupResult::default().with_group_id(id.clone()).with_error_code(code)
    });
    DeleteGroupsResponse::default().with_results(results.collect())
}

pub(crate) fn refuse(request: &DeleteGroupsRequest, error: ResponseError, _version: i16) -> DeleteGroupsResponse {
    let results = request
        .groups_names
        .iter()
        .map(|id| DeletableGroupResult::default().with_group_id(id.clone()).with_error_code(error.code()));
    DeleteGroupsResponse::default().with_results(results.collect())
}
