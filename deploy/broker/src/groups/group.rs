//! One group: its state, its members, and what can be asked of it. How it changes is in `join`, `rebalance`, `sync` and
//! `leave`.
//!
//! Invariants: a leader is a member; a static member's instance id leads to it and to nobody else; an `Empty` group has no
//! members; a request waits only in `PreparingRebalance` (joins) or `CompletingRebalance` (syncs).
//! Source: Apache Kafka's `ClassicGroup`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use kafka_protocol::ResponseError;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;

use super::member::Member;
use super::offsets::Offsets;
use super::record::{Record, Settled};
use super::subscription;
use super::turn::Turn;
use crate::node::Now;

/// The protocol type of consumers, whose members' metadata the broker can read.
const CONSUMER: &str = "consumer";

/// Where a group is. A group that is not there is `Dead` to those who ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// No members; perhaps offsets.
    Empty,
    /// Waits for its members to join, until the deadline at most.
    PreparingRebalance { deadline: Instant, initial: Option<InitialDelay> },
    /// The members know the generation; the leader's assignment is awaited.
    CompletingRebalance,
    /// All have their assignment, or can get it.
    Stable,
}

/// The wait for further members before the first generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct InitialDelay {
    /// The wait that is under way.
    pub(super) delay: Duration,
    /// So much more may be waited.
    pub(super) remaining: Duration,
    /// A member came since the wait began.
    pub(super) has_new_member: bool,
}

impl State {
    /// As Kafka names it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance { .. } => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Stable => "Stable",
        }
    }
}

/// A group.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) id: String,
    pub(super) state: State,
    /// When it came into its state.
    pub(super) since_ms: i64,
    /// `None`: it never had members ("simple" in Kafka's words).
    pub(super) protocol_type: Option<String>,
    pub(super) protocol: Option<String>,
    pub(super) generation: i32,
    pub(super) leader: Option<String>,
    pub(super) members: BTreeMap<String, Member>,
    /// How many members know each protocol; never zero.
    pub(super) known: BTreeMap<String, usize>,
    /// Instance ids and the members that have them.
    pub(super) static_members: BTreeMap<String, String>,
    /// Ids that were given out and did not come back yet, and until when they may.
    pub(super) pending: BTreeMap<String, Instant>,
    /// Members whose sync is awaited, until `sync_deadline`.
    pub(super) pending_sync: BTreeSet<String>,
    pub(super) sync_deadline: Option<Instant>,
    /// The topics that its members read, as far as the broker can know.
    pub(super) subscribed: Option<BTreeSet<String>>,
    /// What a restart takes it up from, as the journal has it.
    settled: Option<Settled>,
    pub(super) offsets: Offsets,
}

impl Group {
    pub(super) fn new(id: &str, now: Now) -> Self {
        Self {
            id: id.to_owned(),
            state: State::Empty,
            since_ms: now.unix_ms,
            protocol_type: None,
            protocol: None,
            generation: 0,
            leader: None,
            members: BTreeMap::new(),
            known: BTreeMap::new(),
            static_members: BTreeMap::new(),
            pending: BTreeMap::new(),
            pending_sync: BTreeSet::new(),
            sync_deadline: None,
            subscribed: None,
            settled: None,
            offsets: Offsets::default(),
        }
    }

    /// Takes up what was settled; the members' sessions begin anew.
    pub(super) fn restore(&mut self, settled: Settled, now: Now) {
        self.state = if settled.members.is_empty() { State::Empty } else { State::Stable };
        self.since_ms = settled.since_ms;
        self.protocol_type.clone_from(&settled.protocol_type);
        self.protocol.clone_from(&settled.protocol);
        self.generation = settled.generation;
        self.leader.clone_from(&settled.leader);
        self.members.clear();
        self.known.clear();
        self.static_members.clear();
        for member in &settled.members {
            let session_end = now.instant + Duration::from_millis(member.session_timeout_ms.into());
            self.insert(member.id.clone(), Member::restored(member, session_end));
        }
        self.subscribed = self.read_subscriptions();
        self.settled = Some(settled);
    }

    /// Makes its present state, which is `Empty` or `Stable`, the one that a restart takes it up from.
    ///
    /// # Errors
    /// The journal's; then it stays with the state before.
    pub(super) fn settle(&mut self, turn: &mut Turn<'_>) -> Result<(), ResponseError> {
        let settled = self.as_settled();
        turn.write(&[Record::Settled(settled.clone())])?;
        self.settled = Some(settled);
        Ok(())
    }

