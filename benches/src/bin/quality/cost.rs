//! What the whole chain costs: time of a closed window and bytes of an entity, through the engine.
//!
//! Every entity sends an event a window of five minutes, so that the first event of a round closes a window of each: that round, the
//! events taken in, every record made and dropped again, is the time of so many windows, which is the bound. A second event in each
//! window closes nothing; what it takes is told beside, and is in the bound once. Times are those of this thread on the processor, over
//! all rounds, so that what comes only every few windows (a cohort's copies, forecasts) is in them. State is what a snapshot writes, once
//! every profile is full.

use std::f64::consts::TAU;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use cpu_time::ThreadTime;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use rand_distr::StandardNormal;
use serde_json::{Value, json};
use tidewatch_benches::report::{Goal, Report};
use tidewatch_processor_core::{Effects, Engine, Event, StreamConfig, StreamSettings};

/// Goals of one measure by the shipped defaults.
const MICROS_MAX: f64 = 10.0;
const KILOBYTES_MAX: f64 = 8.0;
/// 2026-01-05, a Monday.
const START_MS: i64 = 1_767_571_200_000;
const DAY_MS: i64 = 86_400_000;
const WINDOW_MS: i64 = 300_000;

/// The options of `quality cost`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Entities, all of one cohort
    #[arg(long, default_value_t = 1_000)]
    entities: usize,
    /// Days before anything is measured; profiles are full after eight
    #[arg(long, default_value_t = 8)]
    first_days: i64,
    /// Windows of each entity that are measured
    #[arg(long, default_value_t = 288)]
    windows: i64,
}

/// A declaration, as far as it is not the shipped one.
struct Declared {
    name: &'static str,
    stream: Value,
    measure: Value,
    measures: usize,
}

fn declarations() -> [Declared; 5] {
    let declared = |name, stream, measure, measures| Declared { name, stream, measure, measures };
    let apart = json!({ "detectors": ["residual", "novelty", "shift"] });
    [
        declared("one measure", json!({}), json!({}), 1),
        declared("one measure, forecast", json!({}), json!({ "forecast": {} }), 1),
        declared("one measure, revisions, lateness 5m", json!({ "revisions": "on", "lateness": "5m" }), json!({}), 1),
        declared("two measures", json!({}), json!({}), 2),
        declared("two measures, without the forest", json!({}), apart, 2),
    ]
}

impl Declared {
    fn config(&self) -> anyhow::Result<Arc<StreamConfig>> {
        let mut stream = json!({
            "name": "cost", "topic": "cost", "format": "json", "entity": ["entity"], "event_time": "at",
            "window": { "tumbling": format!("{WINDOW_MS}ms") }, "disorder": "0s",
        });
        let measure = |at: usize| with(json!({ "name": format!("m{at}"), "field": format!("m{at}") }), &self.measure);
        stream["measure"] = (0..self.measures).map(measure).collect();
        let settings: StreamSettings = serde_json::from_value(with(stream, &self.stream))?;
        Ok(settings.validate()?)
    }
}

fn with(mut base: Value, more: &Value) -> Value {
    for (key, value) in more.as_object().into_iter().flatten() {
        base[key] = value.clone();
    }
    base
}

/// Entities with a day and noise of their own, and the engine that they send to.
struct Load {
    engine: Engine,
    effects: Effects,
    keys: Vec<String>,
    random: StdRng,
    measures: usize,
    offset: i64,
    /// Of each entity and measure.
    values: Vec<f64>,
}

impl Load {
    fn new(config: Arc<StreamConfig>, entities: usize) -> Self {
        let measures = config.measures.len();
        let keys = (0..entities).map(|at| format!("entity-{at:06}")).collect();
        let (engine, effects) = (Engine::new(config, 0), Effects::default());
        let (random, values) = (StdRng::seed_from_u64(1), vec![0.0; entities * measures]);
        Self { engine, effects, keys, random, measures, offset: 0, values }
    }

    fn draw(&mut self, time_ms: i64) {
        for (at, values) in self.values.chunks_mut(self.measures).enumerate() {
            let phase = at as f64 / self.keys.len() as f64;
            let day = (TAU * (time_ms.rem_euclid(DAY_MS) as f64 / DAY_MS as f64 + phase)).sin();
            let shared: f64 = self.random.sample(StandardNormal);
            for value in values {
                let own: f64 = self.random.sample(StandardNormal);
                *value = 100.0 + 50.0 * phase + 10.0 * day + shared + 0.3 * own;
            }
        }
    }

