//! Publishing into memory: the same partitions whatever the threads, stops and paces.

use super::*;
use crate::outlet::memory::{Arrived, Log, Memory};
use std::sync::LazyLock;
use std::sync::atomic::Ordering;

static SMOKE: LazyLock<Scenario> = LazyLock::new(|| Scenario::shipped("smoke").unwrap());
static TOPICS: LazyLock<Topics> = LazyLock::new(Topics::default);
static KAFKA: LazyLock<KafkaConfig> = LazyLock::new(KafkaConfig::default);

fn job() -> PublishJob<'static> {
    PublishJob {
        scenario: &SMOKE,
        seed: 1,
        events: Some(3000),
        pace: Pace::Unlimited,
        threads: 1,
        partitions: 3,
        framing: Framing::SingleObject,
        topics: &TOPICS,
        kafka: &KAFKA,
        truth: true,
        resume_from: BTreeMap::new(),
    }
}

fn run(job: &PublishJob<'_>, memory: &Memory) -> PublishSummary {
    publish_to(job, &Progress::new(), &AtomicBool::new(false), &|| Ok(memory.clone())).unwrap()
}

/// What the processor reads: without the headers, which tell of this run's clock.
fn log(memory: &Memory) -> Log {
    let mut log = memory.0.lock().unwrap().clone();
    log.values_mut().flatten().for_each(|message| message.headers.clear());
    log
}

fn published(job: &PublishJob<'_>) -> Log {
    let memory = Memory::default();
    run(job, &memory);
    log(&memory)
}

#[test]
fn threads_and_pace_change_nothing_in_a_partition() {
    let one = published(&job());
    assert_eq!(one.values().map(Vec::len).sum::<usize>(), 3000);
    for threads in [2, 4, 64] {
        assert_eq!(published(&PublishJob { threads, ..job() }), one, "{threads} threads");
    }
    for pace in [Pace::Rate(1e9), Pace::Speed(1e12)] {
        assert_eq!(published(&PublishJob { pace, threads: 2, ..job() }), one, "{pace:?}");
    }
}

#[test]
fn a_stop_and_a_resumption_change_nothing_either() {
    let whole = published(&job());
    let memory = Memory::default();
    let (progress, stop) = (Progress::new(), AtomicBool::new(false));
    // Stopped by the outlet itself in the middle: no clock decides where.
    struct Stopping<'a>(Memory, &'a AtomicBool, u32);
    impl Outlet for Stopping<'_> {
        fn send(&mut self, message: Outgoing<'_>) -> Result<(), KafkaError> {
            self.2 += 1;
            if self.2 == 500 {
                self.1.store(true, Ordering::Relaxed);
            }
            self.0.send(message)
        }
        fn finish(&mut self) -> Result<(), KafkaError> {
            self.0.finish()
        }
        fn failed(&self) -> u64 {
            self.0.failed()
        }
    }
    let two = PublishJob { threads: 2, ..job() };
    let first = publish_to(&two, &progress, &stop, &|| Ok(Stopping(memory.clone(), &stop, 0))).unwrap();
    assert!(first.stopped);
    assert!(first.events() < 3000, "{} events before the stop", first.events());
    let rest = PublishJob { truth: false, resume_from: first.positions.clone(), ..two };
    let second = run(&rest, &memory);
    assert!(!second.stopped);
    assert_eq!(first.events() + second.events(), 3000);
    assert_eq!(second.truth, 0);
    assert_eq!(second.positions.values().sum::<u64>(), 3000);
    assert_eq!(log(&memory), whole);
}

#[test]
fn disorder_is_the_same_whatever_the_threads_the_pace_and_a_stop() {
    static DISORDER: LazyLock<Scenario> = LazyLock::new(|| Scenario::shipped("disorder").unwrap().with_events(20_000));
    let job = PublishJob { scenario: &DISORDER, events: None, ..job() };
    let (one, generator) = (published(&job), DISORDER.generator(1, 3));
    let sent: u64 = generator.records_total().values().sum();
    let inputs =
        |log: &Log| log.iter().filter(|((topic, _), _)| *topic != TOPICS.truth).map(|(_, m)| m.len()).sum::<usize>();
    assert_eq!(inputs(&one) as u64, sent);
    assert_ne!(sent, 20_000);
    for pace in [Pace::Unlimited, Pace::Rate(1e9)] {
        assert_eq!(published(&PublishJob { pace, threads: 4, ..job.clone() }), one, "{pace:?}");
    }
    let positions: BTreeMap<StreamPartition, u64> =
        generator.records_total().into_iter().map(|(place, records)| (place, records / 3)).collect();
    let rest = published(&PublishJob { truth: false, resume_from: positions.clone(), ..job.clone() });
    for (place, position) in positions {
        let at = (place.stream.topic(&TOPICS).to_owned(), Some(place.partition));
        assert_eq!(rest[&at], one[&at][position as usize..], "{place:?}");
    }
    let truth = &one[&(TOPICS.truth.clone(), None)];
    let told: Vec<Disorder> = truth.iter().filter_map(|message| wire::decode(&message.value).ok()).collect();
    assert_eq!(told, generator.disorder());
    assert_eq!(truth.len(), told.len() + generator.truth().count());
}

