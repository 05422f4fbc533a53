//! The four kinds of telemetry that the producer makes, and their measures.
//!
//! Invariant: names are those of the fields in the Avro schemas and of the topic catalogue.

use serde::Deserialize;
use tidewatch_schemas::catalogue::Topics;

/// A kind of telemetry; each has a topic and a record type of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StreamKind {
    /// Calls of a service's instances.
    ServiceCalls,
    /// Pods on hosts.
    Infrastructure,
    /// Page loads of a website.
    Beacons,
    /// Synthetic checks from several locations.
    Checks,
}

impl StreamKind {
    /// All kinds, in the order in which they are numbered everywhere.
    pub const ALL: [Self; 4] = [Self::ServiceCalls, Self::Infrastructure, Self::Beacons, Self::Checks];

    /// As in scenario files and in the names of topics.
    pub fn name(self) -> &'static str {
        match self {
            Self::ServiceCalls => "service-calls",
            Self::Infrastructure => "infrastructure",
            Self::Beacons => "beacons",
            Self::Checks => "checks",
        }
    }

    /// Its topic.
    pub fn topic(self, topics: &Topics) -> &str {
        match self {
            Self::ServiceCalls => &topics.service_calls,
            Self::Infrastructure => &topics.infrastructure,
            Self::Beacons => &topics.beacons,
            Self::Checks => &topics.checks,
        }
    }

    /// The fields whose values, joined, are an entity's key.
    pub fn entity_fields(self) -> [&'static str; 2] {
        match self {
            Self::ServiceCalls => ["service", "instance"],
            Self::Infrastructure => ["host", "pod"],
            Self::Beacons => ["site", "page"],
            Self::Checks => ["check", "location"],
        }
    }

    /// What a fault can change; the first is what it changes unless it names another.
    pub fn measures(self) -> &'static [Measure] {
        match self {
            Self::ServiceCalls => &[Measure::DurationMs, Measure::Bytes, Measure::Status],
            Self::Infrastructure => &[Measure::CpuRatio, Measure::MemoryBytes, Measure::DiskRatio, Measure::Restarts],
            Self::Beacons => &[Measure::LoadMs, Measure::Errors],
            Self::Checks => &[Measure::ResponseMs, Measure::Success],
        }
    }
}

/// A number that an event carries and that a fault can change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// Duration of a call, milliseconds.
    DurationMs,
    /// Size of a call's answer.
    Bytes,
    /// Status of a call; a fault multiplies the share of errors.
    Status,
    /// Share of the pod's processors in use.
    CpuRatio,
    /// Memory in use.
    MemoryBytes,
    /// Share of the disk in use.
    DiskRatio,
    /// Restarts since the last event; a fault multiplies their rate.
    Restarts,
    /// Time until a page was loaded, milliseconds.
    LoadMs,
    /// Script errors on a page; a fault multiplies their rate.
    Errors,
    /// Time of a check's answer, milliseconds.
    ResponseMs,
    /// Success of a check (and with it its status); a fault multiplies the share of failures.
    Success,
}

impl Measure {
    /// The field's name in its record.
    pub fn field(self) -> &'static str {
        match self {
            Self::DurationMs => "duration_ms",
            Self::Bytes => "bytes",
            Self::Status => "status",
            Self::CpuRatio => "cpu_ratio",
            Self::MemoryBytes => "memory_bytes",
            Self::DiskRatio => "disk_ratio",
            Self::Restarts => "restarts",
            Self::LoadMs => "load_ms",
            Self::Errors => "errors",
            Self::ResponseMs => "response_ms",
            Self::Success => "success",
        }
    }

    /// The measure that an outlier moves the other way, so that the combination is what is unusual.
    pub fn companion(self) -> Option<Self> {
        match self {
            Self::DurationMs => Some(Self::Bytes),
            Self::Bytes => Some(Self::DurationMs),
            Self::CpuRatio => Some(Self::MemoryBytes),
            Self::MemoryBytes => Some(Self::CpuRatio),
            _ => None,
        }
    }

    /// Whether the measure follows the shape of the day.
    pub fn is_seasonal(self) -> bool {
        matches!(
            self,
            Self::DurationMs | Self::Bytes | Self::CpuRatio | Self::MemoryBytes | Self::LoadMs | Self::ResponseMs
        )
    }

    /// What a fault of this measure looks like in another stream whose entities depend on the faulty one.
    pub fn propagated(self, to: StreamKind) -> Option<Self> {
        match (self, to) {
            (Self::DurationMs, StreamKind::ServiceCalls) => Some(Self::DurationMs),
            (Self::DurationMs, StreamKind::Beacons) => Some(Self::LoadMs),
            (Self::DurationMs, StreamKind::Checks) => Some(Self::ResponseMs),
            (Self::Status, StreamKind::ServiceCalls) => Some(Self::Status),
            (Self::Status, StreamKind::Beacons) => Some(Self::Errors),
            (Self::Status, StreamKind::Checks) => Some(Self::Success),
            _ => None,
        }
    }
}

/// Where an entity is; the day's peak is at 14:00 there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
pub enum Region {
    /// Asia and the Pacific: peak at 06:00 UTC.
    #[serde(rename = "APAC")]
    Apac,
    /// Europe, the Middle East and Africa: peak at 13:00 UTC.
    #[serde(rename = "EMEA")]
    Emea,
    /// The Americas: peak at 20:00 UTC.
    #[serde(rename = "AMER")]
    Amer,
}

impl Region {
    /// As in records.
    pub fn name(self) -> &'static str {
        match self {
            Self::Apac => "APAC",
            Self::Emea => "EMEA",
            Self::Amer => "AMER",
        }
    }

    /// The day's peak, milliseconds after midnight UTC.
    pub fn peak_ms(self) -> i64 {
        let hour = match self {
            Self::Apac => 6,
            Self::Emea => 13,
            Self::Amer => 20,
        };
        hour * 3_600_000
    }
}
