//! The way from one generation to the next, and what time does to a group.
//!
//! ```text
//! Empty / Stable / CompletingRebalance -> PreparingRebalance -> CompletingRebalance -> Stable
//!                                                            -> Empty (nobody came)
//! ```
//! Source: Apache Kafka's `GroupMetadataManager` (`prepareRebalance`, `completeClassicGroupJoin`, the time-outs).

use std::time::{Duration, Instant};

use kafka_protocol::ResponseError;
use kafka_protocol::messages::SyncGroupResponse;

use super::group::{Group, InitialDelay, State};
use super::member::{Member, refused_sync};
use super::turn::Turn;

/// A group of absent static members with a rebalance time-out of nothing is not looked at more often than this.
const RETRY_MIN: Duration = Duration::from_millis(100);

/// Whose time is up.
#[derive(Clone, Debug)]
enum Expired {
    /// A member's session, or the place kept for a pending id.
    Session(String),
    /// The wait for members to join.
    Join,
    /// The wait for members to sync.
    Sync,
}

impl Group {
    /// Begins a rebalance, or if one is under way completes its joining if nobody is missing any more.
    pub(super) fn rebalance_or_complete(&mut self, reason: &str, turn: &mut Turn<'_>) {
        if self.is_preparing() {
            self.try_complete_join(turn);
        } else {
            self.prepare_rebalance(reason, turn);
        }
    }

    /// Begins a rebalance. Members that wait for their assignment are told to join again.
    pub(super) fn prepare_rebalance(&mut self, reason: &str, turn: &mut Turn<'_>) {
        tracing::debug!(group = self.id, generation = self.generation, reason, "rebalance");
        if self.state == State::CompletingRebalance {
            self.refuse_syncs(ResponseError::RebalanceInProgress, turn);
        }
        self.end_sync_wait();
        if self.is_empty() {
            let delay = turn.settings.initial_rebalance_delay;
            let remaining = self.rebalance_timeout().saturating_sub(delay);
            let initial = InitialDelay { delay, remaining, has_new_member: false };
            let deadline = turn.deadline(delay);
            self.enter(State::PreparingRebalance { deadline, initial: Some(initial) }, turn);
            if delay.is_zero() {
                self.complete_join(turn);
            }
            return;
        }
        let deadline = turn.deadline(self.rebalance_timeout());
        self.enter(State::PreparingRebalance { deadline, initial: None }, turn);
        self.try_complete_join(turn);
    }

    /// Completes the joining if nobody is missing; that of a new group only ends with its delay.
    pub(super) fn try_complete_join(&mut self, turn: &mut Turn<'_>) {
        if self.is_preparing() && !self.is_preparing_first() && self.has_all_joined() {
            self.complete_join(turn);
        }
    }

    /// The next generation, of those who have joined and of the static members that have not.
    fn complete_join(&mut self, turn: &mut Turn<'_>) {
        for id in self.ids(|member| !member.is_waiting_to_join() && member.instance_id.is_none()) {
            self.remove(&id);
        }
        if !self.elect_joined_leader() && !self.members.is_empty() {
            // Only static members are left, and none of them came: their sessions decide.
            let deadline = turn.deadline(self.rebalance_timeout().max(RETRY_MIN));
            self.state = State::PreparingRebalance { deadline, initial: None };
            return;
        }
        self.generation = self.generation.wrapping_add(1);
        self.end_sync_wait();
        if self.members.is_empty() {
            self.protocol = None;
            self.subscribed = self.read_subscriptions();
            self.enter(State::Empty, turn);
            // If this is lost, a restart brings the last generation back, whose members time out.
            let _ = self.settle(turn);
        } else {
            self.protocol = self.vote();
            self.subscribed = self.read_subscriptions();
            self.enter(State::CompletingRebalance, turn);
            self.announce(turn);
        }
        let (members, protocol) = (self.members.len(), self.protocol.as_deref());
        tracing::debug!(group = self.id, generation = self.generation, members, protocol, "generation");
    }

    fn ids(&self, is_meant: impl Fn(&Member) -> bool) -> Vec<String> {
        self.members.iter().filter(|(_, member)| is_meant(member)).map(|(id, _)| id.clone()).collect()
    }

    /// Whether there is a leader and it has joined; another one of those who have is chosen if it has not.
    fn elect_joined_leader(&mut self) -> bool {
        let Some(leader) = &self.leader else { return false };
        if self.members.get(leader).is_some_and(|member| member.is_waiting_to_join()) {
            return true;
        }
        let joined = self.members.iter().find(|(_, member)| member.is_waiting_to_join());
        let Some((joined, _)) = joined else { return false };
        self.leader = Some(joined.clone());
        true
    }