    /// An event of each entity at this time.
    fn round(&mut self, event_time: i64) -> Duration {
        self.draw(event_time);
        let begun = ThreadTime::now();
        for (entity, values) in self.keys.iter().zip(self.values.chunks(self.measures)) {
            self.engine.ingest(&Event { offset: self.offset, event_time, entity, values, id: None }, &mut self.effects);
            self.offset += 1;
            self.effects.clear();
            while self.engine.has_more() {
                self.engine.go_on(&mut self.effects);
                self.effects.clear();
            }
        }
        begun.elapsed()
    }
}

/// What one declaration costs.
struct Cost {
    name: &'static str,
    /// Of a closed window, and of an event that closes none.
    window_us: f64,
    event_us: f64,
    /// Of an entity, on the average and at most, and of the partition with its cohorts.
    entity_kb: f64,
    entity_kb_max: f64,
    partition_kb: f64,
}

impl Cost {
    fn of(declared: &Declared, args: &Args) -> anyhow::Result<Self> {
        let mut load = Load::new(declared.config()?, args.entities);
        let first = args.first_days * DAY_MS / WINDOW_MS;
        let (mut closing, mut adding) = (Duration::ZERO, Duration::ZERO);
        let mut closed = 0;
        for window in 0..first + args.windows {
            let before = load.engine.counts().windows;
            let took = load.round(START_MS + window * WINDOW_MS);
            let added = load.round(START_MS + window * WINDOW_MS + 1);
            if window >= first {
                (closing, adding) = (closing + took, adding + added);
                closed += load.engine.counts().windows - before;
            }
        }
        anyhow::ensure!(closed == args.windows as u64 * args.entities as u64, "{closed} windows closed");
        let records = load.engine.snapshot(load.offset);
        let bytes = |is_entity: bool| {
            let records = records.iter().filter_map(|(_, state)| state.as_ref());
            records
                .filter(move |state| state.entity.is_some() == is_entity)
                .map(|state| state.payload.len() as f64 / 1e3)
        };
        Ok(Self {
            name: declared.name,
            window_us: closing.as_secs_f64() * 1e6 / closed as f64,
            event_us: adding.as_secs_f64() * 1e6 / closed as f64,
            entity_kb: bytes(true).sum::<f64>() / args.entities as f64,
            entity_kb_max: bytes(true).fold(0.0, f64::max),
            partition_kb: bytes(false).sum(),
        })
    }
}

/// Measures each declaration.
pub(crate) fn run(args: &Args) -> anyhow::Result<Report> {
    anyhow::ensure!(args.entities > 0 && args.windows > 0, "--entities and --windows: at least 1");
    anyhow::ensure!(args.first_days > 0, "--first-days: at least 1");
    let costs = declarations().iter().map(|declared| Cost::of(declared, args)).collect::<anyhow::Result<Vec<_>>>()?;
    let mut table = format!(
        "{:38} {:>12} {:>12} {:>12} {:>12} {:>8} {:>14}\n",
        "shipped defaults, windows of 5m",
        "us a window",
        "us an event",
        "less that",
        "kB an entity",
        "at most",
        "kB of cohorts"
    );
    let mut figures: Vec<Value> = Vec::new();
    for cost in &costs {
        let Cost { name, window_us, event_us, entity_kb, entity_kb_max, partition_kb } = cost;
        let less = window_us - event_us;
        // Writing to a String does not fail.
        let _ = writeln!(
            table,
            "{name:38} {window_us:>12.2} {event_us:>12.2} {less:>12.2} {entity_kb:>12.2} {entity_kb_max:>8.2} {partition_kb:>14.1}"
        );
        figures.push(json!({
            "declared": name, "us_a_window": window_us, "us_an_event": event_us, "kB_an_entity": entity_kb,
            "kB_an_entity_max": entity_kb_max, "kB_of_cohorts": partition_kb,
        }));
    }
    let one = &costs[0];
    Ok(Report::new(table, figures.into())
        .goal("one measure, us of a closed window and its event", one.window_us, Goal::AtMost(MICROS_MAX))
        .goal("one measure, kB of an entity's state", one.entity_kb, Goal::AtMost(KILOBYTES_MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_declaration_is_measured() {
        let report = run(&Args { entities: 3, first_days: 1, windows: 2 }).unwrap();
        let figures = &report.json("")["figures"];
        let of = |at: usize, what: &str| figures[at][what].as_f64().unwrap();
        for at in 0..declarations().len() {
            assert!(of(at, "us_a_window") > 0.0 && of(at, "kB_an_entity") > 1.0, "{figures:#}");
        }
        // A forecast and a second measure take room in the entity, the forest in the cohort.
        assert!(of(1, "kB_an_entity") > of(0, "kB_an_entity"));
        assert!(of(3, "kB_an_entity") > of(0, "kB_an_entity"));
        assert!(of(3, "kB_of_cohorts") > 10.0 * of(4, "kB_of_cohorts"), "{figures:#}");
    }
}
