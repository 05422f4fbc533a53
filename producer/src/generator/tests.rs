//! The generator's promises: the same bytes from anywhere, counts as the profile says, faults where truth says and nowhere else.

use super::*;
use crate::scenario::Scenario;
use crate::stream::Measure;
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::sync::LazyLock;
use tidewatch_schemas::wire::Framing;

static SMOKE: LazyLock<Scenario> = LazyLock::new(|| Scenario::shipped("smoke").unwrap());

#[derive(Clone, Debug, PartialEq)]
struct Made {
    time: i64,
    entity: String,
    index: u64,
    bytes: Vec<u8>,
}

fn make(mut events: PartitionEvents) -> Vec<Made> {
    let mut made = Vec::new();
    while let Some(event) = events.next_event() {
        let mut bytes = Vec::new();
        event.encode(Framing::SingleObject, &mut bytes);
        made.push(Made { time: event.event_time, entity: event.entity.to_owned(), index: event.index, bytes });
    }
    assert_eq!(events.left(), 0);
    made
}

fn make_all(generator: &Generator) -> BTreeMap<StreamPartition, Vec<Made>> {
    generator.partitions().into_keys().map(|place| (place, make(generator.events(place, 0)))).collect()
}

#[test]
fn a_partition_is_ordered_complete_and_keyed() {
    let generator = SMOKE.generator(1, 3);
    let mut entities = BTreeSet::new();
    for (place, events) in make_all(&generator) {
        assert_eq!(events.len() as u64, generator.partitions()[&place]);
        assert!(events.iter().all(|e| (SMOKE.start_ms..SMOKE.end_ms()).contains(&e.time)));
        assert!(events.is_sorted_by(|a, b| (a.time, &a.entity, a.index) < (b.time, &b.entity, b.index)));
        for event in &events {
            assert_eq!(partition_for(event.entity.as_bytes(), 3), place.partition);
            entities.insert((place.stream, event.entity.clone()));
        }
    }
    let wanted: BTreeSet<_> = SMOKE.entities().iter().map(|e| (e.stream, e.key.clone())).collect();
    assert_eq!(entities, wanted);
}

#[test]
fn an_event_does_not_depend_on_the_number_of_partitions() {
    let all = |partitions: i32| {
        let made = make_all(&SMOKE.generator(1, partitions)).into_iter();
        let mut all: Vec<Made> = made.flat_map(|(_, events)| events).collect();
        all.sort_by(|a, b| (&a.entity, a.index).cmp(&(&b.entity, b.index)));
        all
    };
    assert_eq!(all(1), all(7));
}

#[test]
fn seeds_differ_and_repeat() {
    let first = make_all(&SMOKE.generator(1, 2));
    assert_eq!(first, make_all(&SMOKE.generator(1, 2)));
    let second = make_all(&SMOKE.generator(2, 2));
    let (place, events) = first.iter().next().unwrap();
    let same = events.iter().zip(&second[place]).filter(|(a, b)| a.bytes == b.bytes).count();
    assert_eq!(same, 0);
    assert_ne!(SMOKE.truth(1), SMOKE.truth(2));
}

#[test]
fn a_limit_keeps_the_first_events_of_all() {
    let generator = SMOKE.generator(3, 4);
    let mut times: Vec<i64> = make_all(&generator).into_values().flatten().map(|event| event.time).collect();
    times.sort_unstable();
    for limit in [0, 1, 777, 19_999, 20_000, 50_000] {
        let limited = generator.limited(limit);
        let mut found: Vec<i64> = make_all(&limited).into_values().flatten().map(|event| event.time).collect();
        found.sort_unstable();
        assert_eq!(found, times[..(limit as usize).min(times.len())], "limit {limit}");
        assert_eq!(limited.events_total() as usize, found.len());
        assert_eq!(limited.last_time(), found.last().copied());
        assert!(limited.truth().all(|truth| Some(truth.onset) <= limited.last_time()));
    }
    assert_eq!(generator.truth().cloned().collect::<Vec<_>>(), SMOKE.truth(3));
}

#[test]
fn counts_follow_the_profile() {
    // A quarter of the day around the peak holds 1/4 + amplitude sqrt(2) / (2 pi) of a sine's day.
    let generator = SMOKE.generator(1, 1);
    let share = 0.25 + 0.2 * 2.0_f64.sqrt() / std::f64::consts::TAU;
    let quarter = SMOKE.start_ms + 11 * 3_600_000..SMOKE.start_ms + 17 * 3_600_000;
    let events: Vec<Made> = make_all(&generator).into_values().flatten().collect();
    let found = events.iter().filter(|event| quarter.contains(&event.time)).count() as f64;
    // One event in each part of each entity's day: at most one off at either end.
    let bound = 2.0 * SMOKE.entities().len() as f64;
    assert!((found - 10_000.0 * share).abs() <= bound, "{found} events, wanted {}", 10_000.0 * share);
    for event in &events {
        let position = generator.expected_position(event.time);
        assert!((0.0..20_000.0).contains(&position));
    }
    assert!((generator.expected_position(SMOKE.start_ms + 86_400_000) - 10_000.0).abs() < 1.0);
}

