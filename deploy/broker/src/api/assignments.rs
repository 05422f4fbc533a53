//! Replicas as a client may assign them by hand: every partition to the one node.
//!
//! Source: `ReplicationControlManager.validateManualPartitionAssignment` of Apache Kafka.

use std::collections::BTreeSet;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::BrokerId;

use crate::node::NODE_ID;
use crate::topics::Refused;

/// Checks the replicas of one partition.
pub(crate) fn check(replicas: &[BrokerId]) -> Result<(), Refused> {
    let refused = |message: String| Err(Refused::new(ResponseError::InvalidReplicaAssignment, message));
    if replicas.is_empty() {
        return refused("The manual partition assignment includes an empty replica list.".to_owned());
    }
    let mut seen = BTreeSet::new();
    for &BrokerId(id) in replicas {
        if id != NODE_ID {
            return refused(format!(
                "The manual partition assignment includes broker {id}, but no such broker is registered."
            ));
        }
        if !seen.insert(id) {
            return refused(format!("The manual partition assignment includes the broker {id} more than once."));
        }
    }
    Ok(())
}
