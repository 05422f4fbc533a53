//! What records that are none cost the processor: `cargo run --release -p tidewatch-benches --bin garbage`.
//!
//! Two inputs of as many records, one clean, one of which every tenth record cannot be read, of six kinds by turns. The processor
//! takes in each by turns, on the embedded broker in this process, with a group and result topics of its own each time; what counts
//! is the time from its first commit to its last, so that joining a group and making topics are no part of it. Medians are reported.
//! The process's CPU time of the same span, the broker's included, says how much of a difference is work and how much is waiting.

use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Parser;
use cpu_time::ProcessTime;
use serde_json::json;
use tidewatch_benches::figures::median;
use tidewatch_processor::{Counts, ProcessorConfig, ProcessorSettings, Progress};
use tidewatch_processor_core::StreamSettings;
use tidewatch_schemas::catalogue::Topics;
use tidewatch_schemas::record::Check;
use tidewatch_schemas::wire::{self, Framing};
use tidewatch_sink::{Stop, StopSignal};
use tidewatch_topic_io::{Admin, KafkaConfig, Outgoing, TopicSpec, Writer};

/// That of the program.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Measures what records that are none cost
#[derive(Debug, Parser)]
struct Args {
    /// Rounds, of which the median counts
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Records of an input
    #[arg(long, default_value_t = 1_000_000)]
    records: u64,
    /// Write the figures to this file as JSON, too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Fail if the goal is missed; it is a ratio within this run
    #[arg(long)]
    check: bool,
}

/// Of how many records one is garbage.
const GARBAGE_OF: u64 = 10;
/// The least that the throughput with garbage may be of that without.
const RATIO_MIN: f64 = 0.8;
const PARTITIONS: i32 = 2;
const ENTITIES: u64 = 200;
const START_MS: i64 = 1_736_121_600_000;
/// Between two looks at how far the processor is.
const LOOK_EVERY: Duration = Duration::from_millis(1);
const PATIENCE: Duration = Duration::from_secs(120);

fn event(at: u64) -> Check {
    Check {
        event_time: START_MS + (at / 10) as i64,
        check: "order".into(),
        location: format!("location-{}", at % ENTITIES),
        region: "EMEA".into(),
        tenant: "acme".into(),
        success: true,
        response_ms: (at % 97) as f64,
        status: 200,
    }
}

/// Makes of an event's bytes a record that is none; false: a record without a value.
fn spoil(at: u64, value: &mut Vec<u8>) -> bool {
    let mut write = |event: Check| {
        value.clear();
        wire::encode(&event, Framing::SingleObject, value);
    };
    match at / GARBAGE_OF % 6 {
        0 => value.truncate(20),
        1 => value.extend(b"more"),
        2 => value[2] ^= 0xff,
        3 => write(Check { response_ms: f64::NAN, ..event(at) }),
        4 => write(Check { event_time: -1, ..event(at) }),
        _ => return false,
    }
    true
}

fn publish(kafka: &KafkaConfig, topic: &str, records: u64, with_garbage: bool) -> anyhow::Result<()> {
    Admin::connect(kafka)?.ensure_topics(&[TopicSpec::new(topic, PARTITIONS)])?;
    let mut writer = Writer::new(kafka)?;
    let mut value = Vec::new();
    for at in 0..records {
        let event = event(at);
        value.clear();
        wire::encode(&event, Framing::SingleObject, &mut value);
        let has_value = !(with_garbage && at % GARBAGE_OF == 7) || spoil(at, &mut value);
        writer.send(Outgoing {
            topic,
            partition: Some((at % ENTITIES % PARTITIONS as u64) as i32),
            key: Some(event.location.as_bytes()),
            value: has_value.then_some(value.as_slice()),
            headers: &[("trace", b"4bf92f3577b34da6a3ce929d0e0e4736")],
            timestamp_ms: Some(event.event_time),
        })?;
    }
    Ok(writer.flush(PATIENCE)?)
}

fn processor(kafka: &KafkaConfig, input: &str, round: usize) -> anyhow::Result<ProcessorConfig> {
    let stream: StreamSettings = serde_json::from_value(json!({
        "name": "checks", "topic": input, "format": "avro", "entity": ["check", "location"], "event_time": "event_time",
        "window": { "tumbling": "10s" }, "measure": [{ "name": "response", "field": "response_ms" }],
    }))?;
    let name = |what: &str| format!("{input}.{round}.{what}");
    let outputs = ["metrics", "forecasts", "alerts", "late", "dead-letters", "state", "ledger"].map(name);
    let specs: Vec<TopicSpec> = outputs.iter().map(|topic| TopicSpec::new(topic, PARTITIONS)).collect();
    Admin::connect(kafka)?.ensure_topics(&specs)?;
    let [metrics, forecasts, alerts, late, dead_letters, state, ledger] = outputs;
    let topics = Topics { metrics, forecasts, alerts, late, dead_letters, state, ledger, ..Topics::default() };
    let settings = ProcessorSettings { group_id: name("group"), ..ProcessorSettings::default() };
    Ok(ProcessorConfig { kafka: kafka.clone(), streams: vec![stream.validate()?], topics, settings })
}

