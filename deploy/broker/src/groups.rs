//! The classic group protocol and committed offsets.

use std::fs::File;
use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::{
    HeartbeatRequest, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, LeaveGroupResponse, OffsetCommitRequest,
    OffsetCommitResponse, SyncGroupRequest, SyncGroupResponse, TxnOffsetCommitRequest, TxnOffsetCommitResponse,
};

use crate::api::Context;
use crate::config::BrokerConfig;
use crate::error::StartError;
use crate::node::Now;

/// All groups.
pub(crate) struct Groups {}

/// A request's answer, at once or when the group has come to its decision.
#[allow(dead_code)]
pub(crate) enum Answer<R> {
    /// Now.
    Now(R),
    /// When the sender's side decides. A dropped sender (the broker stops) closes the connection.
    Later(tokio::sync::oneshot::Receiver<R>),
}

#[allow(unused, clippy::unimplemented)]
impl Groups {
    /// Opens the groups' journal (`groups.journal` in the data folder) and takes up every group where it was settled last.
    ///
    /// # Errors
    /// Those of [`Journal::open`](crate::journal::Journal::open).
    pub(crate) fn open(config: &BrokerConfig, now: Now) -> Result<Self, StartError> {
        unimplemented!()
    }

    /// A member joins, or joins again.
    pub(crate) fn join(&mut self, request: &JoinGroupRequest, context: &Context) -> Answer<JoinGroupResponse> {
        unimplemented!()
    }

    /// A member asks for its part of the generation; the leader brings all parts.
    pub(crate) fn sync(&mut self, request: &SyncGroupRequest, context: &Context) -> Answer<SyncGroupResponse> {
        unimplemented!()
    }

    /// A member says that it is alive.
    pub(crate) fn heartbeat(&mut self, request: &HeartbeatRequest, now: Now) -> Result<(), ResponseError> {
        unimplemented!()
    }

    /// Members leave.
    pub(crate) fn leave(&mut self, request: &LeaveGroupRequest, context: &Context) -> LeaveGroupResponse {
        unimplemented!()
    }

    /// Commits offsets; `exists` says whether a partition does.
    pub(crate) fn commit(
        &mut self,
        request: &OffsetCommitRequest,
        exists: &dyn Fn(&str, i32) -> bool,
        context: &Context,
    ) -> OffsetCommitResponse {
        unimplemented!()
    }

    /// Stages the offsets of a producer's open transaction (`TxnOffsetCommit`): checks the partitions (`exists`), the group,
    /// its generation and its member, and journals. That the producer may is the caller's to check, before.
    pub(crate) fn stage(
        &mut self,
        request: &TxnOffsetCommitRequest,
        exists: &dyn Fn(&str, i32) -> bool,
        now: Now,
    ) -> TxnOffsetCommitResponse {
        unimplemented!()
    }

    /// A producer's transaction has ended: its staged offsets become committed, or are dropped. Idempotent.
    ///
    /// # Errors
    /// The journal cannot be written; nothing has changed then.
    pub(crate) fn end_transaction(
        &mut self,
        group: &str,
        producer_id: i64,
        is_commit: bool,
        now: Now,
    ) -> Result<(), ResponseError> {
        unimplemented!()
    }

    /// `(group, producer id)` of all staged offsets.
    pub(crate) fn staged(&self) -> Vec<(String, i64)> {
        unimplemented!()
    }

    /// A topic is deleted: its committed offsets go.
    pub(crate) fn forget_topic(&mut self, topic: &str) -> Result<(), ResponseError> {
        unimplemented!()
    }

    /// Applies session, rebalance and sync time-outs and the retention of offsets; called every few tens of milliseconds.
    pub(crate) fn tick(&mut self, now: Now) {
        unimplemented!()
    }

    /// The journal's file, if it was written since the last call, for whoever syncs it.
    pub(crate) fn take_dirty(&mut self) -> Option<Arc<File>> {
        unimplemented!()
    }
}
