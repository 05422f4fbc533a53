//! What is watched, and how: the declaration of a stream.
//!
//! [`StreamSettings`] is what a user writes; [`StreamSettings::validate`] turns it into a [`StreamConfig`], which holds only values
//! that make sense together, so that nothing behind it has to check again.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::de::{self, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::detect::DetectorKind;

mod duration;
mod forecast;
mod limit;
mod maintenance;
mod rate;
mod validate;

pub use duration::Span;
pub(crate) use forecast::slot_ms;
pub use forecast::{ForecastParams, ForecastSettings, Seasons, Tier};
pub use limit::{Limit, LimitSettings};
pub use maintenance::Maintenance;
pub use rate::Rate;
pub use validate::{Measure, StreamConfig};

/// How the values of the input topic are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// Avro with a single-object or Confluent header in front.
    Avro,
    /// One JSON object.
    Json,
}

/// The unit of an event time that is written as a bare number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TimeUnit {
    /// Seconds since 1970.
    #[serde(rename = "s")]
    Seconds,
    /// Milliseconds since 1970.
    #[serde(rename = "ms")]
    Millis,
    /// Microseconds since 1970.
    #[serde(rename = "us")]
    Micros,
    /// Nanoseconds since 1970.
    #[serde(rename = "ns")]
    Nanos,
}

/// How event time is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", try_from = "WindowTable")]
pub enum WindowSettings {
    /// Windows of this length, one after the other.
    Tumbling(Span),
    /// Windows of the first length, a new one at every multiple of the second.
    Hopping([Span; 2]),
    /// Windows that end when an entity has sent nothing for this long.
    Session(Span),
}

/// A window as it is written: a table, so that two kinds, none, or an unknown one are refused in words of ours.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table such as { tumbling = \"1m\" }")]
struct WindowTable {
    tumbling: Option<Span>,
    hopping: Option<[Span; 2]>,
    session: Option<Span>,
}

impl TryFrom<WindowTable> for WindowSettings {
    type Error = &'static str;

    fn try_from(table: WindowTable) -> Result<Self, Self::Error> {
        match (table.tumbling, table.hopping, table.session) {
            (Some(size), None, None) => Ok(Self::Tumbling(size)),
            (None, Some(size_and_slide), None) => Ok(Self::Hopping(size_and_slide)),
            (None, None, Some(gap)) => Ok(Self::Session(gap)),
            _ => Err(
                "write exactly one of { tumbling = \"1m\" }, { hopping = [\"1m\", \"10s\"] } and { session = \"30s\" }",
            ),
        }
    }
}

/// What is done with what a topic holds already when a processor first sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bootstrap {
    /// It is input like any other.
    #[default]
    Off,
    /// It is read from the earliest record on and learnt from, and nobody hears of an alert that opens in it.
    Earliest,
}

/// Whether a window that late events change is told again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Revisions {
    /// A window is told when event time has passed its end, and again, as a revision, when events within `lateness` change it.
    On,
    /// A window is told once, `lateness` after its end.
    #[default]
    Off,
}

/// What a series takes from a window's summary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Aggregate {
    /// Number of values.
    Count,
    /// Their sum.
    Sum,
    /// Their mean.
    Mean,
    /// Their standard deviation.
    Stddev,
    /// The smallest.
    Min,
    /// The greatest.
    Max,
    /// The median (by a sketch, 1 % relative error).
    P50,
    /// The 95th percentile (by a sketch, 1 % relative error).
    P95,
    /// The 99th percentile (by a sketch, 1 % relative error).
    P99,
}

impl Aggregate {
    /// The name that settings and records use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Sum => "sum",
            Self::Mean => "mean",
            Self::Stddev => "stddev",
            Self::Min => "min",
            Self::Max => "max",
            Self::P50 => "p50",
            Self::P95 => "p95",
            Self::P99 => "p99",
        }
    }

    /// The quantile that a sketch has to answer for, if it is one.
    #[must_use]
    pub const fn quantile(self) -> Option<f64> {
        match self {
            Self::P50 => Some(0.50),
            Self::P95 => Some(0.95),
            Self::P99 => Some(0.99),
            _ => None,
        }
    }
}

/// Which side of what was expected is worth an alert.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// Above.
    Up,
    /// Below.
    Down,
    /// Above and below.
    #[default]
    Both,
}

/// What of a measure is worth an alert, whatever the detectors say.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Guards {
    /// Which side of what was expected.
    pub direction: Direction,
    /// The least deviation from what was expected, in units of the measure.
    pub min_deviation: f64,
    /// The same as a share of what was expected.
    pub min_deviation_ratio: f64,
    /// A mean, extreme or quantile outside is an anomaly at once, also while the detectors warm up; left out: anything may be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub valid_range: Option<[f64; 2]>,
    /// When nothing is: windows into which it falls are neither scored nor learnt.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub maintenance: Vec<Maintenance>,
}

impl Guards {
    /// Whether a window is not judged.
    pub(crate) fn is_maintained(&self, start_ms: i64, end_ms: i64) -> bool {
        self.maintenance.iter().any(|maintenance| maintenance.covers(start_ms, end_ms))
    }

