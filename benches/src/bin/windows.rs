//! What windows cost, by kind and number of entities: `cargo run --release -p tidewatch-benches --bin windows`.
//!
//! One thread, nothing but the engine: one measure with the aggregate `mean` and no detector. Taking events in and closing windows
//! are timed apart: the disorder is longer than the events last, so that nothing closes until event time is told to go on. The windows
//! that close are full ones, with a pane a slide, where a round has events enough for that; the table tells how many panes an entity
//! has when the events are in. Times are medians of alternating rounds; memory is what Linux counts for the process (`/proc`) when the
//! events are in and the first of those windows have closed, so the instrument runs there alone.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Parser;
use serde_json::json;
use tidewatch_benches::figures::median;
use tidewatch_processor_core::{Effects, Engine, Event, StreamSettings};

/// Measures what windows cost
#[derive(Debug, Parser)]
struct Args {
    /// Rounds, of which the median counts
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Events of a round
    #[arg(long, default_value_t = 2_000_000)]
    events: u64,
    /// Numbers of entities
    #[arg(long, value_delimiter = ',', default_values_t = [1_000, 1_000_000])]
    entities: Vec<u64>,
    /// Say only how many bytes an entity takes: kind and entities
    #[arg(long, hide = true, num_args = 2)]
    bytes_of: Option<Vec<u64>>,
    /// Say only how much more memory ten million distinct entities take than five million
    #[arg(long, hide = true)]
    growth: bool,
    /// Write the figures to this file as JSON, too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Fail if a goal is missed; goals are ratios within this run
    #[arg(long)]
    check: bool,
}

/// A kind of window.
struct Kind {
    name: &'static str,
    window: serde_json::Value,
    /// The events of a round are spread over one window.
    size_ms: i64,
    /// From one window to the next.
    step_ms: i64,
}

fn kinds() -> [Kind; 4] {
    const MINUTE: i64 = 60_000;
    let kind = |name, window, size_ms, step_ms| Kind { name, window, size_ms, step_ms };
    [
        kind("tumbling 60 s", json!({ "tumbling": "60s" }), MINUTE, MINUTE),
        kind("hopping 60 s / 1 s", json!({ "hopping": ["60s", "1s"] }), MINUTE, 1_000),
        kind("hopping 24 h / 1 min", json!({ "hopping": ["24h", "1m"] }), 24 * 60 * MINUTE, MINUTE),
        kind("session 30 s", json!({ "session": "30s" }), MINUTE, MINUTE),
    ]
}

impl Kind {
    /// Whether a round has events enough that every entity's windows are full of panes, of which each closes one.
    fn is_full(&self, events: u64, entities: u64) -> bool {
        entities.saturating_mul(self.slides()) <= events
    }

    /// Panes of a window; a session counts as one.
    fn slides(&self) -> u64 {
        (self.size_ms / self.step_ms).unsigned_abs()
    }

    /// Panes that an entity has when all events of a round are in, on average.
    fn panes(&self, keys: &[String], events: u64) -> f64 {
        let mut last = vec![0; keys.len()];
        let mut panes = keys.len();
        for at in 0..events {
            let (last, pane) = (&mut last[pick(at, keys.len() as u64)], self.time(at, events) / self.step_ms);
            panes += usize::from(*last != pane);
            *last = pane;
        }
        panes as f64 / keys.len() as f64
    }

    /// The event time of one event of a round.
    fn time(&self, at: u64, events: u64) -> i64 {
        (i128::from(at) * i128::from(self.size_ms) / i128::from(events)) as i64
    }
}

/// What one round measured.
#[derive(Clone, Copy, Debug)]
struct Sample {
    take_in_ns: f64,
    close_ns: f64,
    entity_bytes: f64,
}

