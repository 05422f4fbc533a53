//! `server.properties` of the single node. Invariant: every line that is not Kafka's default says why.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::error::{StartError, file};

const FIXED: &str = "\
process.roles=broker,controller
node.id=1
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
# One node: nothing can be replicated.
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
# Few internal partitions: they are created at the first use, and a test waits for them.
offsets.topic.num.partitions=4
transaction.state.log.num.partitions=4
# A group starts at its first member, and a test may use short sessions.
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=500
# A topic that was not declared is a mistake, here as in production.
auto.create.topics.enable=false
# Telemetry is often older or (in a simulation) newer than the clock: accept it and keep it.
log.retention.ms=-1
log.message.timestamp.before.max.ms=9223372036854775807
log.message.timestamp.after.max.ms=9223372036854775807
# Light on a small machine.
num.network.threads=2
num.io.threads=4
num.partitions=1
log.cleaner.threads=1
log.cleaner.dedupe.buffer.size=16777216
";

pub(crate) fn write(
    data_dir: &Path,
    broker_port: u16,
    controller_port: u16,
    extra: &[(String, String)],
) -> Result<(), StartError> {
    let mut text = String::from(FIXED);
    let listeners = format!("PLAINTEXT://127.0.0.1:{broker_port},CONTROLLER://127.0.0.1:{controller_port}");
    let _ = writeln!(text, "listeners={listeners}");
    let _ = writeln!(text, "advertised.listeners=PLAINTEXT://127.0.0.1:{broker_port}");
    let _ = writeln!(text, "controller.quorum.voters=1@127.0.0.1:{controller_port}");
    let _ = writeln!(text, "log.dirs={}", data_dir.join("data").display());
    for (name, value) in extra {
        let _ = writeln!(text, "{name}={value}");
    }
    let path = data_dir.join("server.properties");
    fs::write(&path, text).map_err(file("write", path))
}
