//! The broker's whole state. It belongs to one thread; a request is one synchronous call on it.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Instant;

use crate::config::BrokerConfig;
use crate::groups::Groups;
use crate::topics::Topics;
use crate::transactions::Transactions;

/// The id of the one node, of its one rack and its one controller.
pub(crate) const NODE_ID: i32 = 1;
/// The leader epoch of every partition: the leader never changes.
pub(crate) const LEADER_EPOCH: i32 = 0;

/// The node as connections share it. A borrow never lives across an `await`.
pub(crate) type NodeRef = Rc<RefCell<Node>>;

/// The broker's whole state.
pub(crate) struct Node {
    pub(crate) config: BrokerConfig,
    /// The id of the cluster, made with the data folder: 22 characters of base64, as Kafka's.
    pub(crate) cluster_id: String,
    /// What clients are told to connect to.
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) topics: Topics,
    pub(crate) groups: Groups,
    pub(crate) transactions: Transactions,
}

/// The present, read once for a request: the wall clock for what is stored and compared between runs, the steady one for
/// time-outs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    /// Milliseconds since 1970.
    pub(crate) unix_ms: i64,
    /// The steady clock.
    pub(crate) instant: Instant,
}
