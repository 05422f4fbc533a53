//! Producer ids and the transaction coordinator.

use crate::groups::Groups;
use crate::node::Now;
use crate::topics::Topics;

/// All transactional ids.
pub(crate) struct Transactions {}

/// What produce, the timer and the start need; the rest is for the transaction APIs' own files.
#[allow(unused, clippy::unimplemented)]
impl Transactions {
    /// Whether a partition belongs to the producer's open transaction.
    pub(crate) fn has_partition(
        &self,
        transactional_id: &str,
        producer_id: i64,
        producer_epoch: i16,
        topic: &str,
        partition: i32,
    ) -> bool {
        unimplemented!()
    }

    /// Called once at start, when logs and groups are open: ends what was being ended, and aborts what no coordinator knows.
    pub(crate) fn recover(&mut self, topics: &mut Topics, groups: &mut Groups, now: Now) {
        unimplemented!()
    }

    /// Aborts transactions whose time is up and forgets idle ids; called every few tens of milliseconds.
    pub(crate) fn tick(&mut self, topics: &mut Topics, groups: &mut Groups, now: Now) {
        unimplemented!()
    }
}