/// Field by field, as JSON, so that a difference can be named.
fn fields(record: &values::EventRecord) -> BTreeMap<String, String> {
    let mut bytes = Vec::new();
    record.encode(Framing::SingleObject, &mut bytes);
    let json = tidewatch_schemas::json::to_json(&bytes).unwrap();
    json.as_object().unwrap().iter().map(|(name, value)| (name.clone(), value.to_string())).collect()
}

fn stepwise(generator: &Generator) -> Vec<(i64, String, BTreeMap<String, String>)> {
    let mut all = Vec::new();
    for place in generator.partitions().into_keys() {
        let mut events = generator.events(place, 0);
        while let Some(event) = events.next_event() {
            all.push((event.event_time, format!("{} {}", place.stream.name(), event.entity), fields(event.record)));
        }
    }
    all
}

/// A fault changes its measures of its entities within its interval, and not one other field of any event.
fn check_fault(fault: &str, stream: &str, entity: &str, changed: &[&str]) {
    let text = Scenario::shipped_toml("smoke").unwrap();
    let sound = &text[..text.find("[[fault]]").unwrap()].replace("20_000", "4_000");
    let broken = format!("{sound}\n[[fault]]\nonset = \"1d 3h\"\nduration = \"6h\"\n{fault}\n");
    let sound = Scenario::from_toml(sound, "sound").unwrap().generator(9, 1);
    let broken = Scenario::from_toml(&broken, "broken").unwrap().generator(9, 1);
    let truth: Vec<_> = broken.truth().collect();
    assert_eq!(truth.len(), 1, "{fault}");
    let mut differences = BTreeSet::new();
    for ((time, who, before), (_, _, after)) in stepwise(&sound).into_iter().zip(stepwise(&broken)) {
        for (name, value) in &before {
            if after[name] != *value {
                assert!((truth[0].onset..truth[0].end).contains(&time), "{fault}: {name} at {time}");
                assert_eq!(who, format!("{stream} {entity}"), "{fault}");
                differences.insert(name.clone());
            }
        }
    }
    let wanted: BTreeSet<String> = changed.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(differences, wanted, "{fault}");
}

#[test]
fn each_fault_changes_its_measure_within_its_interval_alone() {
    let calls = "service = \"orders\"\ninstance = \"amer-1\"";
    let of_calls = |rest: &str, changed: &[&str]| {
        check_fault(&format!("{calls}\n{rest}"), "service-calls", "orders/amer-1", changed);
    };
    of_calls("kind = \"spike\"", &["duration_ms"]);
    of_calls("kind = \"dip\"", &["duration_ms"]);
    of_calls("kind = \"level_shift\"\nmeasure = \"bytes\"", &["bytes"]);
    of_calls("kind = \"drift\"", &["duration_ms"]);
    of_calls("kind = \"outlier\"", &["duration_ms", "bytes"]);
    of_calls("kind = \"seasonal_break\"", &["duration_ms"]);
    of_calls("kind = \"level_shift\"\nmeasure = \"status\"\nmagnitude = 100.0", &["status"]);
    let of = |stream: &str, entity: &str, rest: &str, changed: &[&str]| {
        check_fault(&format!("stream = \"{stream}\"\nentity = \"{entity}\"\n{rest}"), stream, entity, changed);
    };
    let pod = "node-emea-1/orders-emea-1";
    of("infrastructure", pod, "kind = \"spike\"", &["cpu_ratio"]);
    of("infrastructure", pod, "kind = \"drift\"\nmeasure = \"memory_bytes\"", &["memory_bytes"]);
    of("infrastructure", pod, "kind = \"level_shift\"\nmeasure = \"disk_ratio\"", &["disk_ratio"]);
    of("infrastructure", pod, "kind = \"level_shift\"\nmeasure = \"restarts\"\nmagnitude = 900.0", &["restarts"]);
    of("beacons", "shop/home", "kind = \"spike\"", &["load_ms"]);
    of("beacons", "shop/home", "kind = \"level_shift\"\nmeasure = \"errors\"\nmagnitude = 100.0", &["errors"]);
    of("checks", "order/frankfurt", "kind = \"dip\"", &["response_ms"]);
    of(
        "checks",
        "order/frankfurt",
        "kind = \"level_shift\"\nmeasure = \"success\"\nmagnitude = 100.0",
        &["success", "status"],
    );
}

