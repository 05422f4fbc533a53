//! All settings of the program: the parts' own structs in one tree, read in layers and checked before anything starts.
//!
//! Invariant: this is the only place that reads settings files and the environment. The defaults are `config/reference.toml`, which
//! is also what `config reference` prints; a test holds it against the structs' own defaults.

mod broker;
mod error;
mod layers;
pub(crate) mod show;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tidewatch_processor::{ProcessorSettings, check_streams};
use tidewatch_processor_core::config::{Span, StreamConfig, StreamSettings};
use tidewatch_producer::scenario::Scenario;
use tidewatch_producer::schedule::Pace;
use tidewatch_producer::stream::StreamKind;
use tidewatch_schemas::catalogue::Topics;
use tidewatch_sink::{DeliveryConfig, SinkSettings};
use tidewatch_topic_io::{KafkaConfig, TopicSpec};

use crate::score::ScoreConfig;
pub(crate) use broker::BrokerSettings;
pub(crate) use error::SettingsError;
pub(crate) use layers::Layers;

/// Every setting with its default, for people and for [`load`].
pub(crate) const REFERENCE: &str = include_str!("../config/reference.toml");
/// The streams that are watched unless a file declares others.
pub(crate) const DEMO_STREAMS: &str = include_str!("../config/demo.toml");
/// Those that a demo with disorder watches unless a file declares others.
const DISORDER_STREAMS: &str = include_str!("../config/disorder.toml");
/// The file that is read without being asked for.
const FILE_IN_WORKING_FOLDER: &str = "tidewatch.toml";
/// Where `up` and `process` listen unless told otherwise.
const LISTEN_BY_DEFAULT: &str = "127.0.0.1:9464";

/// The whole tree.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    /// The connection.
    pub kafka: KafkaConfig,
    /// Names of topics.
    pub topics: Topics,
    /// How missing topics are created.
    pub topic_creation: TopicCreation,
    /// The load generator.
    pub producer: ProducerSettings,
    /// The processor.
    pub processor: ProcessorSettings,
    /// Storage of results.
    pub sink: SinkSettings,
    /// The comparison with the truth.
    pub score: ScoreSettings,
    /// The embedded broker.
    pub broker: BrokerSettings,
    /// Logs and metrics.
    pub telemetry: TelemetrySettings,
    /// What is watched.
    #[serde(rename = "stream")]
    pub streams: Vec<StreamSettings>,
}

/// `[topic_creation]`.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(crate) struct TopicCreation {
    /// Of each topic.
    pub partitions: i32,
    /// -1: the cluster's default.
    pub replication: i32,
    /// Of records, by their event time.
    pub retention: Span,
}

/// `[producer]`.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProducerSettings {
    /// A shipped name or a file.
    pub scenario: String,
    /// Which variant.
    pub seed: u64,
    /// None: the scenario's.
    pub events: Option<u64>,
    /// Events per second.
    pub rate: Option<f64>,
    /// Times event time.
    pub speed: Option<f64>,
    /// Publishing threads.
    pub threads: usize,
}

/// `[score]`.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(crate) struct ScoreSettings {
    /// How often the score is published.
    pub publish_every: Span,
    /// How long after its onset a fault can be found at least; none: half an hour, or three windows where these are longer.
    pub delay_max: Option<Span>,
    /// Entities, faults and alert records that are kept at most.
    pub records_max: usize,
}

/// `[telemetry]`.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(crate) struct TelemetrySettings {
    /// Of the HTTP endpoint.
    pub listen: Option<String>,
    /// Directives of the log.
    pub log: String,
    /// How lines are written.
    pub log_format: LogFormat,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Settings with what is needed to show where they came from.
#[derive(Clone, Debug)]
pub(crate) struct Loaded {
    /// The settings.
    pub settings: Settings,
    /// Their layers.
    pub layers: Layers,
}

/// A flag that sets a setting: the keys, the value, the flag as it is typed.
pub(crate) type FlagValue = (&'static [&'static str], toml::Value, &'static str);

/// Joins all layers: defaults, file, environment, flags.
///
/// # Errors
/// A file that cannot be read or is no TOML, an unknown key, a value of a wrong type.
pub(crate) fn load(
    file: Option<&Path>,
    environment: impl Iterator<Item = (String, String)>,
    flags: impl IntoIterator<Item = FlagValue>,
) -> Result<Loaded, SettingsError> {
    let mut layers = defaults();
    if let Some((path, text)) = read_file(file)? {
        layers.add_file(&path, &text)?;
    }
    layers.add_environment(environment);
    for (keys, value, flag) in flags {
        layers.add_flag(keys, value, flag);
    }
    let mut loaded = Loaded { settings: layers.read()?, layers };
    loaded.name_inputs();
    Ok(loaded)
}

