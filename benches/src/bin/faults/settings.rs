//! The settings files of a run's processes. Time-outs are short, so that what follows from one takes seconds: the order between them is
//! what it has to be, `transaction.timeout.ms` below `session.timeout.ms`.

use std::path::Path;
use std::time::Duration;

use crate::dice::Dice;
use crate::fleet::Role;

/// A member that says nothing for so long is taken for gone.
pub(crate) const SESSION_TIMEOUT: Duration = Duration::from_millis(6_000);
/// A transaction that stands open for so long is aborted by the broker.
pub(crate) const TRANSACTION_TIMEOUT: Duration = Duration::from_millis(4_000);
/// A processor that does not come to its group for so long is taken for hung, where a fault is about that; three transactions' time at
/// least, which is what the processor asks for.
pub(crate) const POLL_INTERVAL_MAX: Duration = Duration::from_millis(12_000);
/// An answer that takes so long is given up, with its connection.
const SOCKET_TIMEOUT: Duration = Duration::from_millis(2_000);
/// Without progress for so long, a processor looks what is wrong.
const STALL_TIMEOUT: Duration = Duration::from_millis(10_000);
/// The processors' group.
pub(crate) const GROUP: &str = "faults";
/// Delivery's group.
pub(crate) const SINK_GROUP: &str = "faults-sink";
/// Delivery's folder, under the run's.
pub(crate) const OUTPUT: &str = "results";

/// How the processes of a run are set up; drawn from its seed.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Setup {
    /// Processors of the group.
    pub(crate) processors: usize,
    /// `processor.static_membership`.
    pub(crate) is_static: bool,
    /// `processor.commit_interval`, in ms.
    pub(crate) commit_interval_ms: u64,
    /// `processor.snapshot_every`, in ms.
    pub(crate) snapshot_every_ms: u64,
    /// `processor.snapshot_kib_per_second`: with few, a round takes many transactions.
    pub(crate) snapshot_kib_per_second: u64,
    /// `processor.batch_max`.
    pub(crate) batch_max: u64,
    /// `processor.workers`.
    pub(crate) workers: u64,
    /// Whether [`POLL_INTERVAL_MAX`] holds, and not the client's five minutes.
    pub(crate) has_short_poll: bool,
    /// The time-outs; those of an undisturbed run are the program's own.
    pub(crate) timeouts: Timeouts,
}

/// Which time-outs hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Timeouts {
    Short,
    Usual,
}

impl Setup {
    /// Draws one.
    pub(crate) fn draw(mut dice: Dice) -> Self {
        Self {
            processors: dice.pick(&[2, 3]),
            is_static: dice.flip(),
            commit_interval_ms: dice.pick(&[50, 100, 300]),
            snapshot_every_ms: dice.pick(&[200, 1_000, 3_000]),
            snapshot_kib_per_second: dice.pick(&[16, 128, 16_384]),
            batch_max: dice.pick(&[300, 1_000, 3_000]),
            workers: dice.pick(&[1, 1, 2]),
            has_short_poll: false,
            timeouts: Timeouts::Short,
        }
    }

    /// The undisturbed run's: one processor.
    pub(crate) fn golden() -> Self {
        Self {
            processors: 1,
            is_static: false,
            commit_interval_ms: 100,
            snapshot_every_ms: 10_000,
            snapshot_kib_per_second: 16_384,
            batch_max: 5_000,
            workers: 1,
            has_short_poll: false,
            timeouts: Timeouts::Usual,
        }
    }
}

/// The text of a member's settings file. `client_id` is what the broker's faults tell it by.
pub(crate) fn text(setup: &Setup, role: Role, client_id: &str, instance: &str) -> String {
    let avsc = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("producer").join("avsc");
    let streams = include_str!("streams.toml").replace("AVSC", &avsc.display().to_string());
    let ms = Duration::as_millis;
    let poll_interval = if setup.has_short_poll && role == Role::Processor {
        format!(", \"max.poll.interval.ms\" = \"{}\"", ms(&POLL_INTERVAL_MAX))
    } else {
        String::new()
    };
    let (properties, transaction) = match setup.timeouts {
        Timeouts::Usual => (String::new(), String::new()),
        Timeouts::Short => (
            format!(
                "properties = {{ \"session.timeout.ms\" = \"{}\", \"heartbeat.interval.ms\" = \"500\", \
                 \"socket.timeout.ms\" = \"{}\"{poll_interval} }}\n",
                ms(&SESSION_TIMEOUT),
                ms(&SOCKET_TIMEOUT)
            ),
            format!(
                "transaction_timeout = \"{}ms\"\nstall_timeout = \"{}ms\"\n",
                ms(&TRANSACTION_TIMEOUT),
                ms(&STALL_TIMEOUT)
            ),
        ),
    };
    let Setup { is_static, commit_interval_ms, snapshot_every_ms, snapshot_kib_per_second, batch_max, workers, .. } =
        *setup;
    format!(
        "[kafka]\nclient_id = \"{client_id}\"\n{properties}\n\
         [processor]\ngroup_id = \"{GROUP}\"\ninstance = \"{instance}\"\nworkers = {workers}\nstatic_membership = {is_static}\n\
         commit_interval = \"{commit_interval_ms}ms\"\nsnapshot_every = \"{snapshot_every_ms}ms\"\n\
         snapshot_kib_per_second = {snapshot_kib_per_second}\nbatch_max = {batch_max}\n{transaction}\n\
         [sink]\noutput = \"{OUTPUT}\"\ngroup_id = \"{SINK_GROUP}\"\n\n[sink.roll]\nrows = 4_000\ninterval = \"1s\"\n\n{streams}"
    )
}