#[test]
fn truth_comes_first_and_headers_are_complete() {
    let memory = Memory::default();
    let all = PublishJob { events: None, threads: 2, ..job() };
    let progress = Progress::new();
    let summary = publish_to(&all, &progress, &AtomicBool::new(false), &|| Ok(memory.clone())).unwrap();
    assert_eq!(summary.events(), 20_000);
    assert_eq!(summary.published.len(), 4);
    assert_eq!((progress.published(), progress.target()), (20_000, 20_000));
    assert_eq!(progress.bytes(), summary.bytes);
    let log = memory.0.lock().unwrap();
    let truth = &log[&(TOPICS.truth.clone(), None)];
    let decoded: Vec<Truth> = truth.iter().map(|m| wire::decode(&m.value).unwrap()).collect();
    assert_eq!(decoded, SMOKE.truth(1));
    assert_eq!(summary.truth as usize, decoded.len());
    let ((topic, partition), events) = log.iter().find(|((topic, _), _)| *topic == TOPICS.checks).unwrap();
    assert!(partition.is_some(), "{topic} has no partition");
    let check: tidewatch_schemas::record::Check = wire::decode(&events[0].value).unwrap();
    assert_eq!(events[0].timestamp_ms, Some(check.event_time));
    assert_eq!(events[0].key, b"order/frankfurt");
    assert_eq!(events[0].headers["ce_type"], b"tidewatch.check.v1");
    assert_eq!(events[0].headers["ce_source"], b"tidewatch/producer");
    let intended: u64 = std::str::from_utf8(&events[0].headers[INTENDED]).unwrap().parse().unwrap();
    assert!(intended > 1_700_000_000_000);
}

#[test]
fn intended_times_are_the_schedules_not_the_clocks() {
    let memory = Memory::default();
    // 2 days of event time in 20 ms; whatever the machine does, the headers tell the schedule.
    let fast = PublishJob { pace: Pace::Speed(2.0 * 86_400_000.0 / 20.0), events: None, ..job() };
    run(&fast, &memory);
    let log = memory.0.lock().unwrap();
    let mut times: Vec<(i64, u64)> = Vec::new();
    for ((topic, _), events) in log.iter() {
        if *topic != TOPICS.truth {
            let intended = |m: &Arrived| std::str::from_utf8(&m.headers[INTENDED]).unwrap().parse::<u64>().unwrap();
            times.extend(events.iter().map(|m| (m.timestamp_ms.unwrap(), intended(m))));
        }
    }
    times.sort_unstable();
    assert!(times.is_sorted_by_key(|(_, intended)| *intended));
    let span_ms = times[times.len() - 1].1 - times[0].1;
    assert!((18..=20).contains(&span_ms), "{span_ms} ms");
}

#[test]
fn a_stop_ends_a_waiting_thread() {
    let slow = PublishJob { pace: Pace::Speed(1.0), threads: 2, ..job() };
    let (progress, stop) = (Progress::new(), AtomicBool::new(true));
    let summary = publish_to(&slow, &progress, &stop, &|| Ok(Memory::default())).unwrap();
    assert!(summary.stopped);
    assert_eq!(summary.events(), 0);
}

#[test]
fn impossible_jobs_are_refused() {
    let check = |job: PublishJob<'_>, wanted: &str| {
        let error = publish_to(&job, &Progress::new(), &AtomicBool::new(false), &|| Ok(Memory::default())).unwrap_err();
        assert_eq!(error.to_string(), wanted);
    };
    check(PublishJob { threads: 0, ..job() }, "threads: 0 is not between 1 and 64");
    check(PublishJob { partitions: 0, ..job() }, "partitions: 0 is not above 0");
    let disorder = Scenario::shipped("disorder").unwrap();
    let framing = Framing::Confluent { schema_id: 1 };
    let wanted = "framing: a registry's id stands for one schema, and the scenario writes several; use single-object";
    check(PublishJob { scenario: &disorder, framing, ..job() }, wanted);
    let beyond = Scenario::shipped_toml("disorder").unwrap().replace("partition = 0", "partition = 3");
    let beyond = Scenario::from_toml(&beyond, "beyond").unwrap();
    let wanted = "partitions: 3 are too few: the scenario has partition 3 go idle";
    check(PublishJob { scenario: &beyond, ..job() }, wanted);
    check(PublishJob { pace: Pace::Rate(-1.0), ..job() }, "pace: a rate of -1 events/s is not above 0");
}

#[test]
fn threads_get_even_shares() {
    let places: BTreeMap<StreamPartition, u64> = [70, 40, 30, 20, 10, 10]
        .into_iter()
        .enumerate()
        .map(|(n, events)| (StreamPartition { stream: StreamKind::Beacons, partition: n as i32 }, events))
        .collect();
    let found = shares(&places, 2);
    let totals: Vec<u64> = found.iter().map(|share| share.iter().map(|place| places[place]).sum()).collect();
    assert_eq!(totals, [90, 90]);
}
