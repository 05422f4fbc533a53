//! Scenarios whose faults are known, through decoder and engine in this process: what is found of them.
//!
//! The streams are declared as the program's own demo declares them.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::Context as _;
use serde_json::{Value, json};
use tidewatch_benches::report::{Goal, Report};
use tidewatch_processor::decode::{Decoded, EventDecoder, Taken};
use tidewatch_processor_core::{Effects, Engine, Event, StreamSettings};
use tidewatch_producer::generator::{Generator, StreamPartition};
use tidewatch_producer::scenario::Scenario;
use tidewatch_schemas::record::{Alert, AlertKind, AlertState, AnomalyKind, Truth};
use tidewatch_schemas::wire::Framing;
use tidewatch_score::{Dimension, Score, Tally, delay_max_ms, score};

/// The streams of the demo.
const STREAMS: &str = include_str!("../../../../deploy/config/demo.toml");
/// Windows of the demo's streams.
const WINDOW_MS: i64 = 300_000;
const SHARE_MIN: f64 = 0.95;
const KIND_MIN: f64 = 0.90;

/// The options of `quality truth`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A shipped scenario with faults; `drift` for breaches that can be predicted
    #[arg(long, default_value = "demo")]
    scenario: String,
    /// Seeds from 1 on, each with faults of its own
    #[arg(long, default_value_t = 5)]
    seeds: u64,
    /// The first seed
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Tell each fault that is missed and each alert that is false
    #[arg(long)]
    show: bool,
}

/// Generates, feeds and scores each seed.
pub(crate) fn run(args: &Args) -> anyhow::Result<Report> {
    let scenario = Scenario::shipped(&args.scenario).with_context(|| {
        let names: Vec<_> = Scenario::shipped_names().collect();
        format!("--scenario: `{}` is not shipped; it is one of {}", args.scenario, names.join(", "))
    })?;
    let declared: toml::Table = STREAMS.parse()?;
    let streams: Vec<StreamSettings> = declared["stream"].clone().try_into()?;
    let (mut all, mut foreseen) = (Score::default(), Foreseen::default());
    for seed in args.from..args.from + args.seeds {
        let generator = scenario.generator(seed, 1);
        let truth: Vec<Truth> = generator.truth().cloned().collect();
        anyhow::ensure!(!truth.is_empty(), "--scenario: in `{}` nothing goes wrong", args.scenario);
        let mut seen = Seen::default();
        for place in generator.partitions().into_keys() {
            let stream = streams.iter().find(|stream| stream.name == place.stream.name());
            watch(&generator, place, stream.context("a stream that is not declared")?, &mut seen)?;
        }
        let found = score(&truth, &seen.alerts, delay_max_ms(WINDOW_MS));
        if args.show {
            show(seed, &truth, &seen.alerts, &found);
        }
        truth.iter().for_each(|fault| foreseen.count(fault, &seen));
        all.add(found);
    }
    Ok(report(&all, foreseen))
}

/// What came of the records of a run.
#[derive(Default)]
struct Seen {
    alerts: Vec<Alert>,
    /// By stream and measure: the field.
    fields: BTreeMap<(String, String), String>,
    /// By stream, entity and field: the ends of the windows in which a limit was passed.
    beyond: BTreeMap<(String, String, String), Vec<i64>>,
}

/// Drifts that passed a limit, and those of them of which it was predicted before they did.
#[derive(Clone, Copy, Default)]
struct Foreseen {
    passed: u64,
    predicted: u64,
}

impl Foreseen {
    fn count(&mut self, fault: &Truth, seen: &Seen) {
        let of = (fault.stream.clone(), fault.entity.clone(), fault.measure.clone());
        let during = |at: i64| fault.onset < at && at <= fault.end;
        let first = seen.beyond.get(&of).and_then(|ends| ends.iter().copied().find(|&end| during(end)));
        let Some(first) = first.filter(|_| fault.kind == AnomalyKind::Drift) else { return };
        self.passed += 1;
        let told = seen.alerts.iter().any(|alert| {
            (&alert.stream, &alert.entity) == (&fault.stream, &fault.entity)
                && seen.fields.get(&(alert.stream.clone(), alert.measure.clone())) == Some(&fault.measure)
                && alert.kind == AlertKind::PredictedBreach
                && alert.state == AlertState::Opened
                && during(alert.window_end)
                && alert.window_end < first
        });
        self.predicted += u64::from(told);
    }
}

/// Takes in what follows from one partition's records.
fn watch(
    generator: &Generator,
    place: StreamPartition,
    stream: &StreamSettings,
    seen: &mut Seen,
) -> anyhow::Result<()> {
    let config = stream.validate()?;
    let limits: Vec<_> = config.measures.iter().filter_map(|measure| Some((measure.clone(), measure.limit?))).collect();
    let fields =
        config.measures.iter().map(|measure| ((config.name.clone(), measure.name.clone()), measure.field.clone()));
    seen.fields.extend(fields);
    let mut keep = |effects: &mut Effects| {
        seen.alerts.append(&mut effects.alerts);
        for metric in &effects.metrics {
            let Some((measure, limit)) = limits.iter().find(|(measure, _)| measure.name == metric.measure) else {
                continue;
            };
            let of_limit = metric.series.iter().find(|series| series.aggregate == limit.aggregate.as_str());
            if of_limit.is_some_and(|series| limit.is_passed_by(series.value)) {
                let of = (metric.stream.clone(), metric.entity.clone(), measure.field.clone());
                seen.beyond.entry(of).or_default().push(metric.window_end);
            }
        }
        effects.clear();
    };
    let mut decoder = EventDecoder::new(&config)?;
    let mut engine = Engine::new(config, place.partition);
    let mut effects = Effects::default();
    let (mut bytes, mut decoded) = (Vec::new(), Decoded::default());
    let mut records = generator.records(place, 0);
    let mut offset = 0;
    while let Some(record) = records.next_record() {
        bytes.clear();
        let moment = record.moment;
        let value = record.encode(Framing::SingleObject, &mut bytes).then_some(&bytes[..]);
        if let Ok(Taken::Event) = decoder.decode(value, Some(moment), &mut decoded) {
            let Decoded { event_time, ref entity, ref values, id } = decoded;
            engine.ingest(&Event { offset, event_time, entity, values, id }, &mut effects);
            keep(&mut effects);
        }
        offset += 1;
    }
    engine.advance(generator.last_time().unwrap_or(0) + 2 * WINDOW_MS, &mut effects);
    keep(&mut effects);
    Ok(())
}

