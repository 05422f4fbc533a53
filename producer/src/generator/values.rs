//! The numbers that an event carries: around its entity's base, by the shape of day and week, with noise, as its faults
//! change them.
//!
//! Invariant: each measure draws from channels of its own, so a fault of one measure leaves every bit of the others as it
//! was. Values are rounded (durations to a microsecond) as measuring instruments do.

use super::Source;
use crate::fault::Adjustment;
use crate::random::lognormal;
use crate::scenario::Entity;
use crate::stream::{Measure, StreamKind};
use tidewatch_schemas::record::{Beacon, Check, Infrastructure, ServiceCall};
use tidewatch_schemas::wire::{self, Framing};

// Channels of an entity's randomness.
pub(super) const TIME: u64 = 0;
const NOISE: u64 = 1;
const ERROR: u64 = 2;
const ERROR_CODE: u64 = 3;
const ID_HIGH: u64 = 4;
const ID_LOW: u64 = 5;
const DISK: u64 = 6;
const RESTARTS: u64 = 7;
const BROWSER: u64 = 8;

/// Bytes and memory follow the daily wave with this part of its amplitude.
const SIZE_WAVE_SHARE: f64 = 0.3;
/// A gauge of a pod is steadier than a single call.
const GAUGE_NOISE_SHARE: f64 = 0.4;
const MEMORY_NOISE: f64 = 0.03;
const DISK_NOISE: f64 = 0.002;
const RESTARTS_MEAN: f64 = 0.0005;
const ERROR_CODES: [i32; 4] = [500, 502, 503, 504];
const BROWSERS: [&str; 4] = ["chrome", "safari", "firefox", "edge"];

/// An event's record, its constant texts filled in once.
#[derive(Clone, Debug, PartialEq)]
pub enum EventRecord {
    /// A call.
    ServiceCall(ServiceCall),
    /// A pod's state.
    Infrastructure(Infrastructure),
    /// A page load.
    Beacon(Beacon),
    /// A check.
    Check(Check),
}

impl EventRecord {
    pub(super) fn of(entity: &Entity) -> Self {
        let [first, second] = entity.fields.clone();
        let region = entity.region.name().to_owned();
        let tenant = entity.tenant.clone();
        match entity.stream {
            StreamKind::ServiceCalls => Self::ServiceCall(ServiceCall {
                event_time: 0,
                service: first,
                instance: second,
                region,
                tenant,
                release: entity.release.clone(),
                status: 0,
                duration_ms: 0.0,
                bytes: 0,
                trace_id: [0; 16],
            }),
            StreamKind::Infrastructure => Self::Infrastructure(Infrastructure {
                event_time: 0,
                host: first,
                pod: second,
                region,
                tenant,
                cpu_ratio: 0.0,
                memory_bytes: 0,
                restarts: 0,
                disk_ratio: 0.0,
            }),
            StreamKind::Beacons => Self::Beacon(Beacon {
                event_time: 0,
                site: first,
                page: second,
                region,
                tenant,
                browser: String::new(),
                load_ms: 0.0,
                errors: 0,
                session_id: [0; 16],
            }),
            StreamKind::Checks => Self::Check(Check {
                event_time: 0,
                check: first,
                location: second,
                region,
                tenant,
                success: true,
                response_ms: 0.0,
                status: 0,
            }),
        }
    }

    /// The same at another event time.
    pub(super) fn at(&self, time_ms: i64) -> Self {
        let mut copy = self.clone();
        match &mut copy {
            Self::ServiceCall(record) => record.event_time = time_ms,
            Self::Infrastructure(record) => record.event_time = time_ms,
            Self::Beacon(record) => record.event_time = time_ms,
            Self::Check(record) => record.event_time = time_ms,
        }
        copy
    }

    /// Appends the framed record.
    pub fn encode(&self, framing: Framing, out: &mut Vec<u8>) {
        match self {
            Self::ServiceCall(record) => wire::encode(record, framing, out),
            Self::Infrastructure(record) => wire::encode(record, framing, out),
            Self::Beacon(record) => wire::encode(record, framing, out),
            Self::Check(record) => wire::encode(record, framing, out),
        }
    }
}

/// One event's conditions.
struct Moment<'a> {
    source: &'a Source,
    index: u64,
    time_ms: i64,
    wave: f64,
    weekly: f64,
}

