//! SyncGroup, Heartbeat and LeaveGroup.
//!
//! Source: Apache Kafka's `GroupMetadataManager` (`classicGroupSync`, `classicGroupHeartbeat`, `classicGroupLeave`).

use std::collections::BTreeMap;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::{HeartbeatRequest, SyncGroupRequest, SyncGroupResponse};
use tokio::sync::oneshot;

use super::Answer;
use super::group::{Group, State};
use super::member::refused_sync;
use super::turn::Turn;

impl Group {
    /// A member asks for its assignment; the leader brings those of all.
    pub(super) fn sync(&mut self, request: &SyncGroupRequest, turn: &mut Turn<'_>) -> Answer<SyncGroupResponse> {
        let id = request.member_id.as_str();
        if let Err(error) = self.check_sync(request) {
            return Answer::Now(refused_sync(error));
        }
        let Some(member) = self.members.get_mut(id) else {
            return Answer::Now(refused_sync(ResponseError::UnknownMemberId));
        };
        match self.state {
            State::Empty => Answer::Now(refused_sync(ResponseError::UnknownMemberId)),
            State::PreparingRebalance { .. } => Answer::Now(refused_sync(ResponseError::RebalanceInProgress)),
            State::CompletingRebalance => {
                let (sender, receiver) = oneshot::channel();
                member.wait_to_sync(sender);
                self.sync_arrived(id);
                if self.is_leader(id) {
                    self.assign(request, turn);
                }
                Answer::Later(receiver)
            }
            State::Stable => {
                let response = SyncGroupResponse::default()
                    .with_protocol_type(self.protocol_type.clone().map(Into::into))
                    .with_protocol_name(self.protocol.clone().map(Into::into))
                    .with_assignment(member.assignment.clone());
                self.sync_arrived(id);
                Answer::Now(response)
            }
        }
    }

    fn check_sync(&self, request: &SyncGroupRequest) -> Result<(), ResponseError> {
        if self.is_empty() {
            return Err(ResponseError::UnknownMemberId);
        }
        self.check_member(&request.member_id, request.group_instance_id.as_deref())?;
        if request.generation_id != self.generation {
            return Err(ResponseError::IllegalGeneration);
        }
        let differs = |asked: Option<&str>, is: Option<&str>| asked.is_some() && is.is_some() && asked != is;
        if differs(request.protocol_type.as_deref(), self.protocol_type.as_deref())
            || differs(request.protocol_name.as_deref(), self.protocol.as_deref())
        {
            return Err(ResponseError::InconsistentGroupProtocol);
        }
        Ok(())
    }

    /// Settles the generation with the leader's assignments; a member that it left out gets an empty one.
    fn assign(&mut self, request: &SyncGroupRequest, turn: &mut Turn<'_>) {
        let parts = request.assignments.iter().map(|part| (part.member_id.as_str(), &part.assignment[..]));
        let assignments: BTreeMap<&str, &[u8]> = parts.collect();
        for (id, member) in &mut self.members {
            // A copy, as the request's bytes are a part of a whole frame.
            member.assignment = Bytes::copy_from_slice(assignments.get(id.as_str()).copied().unwrap_or_default());
        }
        self.enter(State::Stable, turn);
        match self.settle(turn) {
            Ok(()) => self.answer_syncs(turn),
            Err(error) => {
                self.refuse_syncs(error, turn);
                self.prepare_rebalance("the generation could not be written", turn);
            }
        }
    }

    /// A member says that it is alive, and is told whether it has to join again.
    pub(super) fn heartbeat(&mut self, request: &HeartbeatRequest, turn: &mut Turn<'_>) -> Result<(), ResponseError> {
        let id = request.member_id.as_str();
        self.check_member(id, request.group_instance_id.as_deref())?;
        if request.generation_id != self.generation {
            return Err(ResponseError::IllegalGeneration);
        }
        self.extend_session(id, turn);
        if self.is_preparing() { Err(ResponseError::RebalanceInProgress) } else { Ok(()) }
    }

    /// A member's session begins anew.
    pub(super) fn extend_session(&mut self, id: &str, turn: &mut Turn<'_>) {
        if let Some(member) = self.members.get_mut(id) {
            member.session_end = Some(turn.deadline(member.session_timeout));
        }
    }

    /// Members leave, or are removed by their instance ids.
    pub(super) fn leave(&mut self, leaving: &[MemberIdentity], turn: &mut Turn<'_>) -> Vec<MemberResponse> {
        let mut has_left = false;
        let responses = leaving.iter().map(|identity| {
            let result = self.leave_one(identity);
            has_left |= result.is_ok();
            left(identity, result)
        });
        let responses = responses.collect();
        if has_left && !self.is_empty() {
            self.rebalance_or_complete("members leave", turn);
        }
        responses
    }

    fn leave_one(&mut self, identity: &MemberIdentity) -> Result<(), ResponseError> {
        let (id, instance_id) = (identity.member_id.as_str(), identity.group_instance_id.as_deref());
        let id = if id.is_empty() {
            // An administrator names the instance only.
            let current = instance_id.and_then(|instance_id| self.static_members.get(instance_id));
            current.ok_or(ResponseError::UnknownMemberId)?.clone()
        } else {
            if !self.pending.contains_key(id) {
                self.check_member(id, instance_id)?;
            }
            id.to_owned()
        };
        self.remove(&id);
        Ok(())
    }
}

/// The answer to one of those who leave.
pub(super) fn left(identity: &MemberIdentity, result: Result<(), ResponseError>) -> MemberResponse {
    MemberResponse::default()
        .with_member_id(identity.member_id.clone())
        .with_group_instance_id(identity.group_instance_id.clone())
        .with_error_code(result.err().map_or(0, |error| error.code()))
}
