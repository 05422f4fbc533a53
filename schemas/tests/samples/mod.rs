//! Random and fixed records of every kind, shared by the tests, and what apache-avro makes of them.
#![allow(dead_code, clippy::unwrap_used, missing_docs, unreachable_pub)]

use apache_avro::types::Value;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use tidewatch_schemas::record::*;

/// A record as apache-avro's value tree, written without our codec.
pub trait Tree {
    fn tree(&self) -> Value;
}

pub trait Leaf {
    fn leaf(&self) -> Value;
}
macro_rules! leaf {
    ($($t:ty: |$v:ident| $e:expr;)+) => { $(impl Leaf for $t { fn leaf(&self) -> Value { let $v = self; $e } })+ };
}
leaf! {
    bool: |v| Value::Boolean(*v);
    i32: |v| Value::Int(*v);
    i64: |v| Value::Long(*v);
    f64: |v| Value::Double(*v);
    String: |v| Value::String(v.clone());
    Vec<u8>: |v| Value::Bytes(v.clone());
    [u8; 16]: |v| Value::Fixed(16, v.to_vec());
    AnomalyKind: |v| Value::Enum(*v as u32, v.as_str().into());
    AlertKind: |v| Value::Enum(*v as u32, v.as_str().into());
    Breach: |v| v.tree();
    AlertState: |v| Value::Enum(*v as u32, v.as_str().into());
    Severity: |v| Value::Enum(*v as u32, v.as_str().into());
    Correction: |v| Value::Enum(*v as u32, v.as_str().into());
    Dimension: |v| Value::Enum(*v as u32, v.as_str().into());
    std::collections::BTreeMap<String, String>: |v| Value::Map(v.iter().map(|(k, x)| (k.clone(), x.leaf())).collect());
    std::collections::BTreeMap<String, i64>: |v| Value::Map(v.iter().map(|(k, x)| (k.clone(), x.leaf())).collect());
    Vec<String>: |v| Value::Array(v.iter().map(Leaf::leaf).collect());
    Vec<WindowSpan>: |v| Value::Array(v.iter().map(Tree::tree).collect());
    Vec<DetectorScore>: |v| Value::Array(v.iter().map(Tree::tree).collect());
    Vec<DetectorShare>: |v| Value::Array(v.iter().map(Tree::tree).collect());
    Vec<MeasureShare>: |v| Value::Array(v.iter().map(Tree::tree).collect());
    Vec<RecentWindow>: |v| Value::Array(v.iter().map(Tree::tree).collect());
    Vec<SeriesPoint>: |v| Value::Array(v.iter().map(Tree::tree).collect());
    Vec<ForecastPoint>: |v| Value::Array(v.iter().map(Tree::tree).collect());
    Vec<ForecastBand>: |v| Value::Array(v.iter().map(Tree::tree).collect());
    Vec<DeadLetterHeader>: |v| Value::Array(v.iter().map(Tree::tree).collect());
}
impl<T: Leaf> Leaf for Option<T> {
    fn leaf(&self) -> Value {
        match self {
            None => Value::Union(0, Box::new(Value::Null)),
            Some(v) => Value::Union(1, Box::new(v.leaf())),
        }
    }
}

fn any_double() -> impl Strategy<Value = f64> {
    any::<f64>().prop_map(|x| if x.is_nan() { 0.5 } else { x })
}
fn text() -> impl Strategy<Value = String> {
    prop_oneof![".{0,12}", "[a-z-]{1,8}"]
}

/// How a field of a Rust type is drawn at random.
pub trait Draw: Sized + std::fmt::Debug {
    fn draw() -> BoxedStrategy<Self>;
}
macro_rules! draw {
    ($($t:ty: $e:expr;)+) => { $(impl Draw for $t { fn draw() -> BoxedStrategy<Self> { $e.boxed() } })+ };
}
draw! {
    bool: any::<bool>();
    i32: any::<i32>();
    i64: prop_oneof![any::<i64>(), -100i64..100];
    f64: any_double();
    String: text();
    Vec<u8>: vec(any::<u8>(), 0..20);
    [u8; 16]: any::<[u8; 16]>();
    AnomalyKind: prop::sample::select(AnomalyKind::ALL);
    AlertKind: prop::sample::select(AlertKind::ALL);
    AlertState: prop::sample::select(AlertState::ALL);
    Severity: prop::sample::select(Severity::ALL);
    Correction: prop::sample::select(Correction::ALL);
    Dimension: prop::sample::select(Dimension::ALL);
    std::collections::BTreeMap<String, String>: btree_map(text(), text(), 0..2);
    std::collections::BTreeMap<String, i64>: btree_map(text(), any::<i64>(), 0..2);
    Vec<String>: vec(text(), 0..3);
    Vec<WindowSpan>: vec(WindowSpan::draw(), 0..3);
    Vec<DetectorScore>: vec(DetectorScore::draw(), 0..4);
    Vec<DetectorShare>: vec(DetectorShare::draw(), 0..4);
    Vec<MeasureShare>: vec(MeasureShare::draw(), 0..4);
    Vec<RecentWindow>: vec(RecentWindow::draw(), 0..4);
    Vec<SeriesPoint>: vec(SeriesPoint::draw(), 0..4);
    Vec<ForecastPoint>: vec(ForecastPoint::draw(), 0..4);
    Vec<ForecastBand>: vec(ForecastBand::draw(), 0..3);
    Vec<DeadLetterHeader>: vec(DeadLetterHeader::draw(), 0..4);
}
impl<T: Draw + Clone + 'static> Draw for Option<T> {
    fn draw() -> BoxedStrategy<Self> {
        prop::option::of(T::draw()).boxed()
    }
}