    /// Whether a deviation from `expected` is worth an alert.
    pub(crate) fn allow(&self, expected: f64, deviation: f64) -> bool {
        let side = match self.direction {
            Direction::Both => true,
            Direction::Up => deviation > 0.0,
            Direction::Down => deviation < 0.0,
        };
        let least = self.min_deviation.max(self.min_deviation_ratio * expected.abs());
        side && deviation.abs() >= least
    }

    /// Whether a value cannot be right, or must not be.
    pub(crate) fn is_out_of_range(&self, aggregate: Aggregate, value: f64) -> bool {
        let has_range = !matches!(aggregate, Aggregate::Count | Aggregate::Sum | Aggregate::Stddev);
        has_range && self.valid_range.is_some_and(|[low, high]| !(low..=high).contains(&value))
    }
}

/// Which forest judges the series of an entity together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IsolationForest {
    /// One of densities for all entities of a cohort, see [`crate::detect::forest`].
    #[default]
    Cohort,
    /// The Online Isolation Forest of each entity, see [`crate::detect::isolation_forest`]; for comparison.
    Online,
}

/// A number that an event carries, and what is done with it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MeasureSettings {
    /// Its name in what is written.
    pub name: String,
    /// The event's field that holds it (dots reach into nested records).
    pub field: String,
    /// Its unit, for people: `ms`, `bytes`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// The series that are watched, one an aggregate.
    #[serde(default = "MeasureSettings::default_aggregates")]
    pub aggregates: Vec<Aggregate>,
    /// The detectors that score each series.
    #[serde(default = "MeasureSettings::default_detectors")]
    pub detectors: Vec<DetectorKind>,
    /// The forecast of each series; left out: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forecast: Option<ForecastSettings>,
    /// What it must not pass: a person hears of it before a forecast comes true that does; left out: it may be anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<LimitSettings>,
    /// What of it is worth an alert.
    #[serde(default, skip_serializing_if = "is_default")]
    pub guards: Guards,
}

fn is_default(guards: &Guards) -> bool {
    *guards == Guards::default()
}

impl MeasureSettings {
    fn default_aggregates() -> Vec<Aggregate> {
        vec![Aggregate::Mean]
    }
    pub(crate) fn default_detectors() -> Vec<DetectorKind> {
        vec![DetectorKind::IsolationForest, DetectorKind::Residual, DetectorKind::Novelty, DetectorKind::Shift]
    }
}

/// Whose false alarms are counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Per {
    /// Each series'.
    #[default]
    Series,
    /// All those of an entity together.
    Entity,
}

/// Windows in a row without an event of an entity that open a `dropout` alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropoutAfter {
    /// So many.
    Windows(u32),
    /// More than the entity misses by chance, by how often it does.
    Auto,
}

impl DropoutAfter {
    const AUTO: &str = "auto";
}

impl Serialize for DropoutAfter {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Windows(windows) => serializer.serialize_u32(*windows),
            Self::Auto => serializer.serialize_str(Self::AUTO),
        }
    }
}