    /// Makes a group that is new known to the journal, before it is settled first: a restart then tells its members from
    /// those of a group that never was.
    pub(super) fn settle_as_new(&mut self, turn: &mut Turn<'_>) {
        if self.settled.is_none() {
            let settled = Group::new(&self.id, turn.now).as_settled();
            if turn.write(&[Record::Settled(settled.clone())]).is_ok() {
                self.settled = Some(settled);
            }
        }
    }

    /// What a restart takes it up from; `None` if it does not know it, or by its offsets only.
    pub(super) fn settled(&self) -> Option<&Settled> {
        self.settled.as_ref()
    }

    fn as_settled(&self) -> Settled {
        let members = self.members.iter().map(|(id, member)| member.settled(id));
        Settled {
            group: self.id.clone(),
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            since_ms: self.since_ms,
            members: members.collect(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.state == State::Empty
    }

    pub(super) fn is_preparing(&self) -> bool {
        matches!(self.state, State::PreparingRebalance { .. })
    }

    /// It waits for further members before the first generation.
    pub(super) fn is_preparing_first(&self) -> bool {
        matches!(self.state, State::PreparingRebalance { initial: Some(_), .. })
    }

    pub(super) fn is_leader(&self, member_id: &str) -> bool {
        self.leader.as_deref() == Some(member_id)
    }

    /// Moves to another state.
    pub(super) fn enter(&mut self, state: State, turn: &Turn<'_>) {
        self.state = state;
        self.since_ms = turn.now.unix_ms;
    }

    /// The longest of the members' rebalance time-outs.
    pub(super) fn rebalance_timeout(&self) -> Duration {
        self.members.values().map(|member| member.rebalance_timeout).max().unwrap_or_default()
    }

    pub(super) fn count_waiting_to_join(&self) -> usize {
        self.members.values().filter(|member| member.is_waiting_to_join()).count()
    }

    /// Nobody is missing who could still join.
    pub(super) fn has_all_joined(&self) -> bool {
        self.pending.is_empty() && self.members.values().all(Member::is_waiting_to_join)
    }

    /// Adds a member that is not there yet.
    pub(super) fn add(&mut self, id: String, member: Member, protocol_type: &str) {
        if self.members.is_empty() {
            self.protocol_type = Some(protocol_type.to_owned());
        }
        self.pending.remove(&id);
        self.leader.get_or_insert_with(|| id.clone());
        self.insert(id, member);
    }

    fn insert(&mut self, id: String, member: Member) {
        for (name, _) in &member.protocols {
            *self.known.entry(name.clone()).or_default() += 1;
        }
        if let Some(instance_id) = &member.instance_id {
            self.static_members.insert(instance_id.clone(), id.clone());
        }
        self.members.insert(id, member);
    }

    /// Takes a member out of the maps that speak of it, but not out of its roles.
    fn take(&mut self, id: &str) -> Option<Member> {
        let member = self.members.remove(id)?;
        for (name, _) in &member.protocols {
            if let Some(count) = self.known.get_mut(name) {
                *count -= 1;
                if *count == 0 {
                    self.known.remove(name);
                }
            }
        }
        if let Some(instance_id) = &member.instance_id {
            self.static_members.remove(instance_id);
        }
        Some(member)
    }

    /// Changes a member, if it is there.
    pub(super) fn update(&mut self, id: &str, change: impl FnOnce(&mut Member)) {
        self.rename(id, id.to_owned(), change);
    }

    /// Changes a member and gives it another id, which has its place and its roles from then on.
    pub(super) fn rename(&mut self, id: &str, new_id: String, change: impl FnOnce(&mut Member)) {
        let Some(mut member) = self.take(id) else { return };
        change(&mut member);
        if self.is_leader(id) {
            self.leader = Some(new_id.clone());
        }
        // Kafka goes on waiting for the old id's sync, which cannot come, and so rebalances once more.
        if self.pending_sync.remove(id) {
            self.pending_sync.insert(new_id.clone());
        }
        self.insert(new_id, member);
    }

    /// Removes a member or a pending id; a request of it that waits is answered with `UNKNOWN_MEMBER_ID`, so that its client
    /// joins anew if it is still there.
    pub(super) fn remove(&mut self, id: &str) {
        if let Some(mut member) = self.take(id) {
            member.refuse(ResponseError::UnknownMemberId);
        }
        if self.is_leader(id) {
            self.leader = self.members.keys().next().cloned();
        }
        self.pending.remove(id);
        self.pending_sync.remove(id);
    }

    /// Whether this is a member, and the one that its instance id stands for.
    pub(super) fn check_member(&self, id: &str, instance_id: Option<&str>) -> Result<(), ResponseError> {
        if let Some(instance_id) = instance_id {
            match self.static_members.get(instance_id) {
                None => return Err(ResponseError::UnknownMemberId),
                Some(current) if current != id => return Err(ResponseError::FencedInstanceId),
                Some(_) => {}
            }
        }
        if self.members.contains_key(id) { Ok(()) } else { Err(ResponseError::UnknownMemberId) }
    }

    /// Whether offsets may be committed in the name of this member and generation.
    pub(super) fn check_commit(
        &self,
        id: &str,
        instance_id: Option<&str>,
        generation: i32,
        is_transactional: bool,
    ) -> Result<(), ResponseError> {
        if generation < 0 && self.is_empty() {
            return Ok(());
        }
        if generation >= 0 || !id.is_empty() || instance_id.is_some() {
            self.check_member(id, instance_id)?;
            if generation != self.generation {
                return Err(ResponseError::IllegalGeneration);
            }
        } else if !is_transactional && !self.is_empty() {
            return Err(ResponseError::UnknownMemberId);
        }
        if !is_transactional && self.state == State::CompletingRebalance {
            return Err(ResponseError::RebalanceInProgress);
        }
        Ok(())
    }

    /// Whether somebody who knows these protocols can be in it.
    pub(super) fn supports(&self, protocol_type: &str, protocols: &[JoinGroupRequestProtocol]) -> bool {
        if self.is_empty() {
            return !protocol_type.is_empty() && !protocols.is_empty();
        }
        self.protocol_type.as_deref() == Some(protocol_type)
            && protocols.iter().any(|protocol| self.is_known_by_all(&protocol.name))
    }

    fn is_known_by_all(&self, protocol: &str) -> bool {
        self.known.get(protocol).copied().unwrap_or(0) == self.members.len()
    }

    /// The protocol of the most votes: each member's is for the first it likes of those that all know.
    pub(super) fn vote(&self) -> Option<String> {
        let mut votes = BTreeMap::<&str, usize>::new();
        for member in self.members.values() {
            let (choice, _) = member.protocols.iter().find(|(name, _)| self.is_known_by_all(name))?;
            *votes.entry(choice).or_default() += 1;
        }
        votes.into_iter().max_by_key(|(_, count)| *count).map(|(name, _)| name.to_owned())
    }

    /// The topics that the members of a consumer group read; `None` if that cannot be known.
    pub(super) fn read_subscriptions(&self) -> Option<BTreeSet<String>> {
        if self.protocol_type.as_deref() != Some(CONSUMER) {
            return None;
        }
        if self.members.is_empty() {
            return Some(BTreeSet::new());
        }
        let protocol = self.protocol.as_deref()?;
        let mut topics = BTreeSet::new();
        for member in self.members.values() {
            topics.extend(subscription::topics(&member.metadata(Some(protocol)))?);
        }
        Some(topics)
    }

    /// Whether its members may be reading this topic.
    pub(super) fn is_subscribed_to(&self, topic: &str) -> bool {
        match &self.subscribed {
            Some(topics) => topics.contains(topic),
            None => self.protocol_type.as_deref() == Some(CONSUMER),
        }
    }

    /// Whether its offsets may be deleted one by one: those of others than consumers only when it is empty.
    pub(super) fn check_offset_deletion(&self) -> Result<(), ResponseError> {
        if self.is_empty() || self.protocol_type.as_deref() == Some(CONSUMER) {
            return Ok(());
        }
        Err(ResponseError::NonEmptyGroup)
    }

    /// The committed offsets whose time is up: those of a group without members since it lost them, of one that never had
    /// members since their commit, and of a stable one those that nobody reads any more.
    pub(super) fn expired_offsets(&self, retention: Duration, now: Now) -> Vec<(String, i32)> {
        let since_empty = match (&self.protocol_type, self.state) {
            (None, _) => None,
            (Some(_), State::Empty) => Some(self.since_ms),
            (Some(kind), State::Stable) if kind == CONSUMER && self.subscribed.is_some() => None,
            _ => return Vec::new(),
        };
        let retention_ms = i64::try_from(retention.as_millis()).unwrap_or(i64::MAX);
        let expired = self.offsets.iter().filter(|(topic, partition, committed)| {
            let is_old = match committed.expire_ms {
                Some(expire_ms) => now.unix_ms >= expire_ms,
                None => now.unix_ms.saturating_sub(since_empty.unwrap_or(committed.commit_ms)) >= retention_ms,
            };
            is_old && !self.is_subscribed_to(topic) && !self.offsets.is_unstable(topic, *partition)
        });
        expired.map(|(topic, partition, _)| (topic.to_owned(), partition)).collect()
    }

    /// The earliest of all deadlines.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let join = match self.state {
            State::PreparingRebalance { deadline, .. } => Some(deadline),
            _ => None,
        };
        let sessions = self.members.values().filter_map(|member| member.session_end);
        sessions.chain(self.pending.values().copied()).chain(join).chain(self.sync_deadline).min()
    }
}