impl Loaded {
    /// Whether the streams are those that are watched unless others are declared.
    fn has_default_streams(&self) -> bool {
        self.layers.origin(&["stream".to_owned()]) == layers::Origin::Default
    }

    /// The generator's streams are where its topics' names say.
    fn name_inputs(&mut self) {
        if self.has_default_streams() {
            for stream in &mut self.settings.streams {
                if let Some(topic) = self.settings.topics.input(&stream.name) {
                    stream.topic = topic.to_owned();
                }
            }
        }
    }

    /// Watches the streams as the scenario `disorder` assumes, unless others are declared. The schemas to which its writers change
    /// are written to files in this folder.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub(crate) fn watch_disorder(&mut self, folder: &Path) -> std::io::Result<()> {
        if !self.has_default_streams() {
            return Ok(());
        }
        self.settings.streams = table(DISORDER_STREAMS)["stream"].clone().try_into().expect("a test reads them");
        self.name_inputs();
        std::fs::create_dir_all(folder)?;
        for kind in StreamKind::ALL {
            let streams = self.settings.streams.iter_mut().filter(|stream| stream.name == kind.name());
            for (schema, json) in streams.flat_map(|stream| &mut stream.schemas).zip(kind.evolved_schemas()) {
                let file = folder.join(Path::new(&schema.file).file_name().unwrap_or_default());
                std::fs::write(&file, json)?;
                schema.file = file.display().to_string();
            }
        }
        Ok(())
    }
}

fn table(text: &str) -> toml::Table {
    text.parse().expect("a test parses the files that are compiled in")
}

fn defaults() -> Layers {
    let mut defaults = table(REFERENCE);
    defaults.extend(table(DEMO_STREAMS));
    Layers::from_defaults(defaults)
}

fn read_file(asked_for: Option<&Path>) -> Result<Option<(PathBuf, String)>, SettingsError> {
    let path = asked_for.unwrap_or(Path::new(FILE_IN_WORKING_FOLDER));
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some((path.to_path_buf(), text))),
        Err(error) if asked_for.is_none() && error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(SettingsError::Unreadable { path: path.display().to_string(), problem: error.to_string() }),
    }
}

impl Settings {
    /// Checks all parts, also those that a command does not use.
    ///
    /// # Errors
    /// The first setting that cannot be, in one line.
    pub(crate) fn validate(&self) -> Result<(), SettingsError> {
        self.kafka.validate().map_err(invalid)?;
        self.processor.validate(&self.kafka).map_err(invalid)?;
        self.streams()?;
        self.delivery()?;
        self.scoring()?;
        self.scenario()?;
        self.pace()?;
        if self.topic_creation.partitions < 1 {
            return Err(invalid(format!(
                "topic_creation.partitions = {} is not at least 1",
                self.topic_creation.partitions
            )));
        }
        self.broker.config(tidewatch_broker::Storage::Memory)?;
        self.listen_address(false)?;
        crate::telemetry::filter(&self.telemetry.log).map(|_| ())
    }

    /// The streams, checked: each, together, and with the other topics.
    pub(crate) fn streams(&self) -> Result<Vec<Arc<StreamConfig>>, SettingsError> {
        self.topics.validate().map_err(invalid)?;
        let streams: Vec<_> =
            self.streams.iter().map(|stream| stream.validate().map_err(invalid)).collect::<Result<_, _>>()?;
        check_streams(&streams, &self.topics).map_err(invalid)?;
        Ok(streams)
    }

    /// What Delivery runs on.
    pub(crate) fn delivery(&self) -> Result<DeliveryConfig, SettingsError> {
        self.sink.validate(self.kafka.clone(), &self.topics).map_err(invalid)
    }

    /// What the scorer runs on.
    pub(crate) fn scoring(&self) -> Result<ScoreConfig, SettingsError> {
        let ScoreSettings { publish_every, delay_max, records_max } = self.score;
        if publish_every.as_millis() == 0 {
            return Err(invalid("score.publish_every = \"0s\" is no time between two; write one like \"10s\""));
        }
        if records_max == 0 {
            return Err(invalid("score.records_max = 0 is not at least 1"));
        }
        let window_ms = self.streams()?.iter().map(|stream| stream.window.last_of(0).1).max().unwrap_or(0);
        Ok(ScoreConfig {
            kafka: self.kafka.clone(),
            topics: self.topics.clone(),
            delay_max_ms: delay_max.map_or_else(|| tidewatch_score::delay_max_ms(window_ms), Span::as_millis),
            publish_every: Duration::from_millis(publish_every.as_millis().unsigned_abs()),
            records_max,
        })
    }