    /// Answers all joins with the new generation; everybody's sync is awaited from now on.
    fn announce(&mut self, turn: &mut Turn<'_>) {
        for id in self.ids(|_| true) {
            let response = self.current(&id);
            let Some(member) = self.members.get_mut(&id) else { continue };
            member.answer_join(response);
            member.is_new = false;
            member.session_end = Some(turn.deadline(member.session_timeout));
            self.pending_sync.insert(id);
        }
        self.sync_deadline = Some(turn.deadline(self.rebalance_timeout()));
    }

    /// Takes the assignments back and answers all syncs that wait with an error.
    pub(super) fn refuse_syncs(&mut self, error: ResponseError, turn: &mut Turn<'_>) {
        for member in self.members.values_mut() {
            member.assignment.clear();
            if member.answer_sync(refused_sync(error)) {
                member.session_end = Some(turn.deadline(member.session_timeout));
            }
        }
    }

    /// Answers all syncs that wait with the members' assignments.
    pub(super) fn answer_syncs(&mut self, turn: &mut Turn<'_>) {
        for member in self.members.values_mut() {
            let response = SyncGroupResponse::default()
                .with_protocol_type(self.protocol_type.clone().map(Into::into))
                .with_protocol_name(self.protocol.clone().map(Into::into))
                .with_assignment(member.assignment.clone());
            if member.answer_sync(response) {
                // Its session may have ended while it waited.
                member.session_end = Some(turn.deadline(member.session_timeout));
            }
        }
    }

    /// A member's sync is here.
    pub(super) fn sync_arrived(&mut self, id: &str) {
        self.pending_sync.remove(id);
        if self.pending_sync.is_empty() {
            self.sync_deadline = None;
        }
    }

    fn end_sync_wait(&mut self) {
        self.pending_sync.clear();
        self.sync_deadline = None;
    }

    /// Lets the time have its way: everything that is due happens, in the order in which it was due.
    pub(super) fn tick(&mut self, turn: &mut Turn<'_>) {
        while let Some((_, expired)) = self.next_expired(turn.now.instant) {
            match expired {
                Expired::Session(id) => self.end_session(&id, turn),
                Expired::Join => self.end_join_wait(turn),
                Expired::Sync => self.end_overdue_sync(turn),
            }
        }
    }

    fn next_expired(&self, now: Instant) -> Option<(Instant, Expired)> {
        let sessions = self.members.iter().filter_map(|(id, member)| Some((member.session_end?, id)));
        let pending = self.pending.iter().map(|(id, until)| (*until, id));
        let session = sessions.chain(pending).min().map(|(end, id)| (end, Expired::Session(id.clone())));
        let join = match self.state {
            State::PreparingRebalance { deadline, .. } => Some((deadline, Expired::Join)),
            _ => None,
        };
        let sync = self.sync_deadline.map(|deadline| (deadline, Expired::Sync));
        let next = session.into_iter().chain(join).chain(sync).min_by_key(|(at, _)| *at)?;
        (next.0 <= now).then_some(next)
    }

    /// A session is over. A member that waits for an answer is not dead: its next session begins with the answer. A new one
    /// has waited too long.
    fn end_session(&mut self, id: &str, turn: &mut Turn<'_>) {
        let Some(member) = self.members.get_mut(id) else {
            self.remove(id);
            self.complete_after_loss(turn);
            return;
        };
        if member.is_waiting() && !member.is_new {
            member.session_end = None;
            return;
        }
        tracing::debug!(group = self.id, member = id, "session is over");
        self.remove(id);
        match self.state {
            State::Stable | State::CompletingRebalance => self.prepare_rebalance("a member's session is over", turn),
            State::Empty | State::PreparingRebalance { .. } => self.complete_after_loss(turn),
        }
    }

    /// The one who is gone may have been the last that was waited for.
    fn complete_after_loss(&mut self, turn: &mut Turn<'_>) {
        if self.is_preparing() && self.has_all_joined() {
            self.complete_join(turn);
        }
    }

    fn end_join_wait(&mut self, turn: &mut Turn<'_>) {
        let State::PreparingRebalance { initial: Some(initial), .. } = self.state else {
            return self.complete_join(turn);
        };
        if !initial.has_new_member || initial.remaining.is_zero() {
            return self.complete_join(turn);
        }
        let delay = turn.settings.initial_rebalance_delay.min(initial.remaining);
        let remaining = initial.remaining.saturating_sub(initial.delay);
        let initial = Some(InitialDelay { delay, remaining, has_new_member: false });
        self.state = State::PreparingRebalance { deadline: turn.deadline(delay), initial };
    }

    /// Members whose sync did not come are out.
    fn end_overdue_sync(&mut self, turn: &mut Turn<'_>) {
        self.sync_deadline = None;
        let overdue = std::mem::take(&mut self.pending_sync);
        if overdue.is_empty() {
            return;
        }
        for id in &overdue {
            self.remove(id);
        }
        self.prepare_rebalance("members did not sync in time", turn);
    }
}