fn engine(window: &serde_json::Value, disorder: &str, entities: u64) -> anyhow::Result<Engine> {
    let settings: StreamSettings = serde_json::from_value(json!({
        "name": "bench", "topic": "bench", "format": "json", "entity": ["key"], "event_time": "at", "window": window,
        "disorder": disorder, "entities_max": entities, "measure": [{ "name": "value", "field": "value", "detectors": [] }],
    }))?;
    Ok(Engine::new(settings.validate()?, 0))
}

/// Resident memory of this process, in bytes.
fn resident() -> anyhow::Result<f64> {
    let text =
        std::fs::read_to_string("/proc/self/statm").context("cannot read /proc/self/statm: this runs on Linux")?;
    let pages: f64 = text.split_whitespace().nth(1).context("/proc/self/statm has no second field")?.parse()?;
    Ok(pages * 4_096.0)
}

/// A cheap, fixed walk over the entities, so that neighbours in time are not neighbours in memory and each has its turn before any has
/// two.
fn pick(at: u64, entities: u64) -> usize {
    (at % entities * 7_919 % entities) as usize
}

/// Lets event time go on and says how many windows that closed.
fn close_until(time: i64, engine: &mut Engine, effects: &mut Effects) -> u64 {
    let mut windows = 0;
    engine.advance(time, effects);
    loop {
        windows += effects.metrics.len() as u64;
        effects.clear();
        if !engine.has_more() {
            return windows;
        }
        engine.go_on(effects);
    }
}

/// An engine that has taken the events of a round in, and how long that took.
fn take_in(kind: &Kind, keys: &[String], events: u64) -> anyhow::Result<(Engine, Duration)> {
    let entities = keys.len() as u64;
    let mut engine = engine(&kind.window, "72h", entities)?;
    let mut effects = Effects::default();
    // Every entity is there before the clock runs: admission is a cost of entities, not of windows.
    for (offset, entity) in keys.iter().enumerate() {
        let event = Event { offset: offset as i64, event_time: 0, entity, values: &[1.0], id: None };
        engine.ingest(&event, &mut effects);
    }
    let began = Instant::now();
    for at in 0..events {
        let event = Event {
            offset: (entities + at) as i64,
            event_time: kind.time(at, events),
            entity: &keys[pick(at, entities)],
            values: &[at as f64],
            id: None,
        };
        engine.ingest(&event, &mut effects);
    }
    let took = began.elapsed();
    anyhow::ensure!(effects.is_empty(), "nothing closes while events are taken in");
    Ok((engine, took))
}

/// Takes the events in and then closes windows: full ones, where there are events enough for that (see [`Kind::is_full`]).
fn round(kind: &Kind, keys: &[String], events: u64) -> anyhow::Result<Sample> {
    let entities = keys.len() as u64;
    let before = resident()?;
    let (mut engine, take_in) = take_in(kind, keys, events)?;
    let mut entity_bytes = (resident()? - before) / entities as f64;
    let mut effects = Effects::default();
    let mut offset = (entities + events) as i64;
    let mut time = 0;
    if kind.is_full(events, entities) {
        time = kind.size_ms - kind.step_ms;
        close_until(time, &mut engine, &mut effects);
    }
    let (mut windows, mut took) = (0, Duration::ZERO);
    while windows < events.min(100 * entities) {
        if time >= kind.size_ms {
            // Windows stay full.
            for entity in keys {
                let event = Event { offset, event_time: time, entity, values: &[time as f64], id: None };
                engine.ingest(&event, &mut effects);
                offset += 1;
            }
        }
        time += kind.step_ms;
        let began = Instant::now();
        let closed = close_until(time, &mut engine, &mut effects);
        took += began.elapsed();
        if windows == 0 {
            // With what closing keeps from one window to the next.
            entity_bytes = entity_bytes.max((resident()? - before) / entities as f64);
        }
        windows += closed;
    }
    Ok(Sample {
        take_in_ns: take_in.as_nanos() as f64 / events as f64,
        close_ns: took.as_nanos() as f64 / windows as f64,
        entity_bytes,
    })
}

