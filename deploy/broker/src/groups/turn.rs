//! What a group is given to act with: the present, the settings, the journal.

use std::time::{Duration, Instant};

use kafka_protocol::ResponseError;

use super::record::Record;
use crate::config::BrokerConfig;
use crate::journal::Journal;
use crate::node::Now;

/// How long a join of a new member may wait (Kafka's `group.new.member.join.timeout.ms`): it cannot send heartbeats yet, and
/// whether its client is still there cannot be seen.
const NEW_MEMBER_JOIN_TIMEOUT: Duration = Duration::from_secs(300);

/// How often expired offsets are looked for (Kafka's `offsets.retention.check.interval.ms`).
const RETENTION_CHECK_INTERVAL: Duration = Duration::from_secs(600);

/// The settings and bounds of groups.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) session_timeout_min: Duration,
    pub(super) session_timeout_max: Duration,
    pub(super) initial_rebalance_delay: Duration,
    pub(super) new_member_join_timeout: Duration,
    pub(super) offsets_retention: Duration,
    pub(super) retention_check_interval: Duration,
    pub(super) groups_max: usize,
    pub(super) members_max: usize,
    pub(super) metadata_bytes_max: usize,
}

impl Settings {
    pub(super) fn of(config: &BrokerConfig) -> Self {
        Self {
            session_timeout_min: config.session_timeout.0,
            session_timeout_max: config.session_timeout.1,
            initial_rebalance_delay: config.initial_rebalance_delay,
            new_member_join_timeout: NEW_MEMBER_JOIN_TIMEOUT,
            offsets_retention: config.offsets_retention,
            retention_check_interval: RETENTION_CHECK_INTERVAL.min(config.offsets_retention),
            groups_max: config.limits.groups_max,
            members_max: config.limits.group_members_max,
            metadata_bytes_max: config.limits.offset_metadata_bytes_max,
        }
    }
}

/// One turn of a group.
pub(super) struct Turn<'a> {
    pub(super) now: Now,
    pub(super) settings: &'a Settings,
    pub(super) journal: &'a mut Journal<Record>,
    /// No deadline of any group is earlier.
    pub(super) wake: &'a mut Option<Instant>,
}

impl Turn<'_> {
    /// The deadline that is so far away; it will be looked at then.
    pub(super) fn deadline(&mut self, after: Duration) -> Instant {
        let deadline = self.now.instant + after;
        *self.wake = Some(self.wake.map_or(deadline, |wake| wake.min(deadline)));
        deadline
    }

    /// Writes records, see [`write`].
    pub(super) fn write(&mut self, records: &[Record]) -> Result<(), ResponseError> {
        write(self.journal, records)
    }
}

/// Writes records, before they are acted on.
///
/// # Errors
/// `NotCoordinator`, which Kafka's coordinator makes of a storage error: clients look for another and try again.
pub(super) fn write(journal: &mut Journal<Record>, records: &[Record]) -> Result<(), ResponseError> {
    journal.append(records).map_err(|error| {
        tracing::error!(%error, "cannot write the groups' journal");
        ResponseError::NotCoordinator
    })
}
