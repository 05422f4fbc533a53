//! The counts are what a watermark makes of the records, for any rules that are accepted; and a sequence is the same from anywhere.

use super::*;
use crate::generator::{Generator, StreamPartition};
use crate::scenario::Scenario;
use proptest::prelude::*;
use std::collections::BTreeSet;
use tidewatch_schemas::wire::Framing;

/// A published record, with its bytes.
#[derive(Clone, Debug, PartialEq)]
struct Made {
    moment: i64,
    event_time: i64,
    stated: i64,
    entity: String,
    index: u64,
    outcome: Outcome,
    value: Option<Vec<u8>>,
}

fn make(generator: &Generator, place: StreamPartition, resume_at: u64) -> Vec<Made> {
    let mut records = generator.records(place, resume_at);
    let mut made = Vec::new();
    while let Some(moment) = records.next_moment() {
        let record = records.next_record().unwrap();
        assert_eq!(record.moment, moment);
        let mut value = Vec::new();
        let has_value = record.encode(Framing::SingleObject, &mut value);
        made.push(Made {
            moment,
            event_time: record.event.event_time,
            stated: record.stated_time,
            entity: record.event.entity.to_owned(),
            index: record.event.index,
            outcome: record.outcome,
            value: has_value.then_some(value),
        });
    }
    assert!(records.next_record().is_none());
    made
}

/// What a processor says by watermark alone, for windows of this size and slide.
fn check_outcomes(made: &[Made], [size_ms, slide_ms, disorder_ms, lateness_ms]: [i64; 4]) {
    let (mut greatest, mut seen) = (None::<i64>, BTreeSet::new());
    for record in made {
        let end = record.stated - record.stated.rem_euclid(slide_ms) + size_ms;
        let is_final = greatest.is_some_and(|greatest| end <= greatest - disorder_ms - lateness_ms);
        match record.outcome {
            Outcome::Scored => {
                assert!(!is_final, "{record:?} is late");
                assert!(seen.insert((record.entity.clone(), record.index)), "{record:?} is a duplicate");
                greatest = greatest.max(Some(record.stated));
            }
            Outcome::Late => assert!(is_final, "{record:?} is in time"),
            Outcome::Duplicate => assert!(seen.contains(&(record.entity.clone(), record.index)), "{record:?} is new"),
            Outcome::DeadLetter(_) => {}
        }
    }
}

/// The record of the truth topic says what was made.
fn check_truth(truth: &record::Disorder, made: &[Made], events: u64) {
    let count = |outcome: Outcome| made.iter().filter(|made| made.outcome == outcome).count() as i64;
    let dead: i64 = truth.dead_letters.values().sum();
    assert_eq!(truth.sent, made.len() as i64);
    assert_eq!(
        (truth.scored, truth.late, truth.duplicates),
        (count(Outcome::Scored), count(Outcome::Late), count(Outcome::Duplicate))
    );
    assert_eq!(truth.sent, truth.scored + truth.late + truth.duplicates + dead);
    assert_eq!(truth.events, truth.sent - truth.duplicates + truth.dropped + truth.idle);
    assert_eq!(truth.events as u64, events);
}

const SPAN_S: i64 = 1_800;

fn scenario(rules: &str) -> Scenario {
    let text = format!(
        "[scenario]\nname = \"d\"\nstart = \"2025-01-06T08:00:00Z\"\nduration = \"{SPAN_S}s\"\n\
         [rate]\nprofile = \"constant\"\nevents = 2000\n\
         [[stream]]\nkind = \"service-calls\"\nshare = 0.8\n[[stream]]\nkind = \"infrastructure\"\nshare = 0.2\n\
         [[service]]\nname = \"web\"\ninstances = 5\nregions = [\"EMEA\"]\nlatency_ms = 10\n{rules}"
    );
    Scenario::from_toml(&text, "d").unwrap_or_else(|error| panic!("{error}\n{text}"))
}

