//! The broker under test: the embedded one or Apache Kafka, with the same settings and the same handle.

use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use kafka_protocol::messages::{DescribeTransactionsRequest, FindCoordinatorRequest, GroupId, OffsetFetchRequest};
use tempfile::TempDir;
use tidewatch_broker::{Broker, BrokerConfig};
use tidewatch_kafka::{KafkaServer, StartOptions};

use crate::raw::{Connection, text};
use crate::transactor::init_once;

/// How long a condition that must come may take on the slowest machine: a bound, not an expectation.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// FindCoordinator's kinds of key.
pub(crate) const GROUP: i8 = 0;
pub(crate) const TRANSACTION: i8 = 1;

/// Which broker.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Embedded,
    Kafka,
}

/// A running broker.
pub(crate) enum Subject {
    Embedded(Box<Embedded>),
    Kafka(Box<KafkaServer>),
}

/// The embedded broker with what it takes to start it again on the same port and folder.
pub(crate) struct Embedded {
    broker: Mutex<Option<Broker>>,
    config: BrokerConfig,
    bootstrap: String,
    _folder: TempDir,
}

impl Subject {
    /// The one that most checks share, each with names of its own.
    pub(crate) fn shared(kind: Kind) -> &'static Self {
        static EMBEDDED: OnceLock<Subject> = OnceLock::new();
        static KAFKA: OnceLock<Subject> = OnceLock::new();
        match kind {
            Kind::Embedded => EMBEDDED.get_or_init(|| Self::own(kind)),
            Kind::Kafka => KAFKA.get_or_init(|| Self::own(kind)),
        }
    }

    /// One for this check alone.
    pub(crate) fn own(kind: Kind) -> Self {
        let subject = match kind {
            Kind::Embedded => Self::Embedded(Box::new(Embedded::start())),
            Kind::Kafka => Self::Kafka(Box::new(start_kafka())),
        };
        subject.wait_for_coordinators();
        subject
    }

    /// Kafka makes its internal topics at the first question for a coordinator, and loads them after each start.
    fn wait_for_coordinators(&self) {
        let mut connection = Connection::open(self);
        for key_type in [GROUP, TRANSACTION] {
            let request =
                FindCoordinatorRequest::default().with_key_type(key_type).with_coordinator_keys(vec![text("x")]);
            eventually("the coordinators are found", || {
                (connection.ask(4, request.clone()).coordinators[0].error_code == 0).then_some(())
            });
        }
        let group = OffsetFetchRequestGroup::default().with_group_id(GroupId(text("x"))).with_topics(None);
        let request = OffsetFetchRequest::default().with_groups(vec![group]);
        eventually("groups are loaded", || {
            (connection.ask(8, request.clone()).groups[0].error_code == 0).then_some(())
        });
        let request = DescribeTransactionsRequest::default().with_transactional_ids(vec![text("x").into()]);
        let unknown_id = 105;
        eventually("transactions are loaded", || {
            (connection.ask(0, request.clone()).transaction_states[0].error_code == unknown_id).then_some(())
        });
        // Ids are given out by the controller, which is slow to the first question.
        eventually("producer ids are there", || {
            (init_once(&mut connection, None, 60_000, -1, -1).error_code == 0).then_some(())
        });
    }

    /// `HOST:PORT`, the same after a restart.
    pub(crate) fn bootstrap(&self) -> &str {
        match self {
            Self::Embedded(embedded) => &embedded.bootstrap,
            Self::Kafka(server) => server.bootstrap_servers(),
        }
    }

    pub(crate) fn port(&self) -> u16 {
        self.bootstrap().rsplit_once(':').unwrap().1.parse().unwrap()
    }

    /// Stops the broker in order and starts it again.
    pub(crate) fn restart(&self) {
        match self {
            Self::Embedded(embedded) => {
                embedded.take().stop();
                embedded.start_again();
            }
            Self::Kafka(server) => {
                server.stop();
                server.restart().unwrap();
            }
        }
        self.wait_for_coordinators();
    }

    /// Ends the broker as a crash of its process would and starts it again.
    pub(crate) fn kill_and_restart(&self) {
        match self {
            Self::Embedded(embedded) => {
                embedded.take().kill();
                embedded.start_again();
            }
            Self::Kafka(server) => {
                server.kill();
                server.restart().unwrap();
            }
        }
        self.wait_for_coordinators();
    }
}

impl Embedded {
    fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("tidewatch-broker-").tempdir().unwrap();
        let mut config = BrokerConfig {
            maintenance_interval: Duration::from_millis(200),
            ..BrokerConfig::at(folder.path().join("data"))
        };
        let broker = Broker::start(config.clone()).unwrap();
        config.listen = broker.address();
        let bootstrap = broker.bootstrap_servers();
        Self { broker: Mutex::new(Some(broker)), config, bootstrap, _folder: folder }
    }

    fn take(&self) -> Broker {
        self.broker.lock().unwrap().take().unwrap()
    }

    fn start_again(&self) {
        *self.broker.lock().unwrap() = Some(Broker::start(self.config.clone()).unwrap());
    }
}

/// Kafka with the embedded broker's settings, and with short pauses where it would let a test wait.
fn start_kafka() -> KafkaServer {
    let properties = [
        // One thread each, so that requests are carried out in the order in which they are read, as here.
        ("num.network.threads", "1"),
        ("num.io.threads", "1"),
        ("offsets.topic.num.partitions", "1"),
        ("transaction.state.log.num.partitions", "1"),
        ("auto.create.topics.enable", "true"),
        ("group.min.session.timeout.ms", "10"),
        ("log.retention.ms", "604800000"),
        ("log.message.timestamp.after.max.ms", "3600000"),
        ("log.cleaner.backoff.ms", "200"),
        ("log.retention.check.interval.ms", "200"),
        ("log.initial.task.delay.ms", "200"),
        ("transaction.abort.timed.out.transaction.cleanup.interval.ms", "100"),
    ];
    let properties = properties.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    KafkaServer::start(StartOptions { properties, ..StartOptions::default() }).unwrap_or_else(|error| panic!("{error}"))
}

/// Asks again and again until there is an answer.
pub(crate) fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "{what}: not within {} s", PATIENCE.as_secs());
        std::thread::sleep(Duration::from_millis(10)); // another process decides: there is nothing to be woken by
    }
}

/// A name that no other check uses.
pub(crate) fn unique(what: &str) -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("{what}-{}", COUNT.fetch_add(1, Ordering::Relaxed))
}
