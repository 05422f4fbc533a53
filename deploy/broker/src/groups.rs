//! The classic group protocol and committed offsets.
//!
//! One [`Group`](group::Group) is one state machine; this is all of them, with the journal that a restart takes them up from:
//! each generation when it is complete, each committed and staged offset. A record is written before it is acted on.
//! Sources: Apache Kafka 4.1's `org.apache.kafka.coordinator.group`, but for what each file says.

mod commit;
mod group;
mod join;
mod member;
mod offsets;
mod rebalance;
mod record;
mod subscription;
mod sync;
#[cfg(test)]
mod tests;
mod turn;
mod view;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use kafka_protocol::ResponseError;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::{
    HeartbeatRequest, JoinGroupRequest, JoinGroupResponse, SyncGroupRequest, SyncGroupResponse,
};
use uuid::Uuid;

use crate::api::Context;
use crate::config::{BrokerConfig, Storage};
use crate::damage::OnDamage;
use crate::durable::Unsynced;
use crate::error::StartError;
use crate::journal::Journal;
use crate::node::Now;
use group::Group;
use record::Record;
use turn::{Settings, Turn};

/// The journal's name in the data folder.
const JOURNAL: &str = "groups.journal";
/// How often it is looked whether the journal should be rewritten: it costs two syncs.
const REWRITE_CHECK_INTERVAL: Duration = Duration::from_secs(10);

/// All groups.
pub(crate) struct Groups {
    groups: BTreeMap<String, Group>,
    journal: Journal<Record>,
    settings: Settings,
    /// Makes the random part of a new member's id.
    mint: Box<dyn FnMut() -> Uuid>,
    /// The position of the next commit.
    position: u64,
    /// No deadline of any group is earlier; `None`: there is none.
    wake: Option<Instant>,
    next_retention_check: Instant,
    next_rewrite_check: Instant,
}

/// A request's answer, at once or when the group has come to its decision.
#[derive(Debug)]
pub(crate) enum Answer<R> {
    /// Now.
    Now(R),
    /// When the sender's side decides. A dropped sender (the broker stops) closes the connection.
    Later(tokio::sync::oneshot::Receiver<R>),
}

impl<R> Answer<R> {
    /// The answer, waited for; `None` if the broker stops.
    pub(crate) async fn wait(self) -> Option<R> {
        match self {
            Self::Now(answer) => Some(answer),
            Self::Later(receiver) => receiver.await.ok(),
        }
    }
}

impl Groups {
    /// Opens the groups' journal (`groups.journal` in the data folder) and takes up every group where it was settled last.
    ///
    /// # Errors
    /// Those of [`Journal::open`].
    pub(crate) fn open(config: &BrokerConfig, now: Now) -> Result<Self, StartError> {
        let path = match &config.storage {
            Storage::Memory => None,
            Storage::Folder(folder) => Some(folder.join(JOURNAL)),
        };
        let (journal, records) = Journal::open(path.as_deref(), OnDamage::of(config))?;
        let settings = Settings::of(config);
        let mut groups = Self {
            groups: BTreeMap::new(),
            journal,
            next_retention_check: now.instant + settings.retention_check_interval,
            settings,
            mint: Box::new(Uuid::new_v4),
            position: 0,
            wake: None,
            next_rewrite_check: now.instant,
        };
        for record in records {
            groups.replay(record, now);
        }
        groups.wake = groups.next_deadline();
        Ok(groups)
    }

