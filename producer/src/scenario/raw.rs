//! A scenario file as it is written: names and texts, nothing checked but keys and types.
//!
//! Invariant: unknown keys are refused; every key is documented in `SCENARIOS.md`.

use crate::disorder::ChangeKind;
use crate::disorder::poison::Poison;
use crate::fault::FaultKind;
use crate::stream::{Measure, Region, StreamKind};
use serde::Deserialize;
use std::collections::BTreeMap;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) scenario: Head,
    pub(super) rate: Rate,
    #[serde(default)]
    pub(super) stream: Vec<Stream>,
    #[serde(default)]
    pub(super) service: Vec<Service>,
    #[serde(default)]
    pub(super) site: Vec<Site>,
    #[serde(default)]
    pub(super) check: Vec<Check>,
    #[serde(default)]
    pub(super) fault: Vec<Fault>,
    pub(super) random_faults: Option<RandomFaults>,
    pub(super) disorder: Option<Disorder>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Head {
    pub(super) name: String,
    #[serde(default)]
    pub(super) description: String,
    pub(super) start: String,
    pub(super) duration: String,
}

#[derive(Clone, Copy, Deserialize, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub(super) enum ProfileName {
    Constant,
    Ramp,
    Sine,
    Burst,
    Poisson,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rate {
    pub(super) profile: ProfileName,
    pub(super) events: Option<u64>,
    pub(super) events_per_second: Option<f64>,
    pub(super) from: Option<f64>,
    pub(super) to: Option<f64>,
    pub(super) amplitude: Option<f64>,
    pub(super) period: Option<String>,
    pub(super) peak: Option<String>,
    pub(super) every: Option<String>,
    pub(super) length: Option<String>,
    pub(super) factor: Option<f64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Stream {
    pub(super) kind: StreamKind,
    pub(super) share: f64,
    pub(super) services: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Service {
    pub(super) name: String,
    #[serde(default)]
    pub(super) depends_on: Vec<String>,
    #[serde(default = "one")]
    pub(super) instances: u32,
    pub(super) regions: Vec<Region>,
    #[serde(default = "default_tenants")]
    pub(super) tenants: Vec<String>,
    #[serde(default = "default_release")]
    pub(super) release: String,
    pub(super) latency_ms: f64,
    #[serde(default = "default_bytes")]
    pub(super) bytes: f64,
    #[serde(default = "default_error_rate")]
    pub(super) error_rate: f64,
    #[serde(default = "default_cpu_ratio")]
    pub(super) cpu_ratio: f64,
    #[serde(default = "default_memory_bytes")]
    pub(super) memory_bytes: f64,
    #[serde(default = "default_disk_ratio")]
    pub(super) disk_ratio: f64,
    #[serde(default)]
    pub(super) daily_amplitude: f64,
    #[serde(default)]
    pub(super) weekly_amplitude: f64,
    #[serde(default = "default_noise")]
    pub(super) noise: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Site {
    pub(super) name: String,
    pub(super) service: Option<String>,
    pub(super) pages: Vec<String>,
    pub(super) region: Region,
    #[serde(default = "default_tenants")]
    pub(super) tenants: Vec<String>,
    pub(super) load_ms: f64,
    #[serde(default = "default_error_rate")]
    pub(super) error_rate: f64,
    #[serde(default)]
    pub(super) daily_amplitude: f64,
    #[serde(default)]
    pub(super) weekly_amplitude: f64,
    #[serde(default = "default_noise")]
    pub(super) noise: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Check {
    pub(super) name: String,
    pub(super) service: Option<String>,
    pub(super) locations: BTreeMap<String, Region>,
    #[serde(default = "default_tenants")]
    pub(super) tenants: Vec<String>,
    pub(super) response_ms: f64,
    #[serde(default = "default_error_rate")]
    pub(super) error_rate: f64,
    #[serde(default)]
    pub(super) daily_amplitude: f64,
    #[serde(default)]
    pub(super) weekly_amplitude: f64,
    #[serde(default = "default_noise")]
    pub(super) noise: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Fault {
    pub(super) kind: FaultKind,
    #[serde(default = "default_stream")]
    pub(super) stream: StreamKind,
    pub(super) service: Option<String>,
    pub(super) instance: Option<String>,
    pub(super) entity: Option<String>,
    pub(super) measure: Option<Measure>,
    pub(super) onset: String,
    pub(super) duration: String,
    pub(super) magnitude: Option<f64>,
    #[serde(default)]
    pub(super) correlated: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RandomFaults {
    pub(super) streams: Option<Vec<StreamKind>>,
    pub(super) after: String,
    #[serde(default = "no_time")]
    pub(super) quiet_tail: String,
    #[serde(default = "no_time")]
    pub(super) min_gap: String,
    pub(super) spike: Option<RandomKind>,
    pub(super) dip: Option<RandomKind>,
    pub(super) level_shift: Option<RandomKind>,
    pub(super) drift: Option<RandomKind>,
    pub(super) outlier: Option<RandomKind>,
    pub(super) seasonal_break: Option<RandomKind>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RandomKind {
    pub(super) count: u32,
    pub(super) magnitude: [f64; 2],
    pub(super) duration: [String; 2],
    #[serde(default)]
    pub(super) correlated: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Disorder {
    pub(super) assumes: Assumes,
    pub(super) reorder: Option<Delayed>,
    pub(super) late: Option<Late>,
    pub(super) duplicates: Option<Delayed>,
    pub(super) drops: Option<Drops>,
    pub(super) poison: Option<Poisoned>,
    #[serde(default)]
    pub(super) skew: Vec<Skew>,
    #[serde(default)]
    pub(super) idle: Vec<Idle>,
    #[serde(default)]
    pub(super) schema_change: Vec<SchemaChange>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Assumes {
    pub(super) on_time_within: String,
    pub(super) final_after: String,
    #[serde(default = "an_hour")]
    pub(super) future_max: String,
    #[serde(default = "ten_minutes")]
    pub(super) event_id_memory: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Delayed {
    pub(super) share: f64,
    pub(super) within: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Late {
    pub(super) share: f64,
    pub(super) by: [String; 2],
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Drops {
    pub(super) share: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Poisoned {
    pub(super) share: f64,
    pub(super) kinds: Option<Vec<Poison>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Skew {
    #[serde(default = "default_stream")]
    pub(super) stream: StreamKind,
    pub(super) service: Option<String>,
    pub(super) instance: Option<String>,
    pub(super) entity: Option<String>,
    pub(super) fast: Option<String>,
    pub(super) slow: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Idle {
    pub(super) stream: StreamKind,
    pub(super) partition: i32,
    pub(super) from: String,
    pub(super) to: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SchemaChange {
    pub(super) stream: StreamKind,
    pub(super) kind: ChangeKind,
    pub(super) from: String,
    pub(super) to: Option<String>,
}

fn an_hour() -> String {
    "1h".to_owned()
}
fn ten_minutes() -> String {
    "10m".to_owned()
}
fn one() -> u32 {
    1
}
fn default_tenants() -> Vec<String> {
    vec!["default".to_owned()]
}
fn default_release() -> String {
    "1.0.0".to_owned()
}
fn default_bytes() -> f64 {
    4096.0
}
fn default_error_rate() -> f64 {
    0.005
}
fn default_cpu_ratio() -> f64 {
    0.22
}
fn default_memory_bytes() -> f64 {
    536_870_912.0
}
fn default_disk_ratio() -> f64 {
    0.4
}
fn default_noise() -> f64 {
    0.25
}
fn default_stream() -> StreamKind {
    StreamKind::ServiceCalls
}
fn no_time() -> String {
    "0s".to_owned()
}