    /// The scenario, with the number of events that is asked for.
    pub(crate) fn scenario(&self) -> Result<Scenario, SettingsError> {
        let name = &self.producer.scenario;
        let scenario = match Scenario::shipped(name) {
            Some(shipped) => shipped,
            None => Scenario::load(Path::new(name))
                .map_err(|error| invalid(format!("producer.scenario = \"{name}\": {error}")))?,
        };
        Ok(match self.producer.events {
            Some(events) => scenario.with_events(events),
            None => scenario,
        })
    }

    /// When events are sent.
    pub(crate) fn pace(&self) -> Result<Pace, SettingsError> {
        let pace = match (self.producer.rate, self.producer.speed) {
            (Some(_), Some(_)) => return Err(invalid("producer.rate and producer.speed are both set; leave one out")),
            (Some(rate), None) => Pace::Rate(rate),
            (None, Some(speed)) => Pace::Speed(speed),
            (None, None) => Pace::Unlimited,
        };
        match pace.problem() {
            Some(problem) => Err(invalid(format!("producer: {problem}"))),
            None => Ok(pace),
        }
    }

    /// Whether the address of the HTTP endpoint is one that somebody asked for.
    pub(crate) fn is_listen_asked_for(&self) -> bool {
        self.telemetry.listen.is_some()
    }

    /// Where the HTTP endpoint listens, if it does.
    pub(crate) fn listen_address(&self, by_default: bool) -> Result<Option<std::net::SocketAddr>, SettingsError> {
        let text = match self.telemetry.listen.as_deref() {
            Some("off") => return Ok(None),
            Some(text) => text,
            None if by_default => LISTEN_BY_DEFAULT,
            None => return Ok(None),
        };
        let problem = |_| {
            invalid(format!(
                "telemetry.listen = \"{text}\" is no address; write one like \"{LISTEN_BY_DEFAULT}\", or \"off\""
            ))
        };
        text.parse().map(Some).map_err(problem)
    }

    /// All topics that the roles use: inputs, those of declared streams too, then outputs.
    pub(crate) fn topic_specs(&self) -> Vec<TopicSpec> {
        let mut names: Vec<&str> = self.topics.with_schemas().iter().map(|&(name, _)| name).collect();
        names.extend(self.streams.iter().map(|stream| stream.topic.as_str()));
        let mut seen = std::collections::BTreeSet::new();
        names.retain(|name| seen.insert(*name));
        names.into_iter().map(|name| self.topic_spec(name)).collect()
    }

    fn topic_spec(&self, name: &str) -> TopicSpec {
        let compacted = [&self.topics.state, &self.topics.ledger, &self.topics.score].contains(&&name.to_owned());
        let retention_ms = (!compacted).then_some(self.topic_creation.retention.as_millis());
        let replication = self.topic_creation.replication;
        let mut spec =
            TopicSpec { replication, compacted, retention_ms, ..TopicSpec::new(name, self.topic_creation.partitions) };
        // Some wrap an input's record, which may itself be as large as its topic allows; the state of an entity grows with its ids.
        if [&self.topics.late, &self.topics.dead_letters, &self.topics.state].contains(&&name.to_owned()) {
            spec.properties.insert("max.message.bytes".into(), LARGE_BYTES_MAX.to_string());
        }
        // What Tidewatch writes is of its events' time, which a load test or a replay may set anywhere; a topic that refuses one record
        // stops all behind it. Before Kafka 3.6 topics have no such bounds.
        if !compacted && !self.streams.iter().any(|stream| stream.topic == name) {
            for bound in ["message.timestamp.before.max.ms", "message.timestamp.after.max.ms"] {
                spec.properties_if_known.insert(bound.into(), i64::MAX.to_string());
            }
        }
        // The newest segment is not compacted, and a restart reads all there is: with Kafka's usual gigabyte that would be far more
        // than the state.
        if compacted {
            let bytes = if name == self.topics.state { STATE_SEGMENT_BYTES } else { LEDGER_SEGMENT_BYTES };
            spec.properties.insert("segment.bytes".into(), bytes.to_string());
        }
        spec
    }
}

/// Segments of the ledger and the score topic, in bytes: some hundred thousand records, which a restart reads in well under a second.
const LEDGER_SEGMENT_BYTES: u32 = 16 * 1024 * 1024;

/// Segments of the state topic, in bytes: some hundred thousand entities of small state.
const STATE_SEGMENT_BYTES: u32 = 32 * 1024 * 1024;

/// Largest record of the late, dead-letter and state topics, in bytes: that of Kafka's usual input topics, many times over.
const LARGE_BYTES_MAX: u32 = 16 * 1024 * 1024;

fn invalid(problem: impl ToString) -> SettingsError {
    SettingsError::Invalid(problem.to_string())
}

#[cfg(test)]
mod tests;