prop_compose! {
    /// Rules, and window, slide, disorder, lateness of a processor that they are true for.
    fn rules()(
        shares in prop::array::uniform4(0.0f64..0.24), reorder in (0.0f64..1.0, 1i64..5_000), fast in 1i64..3_000, slow in 1i64..3_000,
        slide in 1i64..20_000, panes in 1i64..4, lateness in 0i64..20_000, late_more in 0i64..60_000, within in 1i64..90_000,
        slow_more in prop::option::of(0i64..100_000), idle in (0i64..SPAN_S, 1i64..SPAN_S), is_tail_idle in any::<bool>(),
        changed in (0i64..SPAN_S, 1i64..SPAN_S), shared in 0i64..=100,
    ) -> (String, [i64; 4]) {
        // The disorder and lateness of the processor together are what an event on time needs, however they share it.
        let on_time_within = reorder.1 + fast + slow;
        let disorder = on_time_within * shared / 100;
        let lateness = on_time_within - disorder + lateness;
        let final_after = slide * panes + disorder + lateness;
        let [drops, poison, late, duplicates] = shares;
        let slow_by = slow_more.map_or(slow, |more| final_after + more);
        let to = |(from, length): (i64, i64)| (from + length).min(SPAN_S - 1).max(from + 1).min(SPAN_S);
        let idle_to = if is_tail_idle || idle.0 + 1 >= SPAN_S { String::new() } else { format!("to = \"{}s\"\n", to(idle)) };
        let changed_to = if changed.0 + 1 >= SPAN_S { String::new() } else { format!("to = \"{}s\"\n", to(changed)) };
        let text = format!(
            "[disorder.assumes]\non_time_within = \"{on_time_within}ms\"\nfinal_after = \"{final_after}ms\"\n\
             [disorder.reorder]\nshare = {}\nwithin = \"{}ms\"\n[disorder.drops]\nshare = {drops}\n\
             [disorder.poison]\nshare = {poison}\n[disorder.late]\nshare = {late}\nby = [\"{final_after}ms\", \"{}ms\"]\n\
             [disorder.duplicates]\nshare = {duplicates}\nwithin = \"{within}ms\"\n\
             [[disorder.skew]]\nservice = \"web\"\ninstance = \"emea-1\"\nfast = \"{fast}ms\"\n\
             [[disorder.skew]]\nservice = \"web\"\ninstance = \"emea-2\"\nslow = \"{slow_by}ms\"\n\
             [[disorder.skew]]\nservice = \"web\"\ninstance = \"emea-3\"\nfast = \"2h\"\n\
             [[disorder.idle]]\nstream = \"service-calls\"\npartition = 0\nfrom = \"{}s\"\n{idle_to}\
             [[disorder.schema_change]]\nstream = \"service-calls\"\nkind = \"incompatible\"\nfrom = \"{}s\"\n{changed_to}",
            reorder.0, reorder.1, final_after + late_more, idle.0, changed.0,
        );
        (text, [slide * panes, slide, disorder, lateness])
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn what_the_truth_says_is_what_a_watermark_makes_of_the_records(
        (rules, settings) in rules(), seed in 0u64..1_000, partitions in 1i32..4, cut in 0.0f64..1.0,
    ) {
        let generator = scenario(&rules).generator(seed, partitions).limited(2_000 - (cut * 500.0) as u64);
        let truth = generator.disorder();
        let events = generator.partitions();
        prop_assert_eq!(truth.len(), events.len());
        for (truth, (place, events)) in truth.iter().zip(events) {
            prop_assert_eq!((truth.stream.as_str(), truth.partition), (place.stream.name(), place.partition));
            let made = make(&generator, place, 0);
            prop_assert!(made.is_sorted_by_key(|made| made.moment));
            check_outcomes(&made, settings);
            check_truth(truth, &made, events);
            let resume_at = (cut * made.len() as f64) as usize;
            prop_assert_eq!(&make(&generator, place, resume_at as u64), &made[resume_at..]);
            prop_assert_eq!(make(&generator, place, made.len() as u64 + 1), Vec::new());
        }
    }
}

#[test]
fn without_rules_records_are_events() {
    let generator = Scenario::shipped("smoke").unwrap().generator(1, 2);
    assert_eq!(generator.disorder(), Vec::new());
    assert_eq!(generator.records_total(), generator.partitions());
    let place = *generator.partitions().keys().next().unwrap();
    let made = make(&generator, place, 7);
    let mut events = generator.events(place, 7);
    for made in made {
        let event = events.next_event().unwrap();
        let mut value = Vec::new();
        event.encode(Framing::SingleObject, &mut value);
        assert_eq!((made.moment, made.value), (event.event_time, Some(value)));
    }
    assert_eq!(events.left(), 0);
}

#[test]
fn the_shipped_scenario_has_disorder_of_every_kind() {
    for (seed, partitions) in [(1, 1), (1, 2), (2, 6)] {
        let truth = Scenario::shipped("disorder").unwrap().generator(seed, partitions).disorder();
        let sum = |of: fn(&record::Disorder) -> i64| truth.iter().map(of).sum::<i64>();
        assert_eq!(sum(|truth| truth.events), 200_000);
        for (what, count) in [
            ("late", sum(|truth| truth.late)),
            ("duplicates", sum(|truth| truth.duplicates)),
            ("dropped", sum(|truth| truth.dropped)),
            ("reordered", sum(|truth| truth.reordered)),
            ("skewed", sum(|truth| truth.skewed)),
            ("idle", sum(|truth| truth.idle)),
            ("evolved", sum(|truth| truth.evolved)),
        ] {
            assert!(count > 100, "{what}: {count}");
        }
        let reasons: BTreeSet<&str> =
            truth.iter().flat_map(|truth| truth.dead_letters.keys()).map(String::as_str).collect();
        let rejected = |kind: &Poison| match kind.outcome() {
            Outcome::DeadLetter(reason) => Some(reason.as_str()),
            _ => None,
        };
        let all: BTreeSet<&str> = Poison::DEFAULT.iter().filter_map(rejected).collect();
        assert_eq!(reasons, all);
    }
}

#[test]
fn the_schemas_of_a_change_are_the_current_ones_but_for_it() {
    for stream in StreamKind::ALL {
        let current = tidewatch_schemas::catalogue::builtin(stream.name()).pop().unwrap();
        let parse = |json: &str| serde_json::from_str::<serde_json::Value>(json).unwrap();
        let [added, changed] = stream.evolved_schemas().map(parse);
        let mut with_zone = parse(current.json());
        let zone = added["fields"].as_array().unwrap().last().unwrap().clone();
        assert_eq!((zone["name"].as_str(), zone["default"].as_str()), (Some("zone"), Some("")));
        with_zone["fields"].as_array_mut().unwrap().push(zone);
        assert_eq!(added, with_zone);
        let mut other = parse(current.json());
        for field in other["fields"].as_array_mut().unwrap() {
            if field["name"] == stream.entity_fields()[0] {
                field["type"] = serde_json::json!(["null", "string"]);
            } else if field["name"] == stream.measures()[0].field() {
                field["type"] = "string".into();
            }
        }
        assert_eq!(changed, other);
    }
}
