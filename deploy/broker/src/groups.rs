//! The classic group protocol and committed offsets.

use kafka_protocol::ResponseError;

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

/// What the transaction coordinator and the timer need; the rest is for the group APIs' own files.
#[allow(unused, clippy::unimplemented)]
impl Groups {
    /// A producer's transaction has ended: its staged offsets become committed, or are dropped. Idempotent.
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
}