impl Moment<'_> {
    fn adjustment(&self, measure: Measure) -> Adjustment {
        Adjustment::of(&self.source.faults, measure, self.time_ms)
    }

    /// A measure's mean: base, day, week, faults. `wave_share`: how much of the daily amplitude it follows.
    fn mean(&self, measure: Measure, base: f64, wave_share: f64) -> f64 {
        let change = self.adjustment(measure);
        let amplitude = self.source.entity.shape.daily_amplitude * wave_share * change.season;
        base * self.source.spread * (1.0 + amplitude * self.wave) * self.weekly * change.factor
    }

    /// An error's probability.
    fn error_rate(&self, measure: Measure) -> f64 {
        (self.source.entity.base.error_rate * self.adjustment(measure).factor).min(1.0)
    }

    fn id(&self) -> [u8; 16] {
        let (high, low) = (self.source.random.bits(self.index, ID_HIGH), self.source.random.bits(self.index, ID_LOW));
        ((u128::from(high) << 64) | u128::from(low)).to_be_bytes()
    }
}

/// Sets what an event of this entity and index has of its own.
pub(super) fn fill(source: &Source, index: u64, time_ms: i64, record: &mut EventRecord) {
    let shape = &source.entity.shape;
    let moment = Moment { source, index, time_ms, wave: shape.daily_wave(time_ms), weekly: shape.weekly(time_ms) };
    match record {
        EventRecord::ServiceCall(call) => fill_call(&moment, call),
        EventRecord::Infrastructure(pod) => fill_pod(&moment, pod),
        EventRecord::Beacon(beacon) => fill_beacon(&moment, beacon),
        EventRecord::Check(check) => fill_check(&moment, check),
    }
}

fn fill_call(moment: &Moment<'_>, call: &mut ServiceCall) {
    let Moment { source, index, .. } = *moment;
    let base = &source.entity.base;
    let (for_duration, for_bytes) = source.random.normal_pair(index, NOISE);
    call.event_time = moment.time_ms;
    call.duration_ms = millis(moment.mean(Measure::DurationMs, base.main, 1.0) * lognormal(for_duration, base.noise));
    call.bytes =
        (moment.mean(Measure::Bytes, base.size, SIZE_WAVE_SHARE) * lognormal(for_bytes, base.noise)).round() as i64;
    let failed = source.random.uniform(index, ERROR) < moment.error_rate(Measure::Status);
    call.status = if failed { ERROR_CODES[source.random.below(4, index, ERROR_CODE) as usize] } else { 200 };
    call.trace_id = moment.id();
}

fn fill_pod(moment: &Moment<'_>, pod: &mut Infrastructure) {
    let Moment { source, index, .. } = *moment;
    let base = &source.entity.base;
    let (for_cpu, for_memory) = source.random.normal_pair(index, NOISE);
    pod.event_time = moment.time_ms;
    let cpu = moment.mean(Measure::CpuRatio, base.main, 1.0) * lognormal(for_cpu, base.noise * GAUGE_NOISE_SHARE);
    pod.cpu_ratio = ratio(cpu);
    let memory = moment.mean(Measure::MemoryBytes, base.size, SIZE_WAVE_SHARE) * lognormal(for_memory, MEMORY_NOISE);
    pod.memory_bytes = memory.round() as i64;
    let restarts = RESTARTS_MEAN * moment.adjustment(Measure::Restarts).factor;
    pod.restarts = source.random.poisson(restarts, index, RESTARTS) as i32;
    let disk = base.disk_ratio * source.spread * moment.adjustment(Measure::DiskRatio).factor;
    pod.disk_ratio = ratio(disk + DISK_NOISE * source.random.normal(index, DISK));
}

fn fill_beacon(moment: &Moment<'_>, beacon: &mut Beacon) {
    let Moment { source, index, .. } = *moment;
    let base = &source.entity.base;
    beacon.event_time = moment.time_ms;
    beacon.load_ms =
        millis(moment.mean(Measure::LoadMs, base.main, 1.0) * source.random.lognormal(base.noise, index, NOISE));
    let errors = base.error_rate * moment.adjustment(Measure::Errors).factor;
    beacon.errors = source.random.poisson(errors, index, ERROR) as i32;
    let browser = BROWSERS[source.random.below(4, index, BROWSER) as usize];
    beacon.browser.clear();
    beacon.browser.push_str(browser);
    beacon.session_id = moment.id();
}

fn fill_check(moment: &Moment<'_>, check: &mut Check) {
    let Moment { source, index, .. } = *moment;
    let base = &source.entity.base;
    check.event_time = moment.time_ms;
    let response = moment.mean(Measure::ResponseMs, base.main, 1.0);
    check.response_ms = millis(response * source.random.lognormal(base.noise, index, NOISE));
    check.success = source.random.uniform(index, ERROR) >= moment.error_rate(Measure::Success);
    check.status = if check.success { 200 } else { ERROR_CODES[source.random.below(4, index, ERROR_CODE) as usize] };
}

/// A duration to a microsecond.
fn millis(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// A share, to a hundredth of a per cent.
fn ratio(value: f64) -> f64 {
    (value.clamp(0.0, 1.0) * 10_000.0).round() / 10_000.0
}