    /// A member joins, or joins again.
    pub(crate) fn join(&mut self, request: &JoinGroupRequest, context: &Context) -> Answer<JoinGroupResponse> {
        let (group_id, id) = (request.group_id.as_str(), request.member_id.as_str());
        let refused = |error| Answer::Now(member::refused_join(id, error));
        if group_id.is_empty() {
            return refused(ResponseError::InvalidGroupId);
        }
        let session_timeouts = self.settings.session_timeout_min..=self.settings.session_timeout_max;
        if request.session_timeout_ms < 0
            || !session_timeouts.contains(&member::milliseconds(request.session_timeout_ms))
        {
            return refused(ResponseError::InvalidSessionTimeout);
        }
        if !self.groups.contains_key(group_id) {
            if !id.is_empty() {
                return refused(ResponseError::UnknownMemberId);
            }
            if let Err(error) = self.check_room(group_id) {
                return refused(error);
            }
            self.group_mut(group_id, context.now);
        }
        let stem = request.group_instance_id.as_deref().unwrap_or(&context.client_id);
        let fresh_id = format!("{stem}-{}", (self.mint)());
        let (group, mut turn) = self.turn(group_id, context.now);
        let Some(group) = group else { return refused(ResponseError::UnknownMemberId) };
        let answer = group.join(request, context, fresh_id, &mut turn);
        group.settle_as_new(&mut turn);
        answer
    }

    /// A member asks for its part of the generation; the leader brings all parts.
    pub(crate) fn sync(&mut self, request: &SyncGroupRequest, now: Now) -> Answer<SyncGroupResponse> {
        if request.group_id.is_empty() {
            return Answer::Now(member::refused_sync(ResponseError::InvalidGroupId));
        }
        match self.turn(&request.group_id, now) {
            (Some(group), mut turn) => group.sync(request, &mut turn),
            (None, _) => Answer::Now(member::refused_sync(ResponseError::UnknownMemberId)),
        }
    }

    /// A member says that it is alive.
    ///
    /// # Errors
    /// `RebalanceInProgress`: it has to join again. `UnknownMemberId`, `IllegalGeneration`, `FencedInstanceId`.
    pub(crate) fn heartbeat(&mut self, request: &HeartbeatRequest, now: Now) -> Result<(), ResponseError> {
        if request.group_id.is_empty() {
            return Err(ResponseError::InvalidGroupId);
        }
        match self.turn(&request.group_id, now) {
            (Some(group), mut turn) => group.heartbeat(request, &mut turn),
            (None, _) => Err(ResponseError::UnknownMemberId),
        }
    }

    /// Members leave; each has its own answer.
    ///
    /// # Errors
    /// `InvalidGroupId`.
    pub(crate) fn leave(
        &mut self,
        group_id: &str,
        leaving: &[MemberIdentity],
        now: Now,
    ) -> Result<Vec<MemberResponse>, ResponseError> {
        if group_id.is_empty() {
            return Err(ResponseError::InvalidGroupId);
        }
        match self.turn(group_id, now) {
            (Some(group), mut turn) => Ok(group.leave(leaving, &mut turn)),
            (None, _) => Ok(leaving.iter().map(|one| sync::left(one, Err(ResponseError::UnknownMemberId))).collect()),
        }
    }

    /// Deletes a group without members, its offsets too.
    ///
    /// # Errors
    /// `GroupIdNotFound`, `NonEmptyGroup`; the journal's.
    pub(crate) fn delete(&mut self, group_id: &str, now: Now) -> Result<(), ResponseError> {
        match self.turn(group_id, now) {
            (None, _) => Err(ResponseError::GroupIdNotFound),
            (Some(group), _) if !group.is_empty() => Err(ResponseError::NonEmptyGroup),
            (Some(_), _) => self.write(vec![Record::Deleted { group: group_id.to_owned() }], now),
        }
    }

    /// Applies session, rebalance and sync time-outs and the retention of offsets; called every few tens of milliseconds.
    pub(crate) fn tick(&mut self, now: Now) {
        if self.wake.is_some_and(|wake| wake <= now.instant) {
            let Self { groups, journal, settings, wake, .. } = self;
            let mut turn = Turn { now, settings, journal, wake };
            for group in groups.values_mut() {
                group.tick(&mut turn);
            }
            self.wake = self.next_deadline();
        }
        if self.next_retention_check <= now.instant {
            self.next_retention_check = now.instant + self.settings.retention_check_interval;
            self.expire(now);
        }
        if self.next_rewrite_check <= now.instant {
            self.next_rewrite_check = now.instant + REWRITE_CHECK_INTERVAL;
            self.rewrite_if_worth();
        }
    }

