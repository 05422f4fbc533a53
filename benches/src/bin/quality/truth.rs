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
use tidewatch_schemas::record::{Alert, AlertState, Severity, Truth};
use tidewatch_schemas::wire::Framing;
use tidewatch_score::{KindScore, Score, grace_ms, score};

/// The streams of the demo.
const STREAMS: &str = include_str!("../../../../deploy/config/demo.toml");
/// Windows of the demo's streams.
const WINDOW_MS: i64 = 300_000;
const SHARE_MIN: f64 = 0.95;
const KIND_MIN: f64 = 0.90;

/// The options of `quality truth`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A shipped scenario with faults
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
    let scenario = Scenario::shipped(&args.scenario)
        .with_context(|| format!("--scenario: `{}` is not shipped; `tidewatch scenarios` lists them", args.scenario))?;
    let declared: toml::Table = STREAMS.parse()?;
    let streams: Vec<StreamSettings> = declared["stream"].clone().try_into()?;
    let mut all = Found::default();
    for seed in args.from..args.from + args.seeds {
        let generator = scenario.generator(seed, 1);
        let truth: Vec<Truth> = generator.truth().cloned().collect();
        anyhow::ensure!(!truth.is_empty(), "--scenario: in `{}` nothing goes wrong", args.scenario);
        let mut alerts = Vec::new();
        for place in generator.partitions().into_keys() {
            let stream = streams.iter().find(|stream| stream.name == place.stream.name());
            alerts.extend(watch(&generator, place, stream.context("a stream that is not declared")?)?);
        }
        all.add(&truth, &alerts, args.show.then_some(seed));
    }
    Ok(all.report())
}

/// The alerts of one partition's records.
fn watch(generator: &Generator, place: StreamPartition, stream: &StreamSettings) -> anyhow::Result<Vec<Alert>> {
    let config = stream.validate()?;
    let mut decoder = EventDecoder::new(&config)?;
    let mut engine = Engine::new(config, place.partition);
    let (mut effects, mut alerts) = (Effects::default(), Vec::new());
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
            alerts.append(&mut effects.alerts);
            effects.clear();
        }
        offset += 1;
    }
    engine.advance(generator.last_time().unwrap_or(0) + 2 * WINDOW_MS, &mut effects);
    alerts.append(&mut effects.alerts);
    Ok(alerts)
}

/// The figures of all seeds.
#[derive(Default)]
struct Found {
    kinds: BTreeMap<&'static str, KindScore>,
    severities: BTreeMap<Severity, u64>,
    /// From onset to the end of the window in which an alert opens, in windows, by the fault's kind.
    delays: BTreeMap<&'static str, Vec<f64>>,
}

impl Found {
    fn add(&mut self, truth: &[Truth], alerts: &[Alert], show: Option<u64>) {
        let Score { kinds, severities, .. } = score(truth, alerts, grace_ms(WINDOW_MS));
        for (kind, of) in kinds {
            let sum = self.kinds.entry(kind).or_default();
            sum.found += of.found;
            sum.named += of.named;
            sum.missed += of.missed;
            sum.alerts += of.alerts;
            sum.false_alerts += of.false_alerts;
        }
        for (severity, count) in severities {
            *self.severities.entry(severity).or_default() += count;
        }
        let opened = || alerts.iter().filter(|alert| alert.state == AlertState::Opened);
        for fault in truth {
            let of_it = opened().filter(|alert| (&alert.stream, &alert.entity) == (&fault.stream, &fault.entity));
            let within = of_it.filter(|alert| alert.window_end > fault.onset && alert.opened_at < fault.end);
            match within.map(|alert| alert.window_end - fault.onset).min() {
                Some(ms) => {
                    self.delays.entry(fault.kind.as_str()).or_default().push(ms as f64 / WINDOW_MS as f64);
                }
                None => show_line(show, "missed", &format!("{fault:?}")),
            }
        }
        for alert in opened() {
            let is_of = |fault: &&Truth| (&alert.stream, &alert.entity) == (&fault.stream, &fault.entity);
            let grace_ms = grace_ms(WINDOW_MS);
            if !truth
                .iter()
                .filter(is_of)
                .any(|fault| alert.opened_at <= fault.end + grace_ms && alert.window_end > fault.onset)
            {
                show_line(show, "false", &format!("{} {:?}", alert.summary, alert.detectors));
            }
        }
    }

    fn report(self) -> Report {
        let mut table = format!(
            "{:16} {:>7} {:>7} {:>7} {:>9} {:>7} {:>7} {:>10} {:>10}\n",
            "by kind", "faults", "found", "recall", "named so", "alerts", "false", "delay p50", "p95"
        );
        let quantile = |kind: &str, share| {
            self.delays.get(kind).map_or(f64::NAN, |delays| tidewatch_benches::figures::quantile(delays, share))
        };
        let mut worst = 1.0_f64;
        let mut total = KindScore::default();
        let mut figures: Vec<Value> = Vec::new();
        for (kind, of) in &self.kinds {
            let KindScore { found, named, missed, alerts, false_alerts } = *of;
            let recall = found as f64 / (found + missed) as f64;
            if found + missed > 0 {
                worst = worst.min(recall);
            }
            let (p50, p95) = (quantile(kind, 0.5), quantile(kind, 0.95));
            // Writing to a String does not fail.
            let _ = writeln!(
                table,
                "{kind:16} {:>7} {found:>7} {recall:>7.3} {named:>9} {alerts:>7} {false_alerts:>7} {p50:>10.1} {p95:>10.1}",
                found + missed
            );
            figures.push(json!({
                "kind": kind, "faults": found + missed, "found": found, "named": named, "alerts": alerts,
                "false": false_alerts, "delay_p50_windows": p50, "delay_p95_windows": p95,
            }));
            total.found += found;
            total.missed += missed;
            total.alerts += alerts;
            total.false_alerts += false_alerts;
        }
        let recall = total.found as f64 / (total.found + total.missed) as f64;
        let precision = (total.alerts - total.false_alerts) as f64 / total.alerts as f64;
        let sudden = |share| quantile("spike", share).max(quantile("level_shift", share));
        Report::new(table, figures.into())
            .goal("recall", recall, Goal::AtLeast(SHARE_MIN))
            .goal("precision", precision, Goal::AtLeast(SHARE_MIN))
            .goal("recall of the kind with the least", worst, Goal::AtLeast(KIND_MIN))
            .goal("delay of spikes and shifts, p50, windows", sudden(0.5), Goal::AtMost(1.0))
            .goal("delay of spikes and shifts, p95, windows", sudden(0.95), Goal::AtMost(3.0))
    }
}

fn show_line(seed: Option<u64>, what: &str, text: &str) {
    if let Some(seed) = seed {
        eprintln!("{what}, seed {seed}: {text}");
    }
}
