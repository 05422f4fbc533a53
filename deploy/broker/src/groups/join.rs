//! JoinGroup: a member comes, or comes again.
//!
//! Source: Apache Kafka's `GroupMetadataManager.classicGroupJoin`; KIP-345 (static members), KIP-394 (a new member is told its
//! id first), KIP-814 (a returning static leader need not assign anew).

use kafka_protocol::ResponseError;
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::{JoinGroupRequest, JoinGroupResponse};
use tokio::sync::oneshot;

use super::Answer;
use super::group::{Group, State};
use super::member::{Member, milliseconds, refused_join};
use super::turn::Turn;
use crate::api::Context;

/// From this version on a new dynamic member is told its id before it is let in.
const MEMBER_ID_REQUIRED_SINCE: i16 = 4;
/// From this version on the leader can be told to leave the assignment as it is.
const SKIP_ASSIGNMENT_SINCE: i16 = 9;

impl Group {
    /// A member joins; `fresh_id` becomes its id if it brings none.
    pub(super) fn join(
        &mut self,
        request: &JoinGroupRequest,
        context: &Context,
        fresh_id: String,
        turn: &mut Turn<'_>,
    ) -> Answer<JoinGroupResponse> {
        let id = request.member_id.as_str();
        if !self.has_room_for(id, turn.settings.members_max) {
            self.remove(id);
            self.try_complete_join(turn);
            return refused("", ResponseError::GroupMaxSizeReached);
        }
        if !self.supports(&request.protocol_type, &request.protocols) {
            return refused(id, ResponseError::InconsistentGroupProtocol);
        }
        if id.is_empty() {
            self.join_new(request, context, fresh_id, turn)
        } else if self.pending.contains_key(id) {
            if request.group_instance_id.is_some() {
                // Ids are handed out in advance to dynamic members only.
                return refused("", ResponseError::UnknownServerError);
            }
            self.add_joining(request, context, id.to_owned(), turn)
        } else {
            self.join_again(request, turn)
        }
    }

    /// While members join, those who already wait have their place, and the others come until it is full; later those who
    /// are in it have theirs.
    fn has_room_for(&self, id: &str, members_max: usize) -> bool {
        let member = self.members.get(id);
        let has_room = match self.state {
            State::Empty => true,
            State::PreparingRebalance { .. } => {
                member.is_some_and(Member::is_waiting_to_join) || self.count_waiting_to_join() < members_max
            }
            State::CompletingRebalance | State::Stable => member.is_some() || self.members.len() < members_max,
        };
        // Kafka sets no bound to the ids that are handed out in advance.
        has_room && (!id.is_empty() || self.pending.len() < members_max)
    }

    fn join_new(
        &mut self,
        request: &JoinGroupRequest,
        context: &Context,
        fresh_id: String,
        turn: &mut Turn<'_>,
    ) -> Answer<JoinGroupResponse> {
        if let Some(instance_id) = request.group_instance_id.as_deref() {
            return match self.static_members.get(instance_id).cloned() {
                Some(current) => self.replace_static(request, context, &current, fresh_id, turn),
                None => self.add_joining(request, context, fresh_id, turn),
            };
        }
        if context.version < MEMBER_ID_REQUIRED_SINCE {
            return self.add_joining(request, context, fresh_id, turn);
        }
        let until = turn.deadline(milliseconds(request.session_timeout_ms));
        self.pending.insert(fresh_id.clone(), until);
        refused(&fresh_id, ResponseError::MemberIdRequired)
    }

    fn join_again(&mut self, request: &JoinGroupRequest, turn: &mut Turn<'_>) -> Answer<JoinGroupResponse> {
        let id = request.member_id.as_str();
        if let Err(error) = self.check_member(id, request.group_instance_id.as_deref()) {
            return refused(id, error);
        }
        let is_unchanged = self.members.get(id).is_some_and(|member| member.matches(request));
        match self.state {
            // No members, so the check has refused it.
            State::Empty => refused(id, ResponseError::UnknownMemberId),
            // It may have missed the answer to its first try.
            State::CompletingRebalance if is_unchanged => Answer::Now(self.current(id)),
            // A follower with nothing new gets its place back; a leader joins again because it wants another assignment.
            State::Stable if is_unchanged && !self.is_leader(id) => Answer::Now(self.current(id)),
            _ => {
                let (sender, receiver) = oneshot::channel();
                self.update(id, |member| {
                    member.update(request);
                    member.wait_to_join(sender);
                });
                self.rebalance_or_complete("a member joins again", turn);
                Answer::Later(receiver)
            }
        }
    }

