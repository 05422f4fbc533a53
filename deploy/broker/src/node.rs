//! The broker's whole state. It belongs to one thread; a request is one synchronous call on it.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::config::BrokerConfig;
use crate::damage;
use crate::durable::Unsynced;
use crate::error::StartError;
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
    /// Bytes of answers that are not yet sent, over all connections; the connections count them.
    pub(crate) unsent_bytes: Rc<Cell<usize>>,
}

impl Node {
    /// Opens what the data folder holds, and ends what a killed broker was about to end.
    ///
    /// # Errors
    /// Those of the parts: a file that cannot be read, or is corrupt.
    pub(crate) fn open(config: BrokerConfig, cluster_id: String, host: String, port: u16) -> Result<Self, StartError> {
        let now = Now::read();
        let mut topics = Topics::open(&config)?;
        let mut groups = Groups::open(&config, now)?;
        let mut transactions = Transactions::open(&config, now)?;
        // Nothing is written before this, and from here on anything may be.
        damage::remove_note(&config.storage)?;
        transactions.recover(&mut topics, &mut groups, now);
        let unsent_bytes = Rc::default();
        Ok(Self { config, cluster_id, host, port, topics, groups, transactions, unsent_bytes })
    }

    /// Applies what is due: time-outs of groups and of transactions. Called every few tens of milliseconds.
    pub(crate) fn tick(&mut self, now: Now) {
        self.groups.tick(now);
        self.transactions.tick(&mut self.topics, &mut self.groups, now);
    }

    /// Applies retention and forgets idle producers.
    pub(crate) fn maintain(&mut self, now: Now) {
        self.topics.maintain(now);
    }

    /// What was written since the last call, and what could not be synced; whoever takes it syncs it, in this order.
    pub(crate) fn take_dirty(&mut self) -> Vec<Unsynced> {
        let mut dirty = self.topics.take_dirty();
        dirty.extend(self.groups.take_dirty());
        dirty.extend(self.transactions.take_dirty());
        dirty
    }

    /// Whether no file has a piece of a failed write behind its last whole batch or append.
    pub(crate) fn is_whole(&self) -> bool {
        self.topics.is_whole() && self.groups.is_whole() && self.transactions.is_whole()
    }

    /// Syncs what was written, now and here. What could not be synced before is left alone: it has taken no writes since, so
    /// no answer waits for it.
    ///
    /// # Errors
    /// The first file's that the system cannot sync; the others are tried all the same.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        let dirty = self.take_dirty();
        let new = dirty.iter().filter(|unsynced| !unsynced.had_failed());
        new.map(Unsynced::sync).fold(Ok(()), Result::and)
    }
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

impl Now {
    /// Reads both clocks.
    pub(crate) fn read() -> Self {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { unix_ms: i64::try_from(unix.as_millis()).unwrap_or(i64::MAX), instant: Instant::now() }
    }
}
