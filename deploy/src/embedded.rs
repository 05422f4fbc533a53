//! The embedded broker as this program uses it: alone (`tidewatch broker`), under the demo, and for as long as a command runs that
//! was given a broker's folder (`folder:DIR`) in place of an address.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use tidewatch_broker::{Broker, StartError, Storage};
use tidewatch_topic_io::KafkaConfig;

use crate::cli::BrokerArgs;
use crate::settings::{BrokerSettings, Settings};
use crate::shutdown::Shutdown;

/// What stands before the folder where a broker's address could stand.
pub(crate) const FOLDER: &str = "folder:";
/// How often the wish to end is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// `tidewatch broker`: serves until it is asked to end.
///
/// # Errors
/// Why it cannot start.
pub(crate) fn run(args: &BrokerArgs, settings: &Settings, shutdown: &Shutdown) -> anyhow::Result<()> {
    let began = Instant::now();
    let storage = if args.memory { Storage::Memory } else { Storage::Folder((&settings.broker.data).into()) };
    let place = match &storage {
        Storage::Memory => "data in memory".to_owned(),
        Storage::Folder(folder) => format!("data in {}", folder.display()),
    };
    let mut config = settings.broker.config(storage)?;
    config.repair = args.repair;
    if config.listen.ip().is_unspecified() && config.advertised_host.is_none() {
        tracing::warn!(
            "clients are told to connect to this machine's loopback address; --advertise HOST names one for others"
        );
    }
    let broker = Broker::start(config)?;
    let ready = format!(
        "Tidewatch broker ready in {} ms at {}, {place}. For development; Ctrl-C ends it",
        began.elapsed().as_millis(),
        broker.bootstrap_servers()
    );
    // Who started it may have closed the pipe after this line, or before: it serves all the same.
    let _ = writeln!(std::io::stdout(), "{ready}").and_then(|()| std::io::stdout().flush());
    while !shutdown.is_asked_for() {
        anyhow::ensure!(!broker.has_ended(), "the broker ended by a panic: a defect, please report it");
        std::thread::sleep(LOOK_EVERY);
    }
    broker.stop();
    Ok(())
}

/// A broker of the program's own, on a free loopback port, with its records in `folder`.
///
/// # Errors
/// Why it cannot start, or a setting that cannot be.
pub(crate) fn start(settings: &BrokerSettings, folder: &Path) -> anyhow::Result<Broker> {
    let mut config = settings.config(Storage::Folder(folder.to_path_buf()))?;
    config.listen = SocketAddr::from(([127, 0, 0, 1], 0));
    config.advertised_host = None;
    Ok(Broker::start(config)?)
}

/// If the settings name a broker's folder in place of an address: serves it, and puts the address in place of the folder. Where a
/// broker is serving it already, that one's address is taken. The broker has to be kept for as long as it is needed.
///
/// # Errors
/// No such folder (unless it `may_be_new`), or one that cannot be served.
pub(crate) fn serve_folder(settings: &mut Settings, may_be_new: bool) -> anyhow::Result<Option<Broker>> {
    let Some(folder) = settings.kafka.bootstrap_servers.strip_prefix(FOLDER).map(Path::new) else { return Ok(None) };
    anyhow::ensure!(
        may_be_new || folder.is_dir(),
        "kafka.bootstrap_servers = \"{}\": there is no folder {}",
        settings.kafka.bootstrap_servers,
        folder.display()
    );
    let (address, broker) = match start(&settings.broker, folder) {
        Ok(broker) => (broker.bootstrap_servers(), Some(broker)),
        Err(error) => match error.downcast_ref() {
            Some(StartError::InUse { address: Some(address), .. }) => (address.clone(), None),
            _ => return Err(error),
        },
    };
    settings.kafka = at(&settings.kafka, &address);
    Ok(broker)
}

/// The connection to a broker of ours: what a person set for the client stays, security has no place there.
pub(crate) fn at(kafka: &KafkaConfig, address: &str) -> KafkaConfig {
    KafkaConfig {
        client_id: kafka.client_id.clone(),
        properties: kafka.properties.clone(),
        connect_timeout: kafka.connect_timeout,
        ..KafkaConfig::at(address)
    }
}

/// Processor time that the embedded broker's threads have used in this process, where the system tells.
pub(crate) fn cpu() -> Option<Duration> {
    /// Linux counts in hundredths of a second, whatever its clock (`USER_HZ`).
    const TICK: Duration = Duration::from_millis(10);
    let mut ticks = 0;
    for thread in std::fs::read_dir("/proc/self/task").ok()?.flatten() {
        let Ok(stat) = std::fs::read_to_string(thread.path().join("stat")) else { continue };
        ticks += broker_ticks(&stat).unwrap_or(0);
    }
    Some(TICK * ticks)
}

/// User and system time of a thread of the broker's, by its line in /proc (fields 2, 14 and 15).
fn broker_ticks(stat: &str) -> Option<u32> {
    let (head, fields) = stat.rsplit_once(") ")?;
    let (_, name) = head.split_once('(')?;
    let mut times = fields.split(' ').skip(11).map_while(|ticks| ticks.parse::<u32>().ok());
    name.starts_with("broker").then(|| Some(times.next()? + times.next()?))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_brokers_threads_are_told_by_their_name() {
        let stat = |name: &str| format!("17 ({name}) S 1 2 3 4 -1 6 7 8 9 10 250 50 13 14");
        assert_eq!(broker_ticks(&stat("broker")), Some(300));
        assert_eq!(broker_ticks(&stat("broker-sync) x")), Some(300));
        assert_eq!(broker_ticks(&stat("produce")), None);
        assert_eq!(broker_ticks("17 (broker"), None);
    }
}