/// Nanoseconds to take an event in at windows of 600 s with this slide; so many events a second of each entity.
fn take_in_at_slide(slide: &str, per_second: u64, keys: &[String], events: u64) -> anyhow::Result<f64> {
    let window = json!({ "hopping": ["600s", slide] });
    let size_ms = (events / keys.len() as u64 * 1_000 / per_second) as i64;
    let (_, took) = take_in(&Kind { name: "", window, size_ms, step_ms: size_ms }, keys, events)?;
    Ok(took.as_nanos() as f64 / events as f64)
}

/// Nanoseconds to close a window of so many panes, in the middle of a stream with one event a pane and, where asked for, another one
/// in a pane of the past, each time an other one; taking them in is not counted.
fn close_at_length(panes: i64, is_disordered: bool, keys: &[String], windows: u64) -> anyhow::Result<f64> {
    let window = json!({ "hopping": [format!("{panes}s"), "1s"] });
    let mut engine = engine(&window, "0s", keys.len() as u64)?;
    let mut effects = Effects::default();
    let (mut offset, mut closed, mut at, mut took) = (0, 0, 0, Duration::ZERO);
    while closed < windows {
        let began = Instant::now();
        engine.advance(at * 1_000, &mut effects);
        if at >= 2 * panes {
            took += began.elapsed();
            closed += effects.metrics.len() as u64;
        }
        effects.clear();
        for entity in keys {
            let event = Event { offset, event_time: at * 1_000, entity, values: &[at as f64], id: None };
            engine.ingest(&event, &mut effects);
            offset += 1;
            let ago = (at * 7_919) % panes;
            if is_disordered && at >= panes {
                let event = Event { event_time: (at - ago) * 1_000, offset, ..event };
                engine.ingest(&event, &mut effects);
                offset += 1;
            }
        }
        at += 1;
    }
    Ok(took.as_nanos() as f64 / closed as f64)
}

/// Memory after ten million distinct entities over that after five million, of which the engine keeps 100,000; a snapshot at each
/// million. The first few million are for the allocator to come to rest.
fn growth() -> anyhow::Result<f64> {
    const MILLION: i64 = 1_000_000;
    let mut engine = engine(&json!({ "tumbling": "60s" }), "0s", 100_000)?;
    let (mut effects, mut key) = (Effects::default(), String::new());
    let mut half = 0.0;
    for offset in 0..10 * MILLION {
        key.clear();
        write!(key, "service-{offset}")?;
        engine.ingest(&Event { offset, event_time: offset / 10, entity: &key, values: &[1.0], id: None }, &mut effects);
        effects.clear();
        if (offset + 1) % MILLION == 0 {
            engine.snapshot(offset + 1);
        }
        if offset + 1 == 5 * MILLION {
            half = resident()?;
        }
    }
    anyhow::ensure!(engine.counts().evicted == 9_900_000, "all but 100,000 were to go: {:?}", engine.counts());
    Ok(resident()? / half)
}

/// A figure of memory, measured in a process of its own: what another round has freed would be used again.
fn alone(args: &[&str]) -> anyhow::Result<f64> {
    let mut child = std::process::Command::new(std::env::current_exe()?);
    let output = child.args(args).output().context("cannot start this program again")?;
    anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?.trim().parse()?)
}

fn keys(entities: u64) -> Vec<String> {
    (0..entities).map(|n| format!("service-{n}")).collect()
}

fn main() -> ExitCode {
    tidewatch_benches::exit_code(measure(&Args::parse()))
}