macro_rules! kinds {
    ($($record:ident { $($field:ident),+ })+) => { $(
        impl Tree for $record {
            fn tree(&self) -> Value {
                Value::Record(vec![$((stringify!($field).to_owned(), self.$field.leaf())),+])
            }
        }
        impl Draw for $record {
            fn draw() -> BoxedStrategy<Self> {
                use proptest::strategy::ValueTree;
                // Field by field with one generator: a tuple strategy has too few places.
                Just(()).prop_perturb(|(), rng| {
                    let mut runner = proptest::test_runner::TestRunner::new_with_rng(Default::default(), rng);
                    $(let $field = Draw::draw().new_tree(&mut runner).unwrap().current();)+
                    $record { $($field),+ }
                }).boxed()
            }
        }
    )+ };
}
kinds! {
    DetectorScore { detector, score }
    DetectorShare { detector, score, share }
    MeasureShare { measure, share }
    RecentWindow { window_start, value, expected, lower, upper, score }
    Breach { limit, above, target_time, chance, lead_ms, came_true_at }
    WindowSpan { window_start, window_end }
    SeriesPoint { aggregate, value, expected, lower, upper, score, warming_up, detectors, confidence, probability }
    ForecastPoint { target_time, horizon_ms, expected, lower, upper, bands, judged, mase, mape, pinball }
    ForecastBand { level, lower, upper, coverage }
    DeadLetterHeader { key, value }
    ServiceCall { event_time, service, instance, region, tenant, release, status, duration_ms, bytes, trace_id }
    Infrastructure { event_time, host, pod, region, tenant, cpu_ratio, memory_bytes, restarts, disk_ratio }
    Beacon { event_time, site, page, region, tenant, browser, load_ms, errors, session_id }
    Check { event_time, check, location, region, tenant, success, response_ms, status }
    WindowMetric { stream, entity, labels, measure, window_start, window_end, revision, count, sum, mean, stddev,
        min, max, p50, p95, p99, series, partition, first_offset, last_offset, changed, supersedes }
    Forecast { stream, entity, measure, aggregate, issued_at, level, path, revision }
    Alert { alert_id, state, severity, kind, stream, entity, labels, measure, aggregate, opened_at, window_start,
        window_end, observed, expected, lower, upper, score, peak_score, detectors, windows, sequence, partition,
        first_offset, last_offset, summary, revision, correction, supersedes, onset, confidence, probability, attribution,
        recent, breach }
    Late { stream, entity, event_time, window_start, window_end, late_by_ms, topic, partition, offset, key, value,
        would_change_alert }
    DeadLetter { stream, topic, partition, offset, timestamp_ms, key, value, headers, reason, error }
    State { format_version, stream, partition, entity, input_offset, checksum, payload }
    Ledger { group, stream, topic, partition, begin_offset, from_offset, to_offset, read, scored, late, dead_lettered,
        duplicate, filtered, windows, revisions, metrics, forecasts, alerts }
    Disorder { stream, partition, seed, events, sent, scored, late, duplicates, dead_letters, dropped, idle, reordered,
        skewed, evolved }
    Truth { fault_id, kind, stream, entity, measure, labels, onset, end, magnitude, cause, seed }
    Score { dimension, value, event_time, delay_max_ms, faults, pending, found, named, repeated, false_alerts, precision,
        recall, f1, delay_p50_ms, delay_p95_ms, entities, watched_ms, false_alarms_per_entity_week }
}

/// Runs a macro for every top-level record kind.
#[macro_export]
macro_rules! every_kind {
    ($check:ident) => {
        $check!(service_call, ServiceCall);
        $check!(infrastructure, Infrastructure);
        $check!(beacon, Beacon);
        $check!(check, Check);
        $check!(window_metric, WindowMetric);
        $check!(forecast, Forecast);
        $check!(alert, Alert);
        $check!(late, Late);
        $check!(dead_letter, DeadLetter);
        $check!(state, State);
        $check!(ledger, Ledger);
        $check!(truth, Truth);
        $check!(disorder, Disorder);
        $check!(score, Score);
    };
}

/// The same random record for the same kind, always: drawn with a fixed seed.
pub fn sample<T: Draw>(seed: u8) -> T {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]);
    T::draw().new_tree(&mut TestRunner::new_with_rng(Default::default(), rng)).unwrap().current()
}