#[test]
fn values_are_around_what_the_scenario_says() {
    let text = Scenario::shipped_toml("steady").unwrap().replace("10_000_000", "200_000");
    let scenario = Scenario::from_toml(&text, "steady").unwrap();
    let (mut sum, mut count) = (BTreeMap::new(), BTreeMap::new());
    let mut errors = 0;
    let generator = scenario.generator(4, 1);
    for place in generator.partitions().into_keys() {
        let mut events = generator.events(place, 0);
        while let Some(event) = events.next_event() {
            let values::EventRecord::ServiceCall(call) = event.record else { panic!("another stream") };
            *sum.entry(event.entity.to_owned()).or_insert(0.0) += call.duration_ms;
            *count.entry(event.entity.to_owned()).or_insert(0.0) += 1.0;
            errors += u32::from(call.status != 200);
        }
    }
    for entity in scenario.entities() {
        let wanted = entity.base.main * entity.spread();
        let found: f64 = sum[&entity.key] / count[&entity.key];
        // 2,000 values of relative spread 0.25: the mean's is 0.0057; five of them.
        assert!((found / wanted - 1.0).abs() < 0.03, "{}: {found}, wanted {wanted}", entity.key);
    }
    // 200,000 x 0.005: 1,000, standard deviation 32.
    assert!((840..1160).contains(&errors), "{errors} errors");
}

#[test]
fn a_fault_is_as_strong_as_its_truth_says() {
    let scenario = Scenario::shipped("demo").unwrap();
    let seed = 11;
    let (generator, sound) = (scenario.generator(seed, 1), scenario.clone());
    let mut quiet = sound;
    quiet.random_faults = None;
    let quiet = quiet.generator(seed, 1);
    let spikes: Vec<_> =
        generator.truth().filter(|t| t.kind == tidewatch_schemas::record::AnomalyKind::Spike).collect();
    assert!(spikes.len() >= 7);
    for truth in spikes {
        let of = |generator: &Generator| -> f64 {
            let source = generator
                .plan
                .sources
                .iter()
                .find(|s| s.entity.key == truth.entity && s.entity.stream.name() == truth.stream)
                .unwrap();
            let mut record = values::EventRecord::of(&source.entity);
            let inside = (0..200).map(|step| truth.onset + (truth.end - truth.onset) * step / 200);
            let main = |(index, time): (usize, i64)| {
                values::fill(source, index as u64, time, &mut record);
                match &record {
                    values::EventRecord::ServiceCall(r) => r.duration_ms,
                    values::EventRecord::Infrastructure(r) => r.cpu_ratio,
                    values::EventRecord::Beacon(r) => r.load_ms,
                    values::EventRecord::Check(r) => r.response_ms,
                }
            };
            inside.enumerate().map(main).sum()
        };
        let ratio = of(&generator) / of(&quiet);
        let capped = truth.measure == Measure::CpuRatio.field();
        assert!((ratio / truth.magnitude - 1.0).abs() < 0.01 || (capped && ratio > 1.8), "{truth:?}: {ratio}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn a_resumption_anywhere_gives_the_tail(seed in 0_u64..3, resume in 0_u64..8000, partitions in 1_i32..4) {
        let generator = SMOKE.clone().with_events(4000).generator(seed, partitions);
        for (place, all) in make_all(&generator) {
            let tail = make(generator.events(place, resume));
            let from = (resume as usize).min(all.len());
            prop_assert_eq!(&all[from..], &tail[..]);
        }
    }
}

#[test]
fn a_resumption_works_where_many_events_share_a_millisecond() {
    let text = Scenario::shipped_toml("steady").unwrap().replace("10_000_000", "5_000").replace("\"1d\"", "\"1s\"");
    let generator = Scenario::from_toml(&text, "dense").unwrap().generator(1, 1);
    for (place, all) in make_all(&generator) {
        for resume in 0..40 {
            assert_eq!(&all[resume..], &make(generator.events(place, resume as u64))[..], "from {resume}");
        }
        assert!(make(generator.events(place, u64::MAX)).is_empty());
    }
}

#[test]
fn whole_events_are_shared_out_exactly() {
    let entities = SMOKE.entities();
    for events in [0, 1, 7, 8, 19_999, 1_000_003] {
        assert_eq!(apportion(events, entities).iter().sum::<u64>(), events);
    }
}
