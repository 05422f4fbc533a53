//! The brokers that tests run on: the embedded one and a real Apache Kafka, one of each for a test binary.
//!
//! Invariant: both are set up alike, and no test knows on which of them it runs. What holds on one and not on the other is a
//! defect of the embedded broker.
//!
//! ```no_run
//! tidewatch_test_brokers::on_both_brokers!(what_is_written_is_read);
//!
//! fn what_is_written_is_read(bootstrap_servers: &str) {
//!     // a writer and a reader of `bootstrap_servers`
//! }
//! # fn main() {}
//! ```

mod process;

use std::sync::OnceLock;
use std::time::Duration;

use tidewatch_broker::{Broker, BrokerConfig};
use tidewatch_kafka::KafkaServer;

pub use process::BrokerProcess;

/// Makes two tests of each function named: `embedded::name` and `apache::name`. The functions take the address to connect to.
#[macro_export]
macro_rules! on_both_brokers {
    ($($test:ident),+ $(,)?) => {
        mod embedded {
            $(#[test] fn $test() { super::$test($crate::embedded()) })+
        }
        mod apache {
            $(#[test] fn $test() { super::$test($crate::apache()) })+
        }
    };
}

/// The address of this process's embedded broker, which is started at the first call. Its records are in memory.
///
/// # Panics
/// If it cannot be started.
pub fn embedded() -> &'static str {
    static SHARED: OnceLock<(Broker, String)> = OnceLock::new();
    let (_, address) = SHARED.get_or_init(|| {
        let broker =
            Broker::start(embedded_config(BrokerConfig::in_memory())).unwrap_or_else(|error| panic!("{error}"));
        let address = broker.bootstrap_servers();
        (broker, address)
    });
    address
}

/// The address of this process's Apache Kafka, which is started at the first call.
///
/// # Panics
/// If it cannot be started.
pub fn apache() -> &'static str {
    KafkaServer::shared().bootstrap_servers()
}

/// An embedded broker that is set up as `tidewatch-kafka` sets up a Kafka: topics have to be declared, telemetry may be of any time.
pub fn embedded_config(broker: BrokerConfig) -> BrokerConfig {
    let any_time = i64::MAX.to_string();
    let topic_defaults = [
        ("retention.ms", "-1"),
        ("message.timestamp.before.max.ms", &any_time),
        ("message.timestamp.after.max.ms", &any_time),
    ];
    BrokerConfig {
        auto_create_topics: false,
        topic_defaults: topic_defaults.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        session_timeout: (Duration::from_millis(500), broker.session_timeout.1),
        ..broker
    }
}