fn measure(args: &Args) -> anyhow::Result<()> {
    anyhow::ensure!(args.rounds > 0 && args.events > 0, "--rounds and --events are above 0");
    if let Some([kind, entities]) = args.bytes_of.as_deref() {
        let kind = &kinds()[usize::try_from(*kind)?];
        println!("{}", round(kind, &keys(*entities), args.events)?.entity_bytes);
        return Ok(());
    }
    if args.growth {
        println!("{}", growth()?);
        return Ok(());
    }
    if cfg!(debug_assertions) {
        eprintln!("a debug build: its figures are worth nothing");
    }
    let mut table = format!(
        "{:24}{:>12}{:>10}{:>12}{:>14}{:>14}\n",
        "", "entities", "panes", "ns / event", "ns / window", "B / entity"
    );
    let mut figures = Vec::new();
    for &entities in &args.entities {
        anyhow::ensure!(entities > 0, "--entities is above 0");
        let keys = keys(entities);
        for (number, kind) in kinds().into_iter().enumerate() {
            eprintln!("{} with {entities} entities", kind.name);
            let samples: Vec<Sample> =
                (0..args.rounds).map(|_| round(&kind, &keys, args.events)).collect::<anyhow::Result<_>>()?;
            let of = |of: fn(&Sample) -> f64| median(&samples.iter().map(of).collect::<Vec<_>>());
            let (take_in, close) = (of(|s| s.take_in_ns), of(|s| s.close_ns));
            let [events, number, of] = [args.events, number as u64, entities].map(|number| number.to_string());
            let bytes = alone(&["--events", &events, "--bytes-of", &number, &of])?;
            let panes = kind.panes(&keys, args.events);
            writeln!(table, "{:24}{entities:>12}{panes:>10.1}{take_in:>12.0}{close:>14.0}{bytes:>14.0}", kind.name)?;
            figures.push(json!({ "window": kind.name, "entities": entities, "panes": panes, "ns_per_event": take_in,
                "ns_per_window": close, "bytes_per_entity": bytes }));
        }
    }
    let keys = keys(100);
    let ratio = |one: &dyn Fn() -> anyhow::Result<f64>, other: &dyn Fn() -> anyhow::Result<f64>| {
        let pairs = (0..2 * args.rounds).map(|_| Ok(other()? / one()?)).collect::<anyhow::Result<Vec<f64>>>();
        Ok::<_, anyhow::Error>(median(&pairs?))
    };
    eprintln!("ratios");
    let take_in_ratio = |per_second: u64| {
        let at = |slide: &'static str| take_in_at_slide(slide, per_second, &keys, args.events);
        ratio(&|| at("600s"), &|| at("1s"))
    };
    let (take_in, sparse) = (take_in_ratio(10)?, take_in_ratio(1)?);
    // Few entities: what is asked is how many steps a window takes, not whether all panes fit into the processor's cache.
    let close_at = |panes, is_disordered| close_at_length(panes, is_disordered, &keys[..4], args.events / 20);
    let close = ratio(&|| close_at(10, false), &|| close_at(1_440, false))?;
    let disordered = ratio(&|| close_at(1_440, false), &|| close_at(1_440, true))?;
    let growth = alone(&["--growth"])?;
    let goals = [
        ("taking an event in, slide = size / 600 over slide = size (600 s, 10 events a second)", take_in, 1.15),
        ("closing a window, 1,440 panes over 10 panes", close, 1.5),
        ("closing a window of 1,440 panes, an event in an old pane before each over none", disordered, 4.0),
        ("memory after 10 M distinct entities over that after 5 M, 100,000 kept", growth, 1.05),
    ];
    print!("\n{table}\n");
    for (what, ratio, most) in goals {
        println!("{what}: {ratio:.2}, at most {most} {}", if ratio <= most { "✓" } else { "✗ missed" });
    }
    println!("the first with an event a second, so that each makes a pane: {sparse:.2}, no goal");
    if let Some(file) = &args.json {
        let goals = goals.map(|(what, ratio, most)| json!({ "what": what, "ratio": ratio, "at_most": most }));
        let text = format!("{:#}\n", json!({ "figures": figures, "goals": goals }));
        std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    let missed = goals.iter().filter(|(_, ratio, most)| ratio > most).count();
    anyhow::ensure!(!args.check || missed == 0, "{missed} goals missed");
    Ok(())
}