/// From the first commit to the last.
struct Rates {
    /// Records a second.
    records_per_second: f64,
    /// CPU time of the process, in ns a record.
    cpu_ns_per_record: f64,
}

/// How fast an input was taken in, and what became of its records.
fn round(kafka: &KafkaConfig, input: &str, round: usize, records: u64) -> anyhow::Result<(Rates, Counts)> {
    let config = processor(kafka, input, round)?;
    let (progress, stop) = (Progress::new(), StopSignal::new());
    thread::scope(|scope| {
        let worker = scope.spawn(|| tidewatch_processor::run(&config, &progress, &stop));
        let mut first = None;
        let rates = loop {
            let read = progress.counts().read;
            if read > 0 {
                let (from, began, cpu) = *first.get_or_insert_with(|| (read, Instant::now(), ProcessTime::now()));
                if read >= records {
                    let counted = (read - from) as f64;
                    break Some(Rates {
                        records_per_second: counted / began.elapsed().as_secs_f64(),
                        cpu_ns_per_record: cpu.elapsed().as_secs_f64() * 1e9 / counted,
                    });
                }
            }
            if worker.is_finished() {
                break None;
            }
            thread::sleep(LOOK_EVERY);
        };
        stop.request(Stop::Drain);
        let summary = worker.join().map_err(|_| anyhow::anyhow!("the processor panicked"))??;
        let rates = rates.filter(|rates| rates.records_per_second.is_finite());
        let rates = rates.context("the processor ended before it had read everything, or in one commit")?;
        Ok((rates, summary.counts))
    })
}

fn main() -> ExitCode {
    tidewatch_benches::exit_code(measure(&Args::parse()))
}

fn measure(args: &Args) -> anyhow::Result<()> {
    anyhow::ensure!(args.rounds > 0 && args.records >= 100_000, "--rounds is above 0, --records at least 100000");
    if cfg!(debug_assertions) {
        eprintln!("a debug build: its figures are worth nothing");
    }
    let kafka = KafkaConfig::at(tidewatch_test_brokers::embedded());
    for (input, with_garbage) in [("clean", false), ("garbage", true)] {
        eprintln!("writing the {input} input");
        publish(&kafka, input, args.records, with_garbage)?;
    }
    let (mut clean, mut garbage) = (Vec::new(), Vec::new());
    for at in 0..args.rounds {
        eprintln!("round {}", at + 1);
        // Each goes first by turns.
        let order = if at % 2 == 0 { ["clean", "garbage"] } else { ["garbage", "clean"] };
        for input in order {
            let (rates, counts) = round(&kafka, input, at, args.records)?;
            let letters = if input == "garbage" { args.records / GARBAGE_OF } else { 0 };
            anyhow::ensure!(
                counts.dead_lettered == letters && counts.residue() == 0,
                "{letters} dead letters were to come of the {input} input: {counts:?}"
            );
            if input == "garbage" { &mut garbage } else { &mut clean }.push(rates);
        }
    }
    let of = |rates: &[Rates], figure: fn(&Rates) -> f64| median(&rates.iter().map(figure).collect::<Vec<_>>());
    let speed = |rates: &Rates| rates.records_per_second;
    let cpu = |rates: &Rates| rates.cpu_ns_per_record;
    let ratios: Vec<f64> = clean.iter().zip(&garbage).map(|(clean, garbage)| speed(garbage) / speed(clean)).collect();
    let ratio = median(&ratios);
    let letter_ns = GARBAGE_OF as f64 * (of(&garbage, cpu) - of(&clean, cpu));
    println!("\n{:24}{:>16}{:>16}", "", "records / s", "CPU ns / record");
    for (name, rates) in [("clean", &clean), ("one in ten is garbage", &garbage)] {
        println!("{name:24}{:>16.0}{:>16.0}", of(rates, speed), of(rates, cpu));
    }
    println!("\na dead letter costs {letter_ns:.0} ns of CPU more than an event");
    let is_met = ratio >= RATIO_MIN;
    println!("with garbage over without: {ratio:.2}, at least {RATIO_MIN} {}", if is_met { "✓" } else { "✗ missed" });
    if let Some(file) = &args.json {
        let figures = json!({
            "clean_per_second": of(&clean, speed), "garbage_per_second": of(&garbage, speed), "ratio": ratio,
            "at_least": RATIO_MIN, "clean_cpu_ns": of(&clean, cpu), "garbage_cpu_ns": of(&garbage, cpu),
        });
        std::fs::write(file, format!("{figures:#}\n")).with_context(|| format!("cannot write {}", file.display()))?;
    }
    anyhow::ensure!(!args.check || is_met, "the goal is missed");
    Ok(())
}