impl<'de> Deserialize<'de> for DropoutAfter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl Visitor<'_> for Read {
            type Value = DropoutAfter;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number from 0 to 4294967295, or \"auto\"")
            }
            fn visit_u64<E: de::Error>(self, windows: u64) -> Result<DropoutAfter, E> {
                let wrong = || E::invalid_value(Unexpected::Unsigned(windows), &self);
                u32::try_from(windows).map(DropoutAfter::Windows).map_err(|_| wrong())
            }
            fn visit_i64<E: de::Error>(self, windows: i64) -> Result<DropoutAfter, E> {
                let wrong = || E::invalid_value(Unexpected::Signed(windows), &self);
                u32::try_from(windows).map(DropoutAfter::Windows).map_err(|_| wrong())
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<DropoutAfter, E> {
                if text == DropoutAfter::AUTO {
                    return Ok(DropoutAfter::Auto);
                }
                // From the environment, where everything is text.
                text.parse().map(DropoutAfter::Windows).map_err(|_| E::invalid_value(Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(Read)
    }
}

/// When a person hears of an anomaly. A score of 1.0 is enough.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AlertSettings {
    /// How many alerts may be opened though nothing is wrong.
    pub false_alarms: Rate,
    /// Whether that is of each series or of each entity.
    pub per: Per,
    /// For how long, and for 100 windows at most, it is no news what is no more than twice as strong as what was told.
    pub repeat_after: Span,
    /// Anomalous windows in a row that open an alert.
    pub open_after: u32,
    /// A score that opens one at once.
    pub open_at_once: f64,
    /// An open alert's window is calm below this score (hysteresis: less than 1).
    pub calm_below: f64,
    /// Calm windows in a row that resolve it.
    pub resolve_after: u32,
    /// Anomalous windows in a row, to one side, from which a spike or dip is called a level shift (or a drift, if it grows).
    pub sustained_after: u32,
    /// Peak scores from which an alert is medium, high, critical.
    pub severities: [f64; 3],
    /// Windows in a row without an event of an entity that open a `dropout` alert; left out: none does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dropout_after: Option<DropoutAfter>,
}

impl Default for AlertSettings {
    fn default() -> Self {
        Self {
            false_alarms: Rate::default(),
            per: Per::default(),
            repeat_after: Span::from_millis(43_200_000),
            open_after: 1,
            open_at_once: 2.0,
            calm_below: 0.7,
            resolve_after: 3,
            sustained_after: 12,
            severities: [1.5, 2.5, 4.0],
            dropout_after: None,
        }
    }
}

/// The declaration of a stream, as a user writes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamSettings {
    /// Its name in what is written.
    pub name: String,
    /// The input topic.
    pub topic: String,
    /// How its values are written.
    pub format: Format,
    /// Files with the Avro schemas that its writers use; the built-in ones are known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub schemas: Vec<SchemaSource>,
    /// Whether a partition without a committed offset is read from its beginning to learn without alerting (`earliest`).
    #[serde(default)]
    pub bootstrap: Bootstrap,
    /// The fields whose values name the entity. One entity must live in one partition.
    pub entity: Vec<String>,
    /// Those of them that name its cohort: entities that agree in these share a forest, and a new one borrows from the others; left out:
    /// all entities of the stream.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cohort: Vec<String>,
    /// Which forest judges the series of an entity together.
    #[serde(default)]
    pub isolation_forest: IsolationForest,
    /// The field with the event's time.
    pub event_time: String,
    /// The unit of an event time that is a bare number.
    #[serde(default = "StreamSettings::default_unit")]
    pub event_time_unit: TimeUnit,
    /// How event time is cut.
    pub window: WindowSettings,
    /// How far events may be out of order: the watermark trails the greatest event time by this.
    #[serde(default = "StreamSettings::default_disorder")]
    pub disorder: Span,
    /// How much longer a window takes late events in before it is final.
    #[serde(default)]
    pub lateness: Span,
    /// Whether a window is told at its end and revised while it takes late events in (`on`), or once when it is final (`off`).
    #[serde(default)]
    pub revisions: Revisions,
    /// After this long without an event that was scored, event time goes on as the clock does, so that windows close without new data;
    /// 0 leaves them open until the next one.
    #[serde(default = "StreamSettings::default_idle_timeout")]
    pub idle_timeout: Span,
    /// An event whose time is further than this after its record's Kafka timestamp is a dead letter: it would close windows that other
    /// events still belong to. A record without a timestamp, or with a negative one, cannot be told from a right one.
    #[serde(default = "StreamSettings::default_future_max")]
    pub future_max: Span,
    /// The field with the event's id; events of an entity with an id that was seen before are counted as duplicates and not scored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_id: Option<String>,
    /// How long an event's id is remembered after the event's time.
    #[serde(default = "StreamSettings::default_event_id_memory")]
    pub event_id_memory: Span,
    /// Ids that are remembered of an entity, the latest ones.
    #[serde(default = "StreamSettings::default_event_ids_max")]
    pub event_ids_max: usize,
    /// Takes only events in whose fields have one of these values; others are counted as filtered.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub only: BTreeMap<String, Vec<String>>,
    /// Entities that one partition remembers; at the bound the least recently seen makes room.
    #[serde(default = "StreamSettings::default_entities_max")]
    pub entities_max: usize,
    /// The seed of the forests' random cuts.
    #[serde(default)]
    pub seed: u64,
    /// The numbers that are watched.
    #[serde(rename = "measure")]
    pub measures: Vec<MeasureSettings>,
    /// When a person hears of an anomaly.
    #[serde(default)]
    pub alert: AlertSettings,
}

impl StreamSettings {
    fn default_unit() -> TimeUnit {
        TimeUnit::Millis
    }
    fn default_disorder() -> Span {
        Span::from_millis(2_000)
    }
    fn default_idle_timeout() -> Span {
        Span::from_millis(300_000)
    }
    fn default_future_max() -> Span {
        Span::from_millis(3_600_000)
    }
    fn default_event_id_memory() -> Span {
        Span::from_millis(600_000)
    }
    fn default_event_ids_max() -> usize {
        10_000
    }
    fn default_entities_max() -> usize {
        100_000
    }

    /// Checks the declaration and works out what follows from it.
    ///
    /// # Errors
    /// Names the first setting that cannot be, why, and what to do.
    pub fn validate(&self) -> Result<Arc<StreamConfig>, ConfigError> {
        StreamConfig::from_settings(self).map(Arc::new)
    }
}

/// A writer's schema: the file, and its id where a schema registry numbers it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SchemaSource {
    /// The `.avsc` file.
    pub file: String,
    /// Its id in the Confluent wire format.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<u32>,
}

/// A declaration that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("stream `{stream}`: `{setting}` {problem}")]
pub struct ConfigError {
    /// The stream's name.
    pub stream: String,
    /// The setting, as a path inside the declaration.
    pub setting: String,
    /// What is wrong, and what to do.
    pub problem: String,
}