    /// Lets a new member in.
    fn add_joining(
        &mut self,
        request: &JoinGroupRequest,
        context: &Context,
        id: String,
        turn: &mut Turn<'_>,
    ) -> Answer<JoinGroupResponse> {
        let (sender, receiver) = oneshot::channel();
        let mut member = Member::new(request, context);
        member.wait_to_join(sender);
        member.session_end = Some(turn.deadline(turn.settings.new_member_join_timeout));
        if let State::PreparingRebalance { initial: Some(initial), .. } = &mut self.state {
            initial.has_new_member = true;
        }
        self.add(id, member, &request.protocol_type);
        self.rebalance_or_complete("a new member joins", turn);
        Answer::Later(receiver)
    }

    /// A static member is back without its id: it takes the place of the one that had its instance id, which is fenced.
    fn replace_static(
        &mut self,
        request: &JoinGroupRequest,
        context: &Context,
        current: &str,
        fresh_id: String,
        turn: &mut Turn<'_>,
    ) -> Answer<JoinGroupResponse> {
        let (sender, receiver) = oneshot::channel();
        let session_end = turn.deadline(milliseconds(request.session_timeout_ms));
        let before = self.members.get(current).map(|member| {
            (member.protocols.clone(), member.rebalance_timeout, member.session_timeout, member.session_end)
        });
        let was_leader = self.is_leader(current);
        self.rename(current, fresh_id.clone(), |member| {
            let fenced = ResponseError::FencedInstanceId;
            if !member.answer_join(refused_join(current, fenced)) {
                member.refuse(fenced);
            }
            member.update(request);
            member.is_new = false;
            member.session_end = Some(session_end);
            member.wait_to_join(sender);
        });
        match self.state {
            State::Stable if self.vote() == self.protocol => {}
            State::Stable | State::CompletingRebalance => {
                // The leader may be assigning to the old id.
                self.prepare_rebalance("a static member is back", turn);
                return Answer::Later(receiver);
            }
            State::Empty | State::PreparingRebalance { .. } => {
                self.try_complete_join(turn);
                return Answer::Later(receiver);
            }
        }
        // Its place, protocol and assignment are as they were: no rebalance, but its new id must survive a restart.
        let mut response = self.current(&fresh_id);
        if let Err(error) = self.settle(turn) {
            let (protocols, rebalance_timeout, session_timeout, session_end) = before.unwrap_or_default();
            self.rename(&fresh_id, current.to_owned(), |member| {
                member.protocols = protocols;
                member.rebalance_timeout = rebalance_timeout;
                member.session_timeout = session_timeout;
                member.session_end = session_end;
                member.refuse(error);
            });
            return Answer::Later(receiver);
        }
        if context.version >= SKIP_ASSIGNMENT_SINCE {
            response.skip_assignment = was_leader;
        } else if was_leader {
            // An older client would assign anew if it knew that it leads.
            response.leader = current.to_owned().into();
            response.members.clear();
        }
        self.update(&fresh_id, |member| {
            member.answer_join(response);
        });
        Answer::Later(receiver)
    }

    /// The current generation as a member is told of it; the leader is told the members too.
    pub(super) fn current(&self, id: &str) -> JoinGroupResponse {
        let members = if self.is_leader(id) { self.members_for_leader() } else { Vec::new() };
        JoinGroupResponse::default()
            .with_generation_id(self.generation)
            .with_protocol_type(self.protocol_type.clone().map(Into::into))
            .with_protocol_name(self.protocol.clone().map(Into::into))
            .with_leader(self.leader.clone().unwrap_or_default().into())
            .with_member_id(id.to_owned().into())
            .with_members(members)
    }

    fn members_for_leader(&self) -> Vec<JoinGroupResponseMember> {
        let protocol = self.protocol.as_deref();
        let members = self.members.iter().map(|(id, member)| {
            JoinGroupResponseMember::default()
                .with_member_id(id.clone().into())
                .with_group_instance_id(member.instance_id.clone().map(Into::into))
                .with_metadata(member.metadata(protocol))
        });
        members.collect()
    }
}

/// A refusal, at once.
fn refused(member_id: &str, error: ResponseError) -> Answer<JoinGroupResponse> {
    Answer::Now(refused_join(member_id, error))
}
