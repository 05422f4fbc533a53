//! The broker of a run: the embedded one in this process, on a folder and with its faults at hand, or an Apache Kafka behind a relay
//! that has them. Each run has a broker of its own, so that topics, offsets and names are the same in all of them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use rustix::process::Pid;
use tidewatch_benches::BrokerKind;
use tidewatch_broker::{Broker, BrokerConfig, Faults};
use tidewatch_kafka::{KafkaServer, StartOptions};

use crate::proxy::{self, Proxy};

/// A broker that can be killed and comes back at the same address with its data.
pub(crate) enum Cluster {
    Embedded { folder: PathBuf, address: SocketAddr, broker: Option<Broker> },
    Kafka { server: KafkaServer, proxy: Proxy },
}

impl Cluster {
    /// Starts it with its data in this folder.
    pub(crate) fn start(kind: BrokerKind, folder: &Path) -> anyhow::Result<Self> {
        match kind {
            BrokerKind::Embedded => {
                let broker = Broker::start(tidewatch_test_brokers::embedded_config(BrokerConfig::at(folder)))?;
                Ok(Self::Embedded { folder: folder.to_owned(), address: broker.address(), broker: Some(broker) })
            }
            BrokerKind::Kafka => {
                let listener = proxy::listen()?;
                let advertised = format!("PLAINTEXT://{}", listener.local_addr()?);
                let server = KafkaServer::start(StartOptions {
                    data_dir: Some(folder.to_owned()),
                    quiet: true,
                    properties: vec![("advertised.listeners".to_owned(), advertised)],
                    ..StartOptions::default()
                })?;
                let broker = server.bootstrap_servers().parse().context("the broker's address")?;
                Ok(Self::Kafka { proxy: Proxy::start(listener, broker)?, server })
            }
        }
    }

    pub(crate) fn bootstrap_servers(&self) -> String {
        match self {
            Self::Embedded { address, .. } => address.to_string(),
            Self::Kafka { proxy, .. } => proxy.address().to_string(),
        }
    }

    /// What befalls requests; an embedded broker must be up.
    pub(crate) fn faults(&self) -> anyhow::Result<&Faults> {
        match self {
            Self::Embedded { broker, .. } => Ok(broker.as_ref().context("the broker is down")?.faults()),
            Self::Kafka { proxy, .. } => Ok(proxy.faults()),
        }
    }

    /// SIGKILL, or what is the same to the embedded broker's clients and files.
    pub(crate) fn kill(&mut self) {
        match self {
            Self::Embedded { broker, .. } => broker.take().into_iter().for_each(Broker::kill),
            Self::Kafka { server, .. } => server.kill(),
        }
    }

    /// Ends it in order.
    pub(crate) fn stop(&mut self) {
        match self {
            Self::Embedded { broker, .. } => broker.take().into_iter().for_each(Broker::stop),
            Self::Kafka { server, .. } => server.stop(),
        }
    }

    /// Starts it again after [`kill`](Self::kill) or [`stop`](Self::stop).
    pub(crate) fn restart(&mut self) -> anyhow::Result<()> {
        match self {
            Self::Embedded { folder, address, broker } => {
                let config = tidewatch_test_brokers::embedded_config(BrokerConfig::at(&*folder));
                *broker = Some(Broker::start(BrokerConfig { listen: *address, ..config })?);
            }
            Self::Kafka { server, .. } => server.restart()?,
        }
        Ok(())
    }

    pub(crate) fn is_kafka(&self) -> bool {
        matches!(self, Self::Kafka { .. })
    }

    /// The process group of an Apache Kafka; the embedded broker has none of its own.
    pub(crate) fn processes(&self) -> Option<Pid> {
        let Self::Kafka { server, .. } = self else { return None };
        server.watchdog_id().and_then(|id| Pid::from_raw(id.cast_signed()))
    }

    /// Whether it has ended by itself, which is a defect of it.
    pub(crate) fn has_ended(&self) -> bool {
        matches!(self, Self::Embedded { broker: Some(broker), .. } if broker.has_ended())
    }
}
