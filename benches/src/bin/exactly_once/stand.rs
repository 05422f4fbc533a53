//! What is measured on: a broker, and for each run topics and a group of its own, under settings that the program and the processor
//! in this process share.

use std::path::Path;

use serde::Serialize;
use serde_json::json;
use tempfile::TempDir;
use tidewatch_benches::BrokerKind;
use tidewatch_broker::{Broker, BrokerConfig};
use tidewatch_kafka::{KafkaServer, StartOptions};
use tidewatch_processor::{ProcessorConfig, ProcessorSettings};
use tidewatch_processor_core::StreamSettings;
use tidewatch_processor_core::config::Span;
use tidewatch_schemas::catalogue::Topics;
use tidewatch_topic_io::{Admin, KafkaConfig};

/// Lives as long as the stand.
enum Server {
    Embedded(Broker),
    Kafka(KafkaServer),
}

/// A broker, and a folder for what belongs to a measurement.
pub(crate) struct Stand {
    pub(crate) kafka: KafkaConfig,
    pub(crate) admin: Admin,
    // The broker ends before its folder goes.
    _server: Server,
    folder: TempDir,
}

impl Stand {
    pub(crate) fn start(kind: BrokerKind) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("tidewatch-exactly-once-").tempdir()?;
        let server = match kind {
            BrokerKind::Embedded => {
                let config = BrokerConfig::at(folder.path().join("broker"));
                Server::Embedded(Broker::start(tidewatch_test_brokers::embedded_config(config))?)
            }
            BrokerKind::Kafka => Server::Kafka(KafkaServer::start(StartOptions::default())?),
        };
        let address = match &server {
            Server::Embedded(broker) => broker.bootstrap_servers(),
            Server::Kafka(server) => server.bootstrap_servers().to_owned(),
        };
        let kafka = KafkaConfig::at(&address);
        let admin = Admin::connect(&kafka)?;
        Ok(Self { kafka, admin, _server: server, folder })
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }
}

/// What a run processes, and how; its topics and its group bear its name.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) name: String,
    pub(crate) partitions: i32,
    pub(crate) settings: ProcessorSettings,
    pub(crate) stream: StreamSettings,
    pub(crate) topics: Topics,
}

/// The width of the topics that the program creates.
#[derive(Serialize)]
struct TopicCreation {
    partitions: i32,
}

/// The file that the program reads.
#[derive(Serialize)]
struct SettingsFile<'a> {
    topic_creation: TopicCreation,
    processor: &'a ProcessorSettings,
    topics: &'a Topics,
    stream: [&'a StreamSettings; 1],
}

impl Run {
    /// Watches checks with these windows and detectors; as shipped in all else.
    pub(crate) fn new(
        name: &str,
        partitions: i32,
        entities: u64,
        window: &str,
        detectors: &[&str],
    ) -> anyhow::Result<Self> {
        let topic = |what: &str| format!("{name}.{what}");
        let stream: StreamSettings = serde_json::from_value(json!({
            "name": "checks", "topic": topic("input"), "format": "avro", "entity": ["check", "location"],
            "event_time": "event_time", "window": { "tumbling": window }, "disorder": "0s", "entities_max": entities,
            "measure": [{ "name": "response", "field": "response_ms", "detectors": detectors }],
        }))?;
        let topics = Topics {
            metrics: topic("metrics"),
            forecasts: topic("forecasts"),
            alerts: topic("alerts"),
            late: topic("late"),
            dead_letters: topic("dead-letters"),
            state: topic("state"),
            ledger: topic("ledger"),
            ..Topics::default()
        };
        let settings = ProcessorSettings { group_id: name.to_owned(), ..ProcessorSettings::default() };
        Ok(Self { name: name.to_owned(), partitions, settings, stream, topics })
    }

    /// The settings file of this run.
    pub(crate) fn text(&self) -> anyhow::Result<String> {
        let Self { settings, topics, stream, partitions, .. } = self;
        let topic_creation = TopicCreation { partitions: *partitions };
        Ok(toml::to_string(&SettingsFile { topic_creation, processor: settings, topics, stream: [stream] })?)
    }

    /// For the processor in this process.
    pub(crate) fn config(&self, kafka: &KafkaConfig) -> anyhow::Result<ProcessorConfig> {
        let Self { settings, topics, stream, .. } = self.clone();
        Ok(ProcessorConfig { kafka: kafka.clone(), streams: vec![stream.validate()?], topics, settings })
    }
}

/// Snapshot rounds so far apart that there is none but the last, at the end.
pub(crate) fn hardly_ever() -> Span {
    Span::from_millis(24 * 3_600_000)
}