    /// See [`Journal::take_dirty`].
    pub(crate) fn take_dirty(&mut self) -> Vec<Unsynced> {
        self.journal.take_dirty()
    }

    /// See [`Journal::is_whole`].
    pub(crate) fn is_whole(&self) -> bool {
        self.journal.is_whole()
    }

    /// A group, if it is there, and its turn.
    fn turn(&mut self, group_id: &str, now: Now) -> (Option<&mut Group>, Turn<'_>) {
        let Self { groups, journal, settings, wake, .. } = self;
        (groups.get_mut(group_id), Turn { now, settings, journal, wake })
    }

    /// Whether the group is there or may be made.
    fn check_room(&self, group_id: &str) -> Result<(), ResponseError> {
        let groups_max = self.settings.groups_max;
        if self.groups.len() < groups_max || self.groups.contains_key(group_id) {
            return Ok(());
        }
        tracing::warn!(groups_max, group = group_id, "a new group is refused");
        Err(ResponseError::PolicyViolation)
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.groups.values().filter_map(Group::next_deadline).min()
    }

    /// Removes expired offsets, and groups that have neither members nor offsets any more.
    fn expire(&mut self, now: Now) {
        let mut records = Vec::new();
        for group in self.groups.values() {
            let expired = group.expired_offsets(self.settings.offsets_retention, now);
            let is_done = group.is_empty() && group.pending.is_empty() && group.offsets.len() == expired.len();
            if is_done {
                records.push(Record::Deleted { group: group.id.clone() });
            } else {
                records.extend(expired.into_iter().map(|(topic, partition)| Record::Removed {
                    group: group.id.clone(),
                    topic,
                    partition,
                }));
            }
        }
        // Tried again at the next check if it cannot be written.
        let _ = self.write(records, now);
    }

    fn rewrite_if_worth(&mut self) {
        // Cheap, and false most of the time.
        if !self.journal.is_worth_rewriting(0) {
            return;
        }
        let records = self.snapshot();
        if self.journal.is_worth_rewriting(records.len())
            && let Err(error) = self.journal.rewrite(records.into_iter())
        {
            tracing::error!(%error, "cannot rewrite the groups' journal; it is tried again");
        }
    }

    /// The records that make what is alive.
    fn snapshot(&self) -> Vec<Record> {
        self.groups.values().flat_map(record::of).collect()
    }

    /// Writes records, and then does what they tell.
    fn write(&mut self, records: Vec<Record>, now: Now) -> Result<(), ResponseError> {
        turn::write(&mut self.journal, &records)?;
        for record in records {
            self.replay(record, now);
        }
        Ok(())
    }

    /// Does what a record tells.
    fn replay(&mut self, record: Record, now: Now) {
        let position = record.position();
        match record {
            Record::Settled(settled) => self.group_mut(&settled.group.clone(), now).restore(settled, now),
            Record::Deleted { group } => {
                self.groups.remove(&group);
            }
            Record::Committed { group, topic, partition, committed } => {
                self.group_mut(&group, now).offsets.commit(&topic, partition, committed);
            }
            Record::Removed { group, topic, partition } => {
                self.group_mut(&group, now).offsets.remove(&topic, partition);
            }
            Record::Staged { group, producer_id, topic, partition, committed } => {
                self.group_mut(&group, now).offsets.stage(producer_id, &topic, partition, committed);
            }
            Record::Ended { group, producer_id, is_commit } => {
                self.group_mut(&group, now).offsets.end(producer_id, is_commit);
            }
            Record::TopicDeleted { topic } => self.remove_topic(&topic),
        }
        if let Some(position) = position {
            self.position = self.position.max(position + 1);
        }
    }

    fn remove_topic(&mut self, topic: &str) {
        for group in self.groups.values_mut() {
            group.offsets.remove_topic(topic);
        }
    }

    /// A group, made if it is not there: a "simple" one, known by its offsets only.
    fn group_mut(&mut self, group_id: &str, now: Now) -> &mut Group {
        self.groups.entry(group_id.to_owned()).or_insert_with(|| Group::new(group_id, now))
    }
}
