//! What the coordinator's journal holds, and the state that a journal's records add up to.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::transaction::Transaction;
use crate::journal::Entry;

/// A decision of the coordinator. A later record of the same id replaces the earlier one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Record {
    /// No producer id before this one may be given.
    ProducerIds {
        /// The first id after the block.
        reserved_end: i64,
    },
    /// The state of a transactional id.
    Transaction {
        /// The transactional id.
        id: String,
        /// All of it.
        transaction: Transaction,
    },
    /// A transactional id was idle for so long that nothing is known of it any more.
    Forgotten {
        /// The transactional id.
        id: String,
    },
}

impl Entry for Record {
    fn subject(&self) -> Option<String> {
        match self {
            Self::ProducerIds { .. } => None,
            Self::Transaction { id, .. } | Self::Forgotten { id } => Some(format!("transactional id {id}")),
        }
    }
}

/// What the records of a journal say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Replayed {
    pub(crate) reserved_end: i64,
    pub(crate) transactions: BTreeMap<String, Transaction>,
}

/// Adds records up, in order.
pub(crate) fn replay(records: impl IntoIterator<Item = Record>) -> Replayed {
    let mut replayed = Replayed::default();
    for record in records {
        match record {
            Record::ProducerIds { reserved_end } => replayed.reserved_end = replayed.reserved_end.max(reserved_end),
            Record::Transaction { id, transaction } => {
                replayed.transactions.insert(id, transaction);
            }
            Record::Forgotten { id } => {
                replayed.transactions.remove(&id);
            }
        }
    }
    replayed
}