fn show(seed: u64, truth: &[Truth], alerts: &[Alert], found: &Score) {
    for fault in truth.iter().filter(|fault| found.missed.contains(&fault.fault_id)) {
        let Truth { kind, stream, entity, measure, magnitude, .. } = fault;
        eprintln!("seed {seed}: missed {} of {measure}, {stream} {entity}, magnitude {magnitude:.2}", kind.as_str());
    }
    let is_untrue = |alert: &&Alert| alert.breach.as_ref().is_some_and(|breach| breach.came_true_at.is_none());
    for alert in alerts.iter().filter(|alert| alert.state == AlertState::Resolved).filter(is_untrue) {
        eprintln!("seed {seed}: predicted, and did not come true: {}", alert.summary);
    }
    for alert in alerts.iter().filter(|alert| alert.sequence == 0 && found.false_alerts.contains(&alert.alert_id)) {
        let scores: Vec<String> =
            alert.detectors.iter().map(|detector| format!("{} {:.2}", detector.detector, detector.score)).collect();
        eprintln!("seed {seed}: false: {} ({})", alert.summary, scores.join(", "));
    }
}

fn report(all: &Score, foreseen: Foreseen) -> Report {
    let mut table = format!(
        "{:18} {:>7} {:>7} {:>7} {:>9} {:>9} {:>7} {:>9} {:>10} {:>6}\n",
        "", "faults", "found", "recall", "named so", "repeated", "false", "precision", "delay p50", "p95"
    );
    let windows = |tally: &Tally, share: f64| tally.delay_ms(share).map_or(f64::NAN, |ms| ms as f64 / WINDOW_MS as f64);
    let mut figures: Vec<Value> = Vec::new();
    let mut line = |dimension: &str, value: &str, tally: &Tally| {
        let Tally { faults, found, named, repeated, false_alerts, .. } = tally;
        let (p50, p95) = (windows(tally, 0.5), windows(tally, 0.95));
        let share = |share: f64| if share.is_finite() { format!("{share:.3}") } else { "-".to_owned() };
        let (recall, precision) = (share(tally.recall()), share(tally.precision()));
        // Writing to a String does not fail.
        let _ = writeln!(
            table,
            "{value:18} {faults:>7} {found:>7} {recall:>7} {named:>9} {repeated:>9} {false_alerts:>7} {precision:>9} {p50:>10.1} \
             {p95:>6.1}"
        );
        figures.push(json!({
            "by": dimension, "value": value, "faults": faults, "found": found, "named": named, "repeated": repeated,
            "false": false_alerts, "precision": tally.precision(), "delay_p50_windows": p50, "delay_p95_windows": p95,
        }));
    };
    for dimension in [Dimension::Kind, Dimension::Detector, Dimension::Region] {
        all.of(dimension).for_each(|(value, tally)| line(dimension.as_str(), value, tally));
    }
    line("all", "all", &all.total);
    for (value, tally) in all.of(Dimension::Prediction) {
        let name = if value == "trend" { "predicted, drifts" } else { "predicted" };
        line(Dimension::Prediction.as_str(), name, tally);
    }
    let Foreseen { passed, predicted } = foreseen;
    if passed > 0 {
        let _ = writeln!(
            table,
            "\npredicted breaches: found are those that came true, false those that did not, the delay is negative: the lead\n\
             of {passed} drifts that passed a limit, {predicted} were predicted before they did"
        );
    }
    figures.push(json!({ "drifts_past_limits": passed, "of_them_predicted": predicted }));
    let kinds = || all.of(Dimension::Kind).filter(|(_, tally)| tally.faults > 0);
    let least = |of: fn(&Tally) -> f64| kinds().map(|(_, tally)| of(tally)).fold(f64::NAN, f64::min);
    let mut sudden = Tally::default();
    kinds().filter(|(kind, _)| ["spike", "level_shift"].contains(kind)).for_each(|(_, tally)| sudden.add(tally));
    Report::new(table, figures.into())
        .goal("recall", all.total.recall(), Goal::AtLeast(SHARE_MIN))
        .goal("precision", all.total.precision(), Goal::AtLeast(SHARE_MIN))
        .goal("recall of the kind with the least", least(Tally::recall), Goal::AtLeast(KIND_MIN))
        .goal("precision of the kind with the least", least(Tally::precision), Goal::AtLeast(KIND_MIN))
        .goal("delay of spikes and shifts, p50, windows", windows(&sudden, 0.5), Goal::AtMost(1.0))
        .goal("delay of spikes and shifts, p95, windows", windows(&sudden, 0.95), Goal::AtMost(3.0))
}
