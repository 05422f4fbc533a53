//! One member of a group.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::{JoinGroupRequest, JoinGroupResponse, SyncGroupResponse};
use tokio::sync::oneshot::Sender;

use super::record::SettledMember;
use crate::api::Context;

/// A member of a group.
#[derive(Debug)]
pub(super) struct Member {
    /// The `group.instance.id` of a static member (KIP-345).
    pub(super) instance_id: Option<String>,
    pub(super) client_id: String,
    pub(super) client_host: String,
    pub(super) rebalance_timeout: Duration,
    pub(super) session_timeout: Duration,
    /// Names and metadata of the protocols it knows, the one it likes best first; no name twice.
    pub(super) protocols: Vec<(String, Bytes)>,
    pub(super) assignment: Bytes,
    /// It was never answered: it does not know its id, so it cannot have sent a heartbeat.
    pub(super) is_new: bool,
    /// When its session ends; `None` while it waits for an answer that starts a new one.
    pub(super) session_end: Option<Instant>,
    waiting: Waiting,
}

/// The request of a member that is not answered yet: never more than one.
#[derive(Debug, Default)]
enum Waiting {
    #[default]
    No,
    Join(Sender<JoinGroupResponse>),
    Sync(Sender<SyncGroupResponse>),
}

impl Member {
    /// A member as it joins.
    pub(super) fn new(request: &JoinGroupRequest, context: &Context) -> Self {
        Self {
            instance_id: request.group_instance_id.as_ref().map(|id| id.to_string()),
            client_id: context.client_id.clone(),
            client_host: context.client_host.clone(),
            rebalance_timeout: milliseconds(request.rebalance_timeout_ms),
            session_timeout: milliseconds(request.session_timeout_ms),
            protocols: protocols(&request.protocols),
            assignment: Bytes::new(),
            is_new: true,
            session_end: None,
            waiting: Waiting::No,
        }
    }

    /// A member as it was settled.
    pub(super) fn restored(settled: &SettledMember, session_end: Instant) -> Self {
        Self {
            instance_id: settled.instance_id.clone(),
            client_id: settled.client_id.clone(),
            client_host: settled.client_host.clone(),
            rebalance_timeout: Duration::from_millis(settled.rebalance_timeout_ms.into()),
            session_timeout: Duration::from_millis(settled.session_timeout_ms.into()),
            protocols: settled.protocols.iter().map(|(name, data)| (name.clone(), data.clone().into())).collect(),
            assignment: settled.assignment.clone().into(),
            is_new: false,
            session_end: Some(session_end),
            waiting: Waiting::No,
        }
    }

    /// The member as it is settled.
    pub(super) fn settled(&self, id: &str) -> SettledMember {
        // The time-outs came as i32.
        let as_ms = |duration: Duration| u32::try_from(duration.as_millis()).unwrap_or(u32::MAX);
        SettledMember {
            id: id.to_owned(),
            instance_id: self.instance_id.clone(),
            client_id: self.client_id.clone(),
            client_host: self.client_host.clone(),
            rebalance_timeout_ms: as_ms(self.rebalance_timeout),
            session_timeout_ms: as_ms(self.session_timeout),
            protocols: self.protocols.iter().map(|(name, data)| (name.clone(), data.to_vec())).collect(),
            assignment: self.assignment.to_vec(),
        }
    }

    /// Takes what may change from one join to the next.
    pub(super) fn update(&mut self, request: &JoinGroupRequest) {
        self.rebalance_timeout = milliseconds(request.rebalance_timeout_ms);
        self.session_timeout = milliseconds(request.session_timeout_ms);
        self.protocols = protocols(&request.protocols);
    }

    /// Whether it joins with what it joined with before.
    pub(super) fn matches(&self, request: &JoinGroupRequest) -> bool {
        self.protocols == protocols(&request.protocols)
    }

    /// What it says of itself for a protocol; empty if it does not know it.
    pub(super) fn metadata(&self, protocol: Option<&str>) -> Bytes {
        let known = self.protocols.iter().find(|(name, _)| Some(name.as_str()) == protocol);
        known.map(|(_, metadata)| metadata.clone()).unwrap_or_default()
    }

    pub(super) fn is_waiting(&self) -> bool {
        !matches!(self.waiting, Waiting::No)
    }

    pub(super) fn is_waiting_to_join(&self) -> bool {
        matches!(self.waiting, Waiting::Join(_))
    }

    /// Its join waits from now on. An older request that still waits is answered: its client has given it up.
    pub(super) fn wait_to_join(&mut self, sender: Sender<JoinGroupResponse>) {
        self.refuse(ResponseError::RebalanceInProgress);
        self.waiting = Waiting::Join(sender);
    }

    /// Its sync waits from now on; otherwise as [`wait_to_join`](Self::wait_to_join).
    pub(super) fn wait_to_sync(&mut self, sender: Sender<SyncGroupResponse>) {
        self.refuse(ResponseError::RebalanceInProgress);
        self.waiting = Waiting::Sync(sender);
    }

    /// Answers its waiting join, if one waits. A client that is gone has dropped the receiver: no harm.
    pub(super) fn answer_join(&mut self, response: JoinGroupResponse) -> bool {
        match std::mem::take(&mut self.waiting) {
            Waiting::Join(sender) => {
                let _ = sender.send(response);
                true
            }
            other => {
                self.waiting = other;
                false
            }
        }
    }

    /// Answers its waiting sync, if one waits.
    pub(super) fn answer_sync(&mut self, response: SyncGroupResponse) -> bool {
        match std::mem::take(&mut self.waiting) {
            Waiting::Sync(sender) => {
                let _ = sender.send(response);
                true
            }
            other => {
                self.waiting = other;
                false
            }
        }
    }

    /// Answers whatever request of it waits with an error.
    pub(super) fn refuse(&mut self, error: ResponseError) {
        match std::mem::take(&mut self.waiting) {
            Waiting::No => {}
            Waiting::Join(sender) => {
                let _ = sender.send(refused_join("", error));
            }
            Waiting::Sync(sender) => {
                let _ = sender.send(refused_sync(error));
            }
        }
    }
}

/// The answer to a join that is refused.
pub(super) fn refused_join(member_id: &str, error: ResponseError) -> JoinGroupResponse {
    JoinGroupResponse::default()
        .with_error_code(error.code())
        .with_member_id(member_id.to_owned().into())
        .with_protocol_name(None)
}

/// The answer to a sync that is refused.
pub(super) fn refused_sync(error: ResponseError) -> SyncGroupResponse {
    SyncGroupResponse::default().with_error_code(error.code())
}

/// A client's time-out; a negative one is none.
pub(super) fn milliseconds(ms: i32) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}

/// Copies, as the request's bytes are a part of a whole frame; of a name that comes twice the first counts.
fn protocols(requested: &[JoinGroupRequestProtocol]) -> Vec<(String, Bytes)> {
    let mut names = BTreeSet::new();
    let distinct = requested.iter().filter(|protocol| names.insert(protocol.name.as_str()));
    distinct.map(|protocol| (protocol.name.to_string(), Bytes::copy_from_slice(&protocol.metadata))).collect()
}
