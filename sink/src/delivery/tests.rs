//! Exactly once, proved by force: the process dies before or after every single storage operation
//! and every commit; two writers own the same partition at once; storage fails now and then. Each
//! time the rows that a reader globbing the files sees are the input, once.

mod faulty;
mod world;

use std::time::{Duration, Instant};

use proptest::prelude::*;

use self::faulty::{Moment, Plan};
use self::world::{LIMITS, Life, World, limits};
use super::kind::TopicKind;
use crate::config::RollSettings;

/// One life until its death or its end, a check of what a reader sees then, a second life with other
/// roll bounds, and the final check.
fn check_death(moment: Moment, at: u64, second_limits: RollSettings) -> Life {
    let mut world = World::new();
    let first = world.live(LIMITS, Plan::DieAt { at, moment });
    world.assert_nothing_doubled();
    assert_eq!(world.live(second_limits, Plan::Healthy), Life::Finished, "second life after death {moment:?} {at}");
    world.assert_exactly_the_input();
    first
}

#[test]
fn death_at_every_operation_neither_loses_nor_doubles_a_row() {
    for moment in [Moment::Before, Moment::After] {
        for second_limits in [LIMITS, limits(2), limits(1000)] {
            let deaths = (0..).take_while(|&at| check_death(moment, at, second_limits) == Life::Died).count();
            assert!(deaths > 40, "only {deaths} operations were tried");
        }
    }
}

#[test]
fn a_third_life_finds_nothing_to_do() {
    let mut world = World::new();
    assert_eq!(world.live(LIMITS, Plan::Healthy), Life::Finished);
    let files = world.files();
    assert_eq!(world.live(limits(2), Plan::Healthy), Life::Finished);
    assert_eq!(world.files(), files);
    world.forget_commits();
    assert_eq!(world.live(limits(2), Plan::Healthy), Life::Finished);
    assert_eq!(world.files(), files);
    world.assert_exactly_the_input();
}

#[test]
fn the_same_log_and_bounds_give_the_same_bytes_after_any_death() {
    let mut undisturbed = World::new();
    undisturbed.live(LIMITS, Plan::Healthy);
    for at in (0..60).step_by(7) {
        let mut world = World::new();
        world.live(LIMITS, Plan::DieAt { at, moment: Moment::After });
        world.live(LIMITS, Plan::Healthy);
        world.assert_exactly_the_input();
    }
    let mut again = World::new();
    again.live(LIMITS, Plan::Healthy);
    assert_eq!(again.contents(), undisturbed.contents());
}

#[test]
fn transient_failures_are_retried() {
    for every in 2..6 {
        let mut world = World::new();
        assert_eq!(world.live(LIMITS, Plan::FailEvery(every)), Life::Finished);
        world.assert_exactly_the_input();
    }
}

#[test]
fn files_that_a_person_removed_after_the_commit_are_not_made_again() {
    let mut world = World::new();
    world.live(LIMITS, Plan::Healthy);
    world.remove_files();
    assert_eq!(world.live(LIMITS, Plan::Healthy), Life::Finished);
    assert_eq!(world.files().len(), 0);
}

#[test]
fn a_topic_made_anew_under_an_old_output_is_refused() {
    let mut world = World::new();
    // Dies between the first claim and the end of its files; then the records are gone.
    world.live(LIMITS, Plan::DieAt { at: 5, moment: Moment::After });
    world.forget_commits();
    world.drop_records_of_even_offset();
    let Life::Refused(error) = world.live(LIMITS, Plan::Healthy) else { panic!("not refused") };
    assert!(error.contains("already claims offsets"), "{error}");
    assert!(error.contains("use another `sink.output` and `sink.group_id`"), "{error}");
}

#[test]
fn memory_is_bounded_over_all_partitions() {
    let mut world = World::new();
    let slow = RollSettings { rows: 1000, bytes: 1 << 30, interval: Duration::from_secs(3600) };
    let peak = world.peak_buffered_bytes(slow, 2_000);
    assert!(peak < 2_000 + world.largest_step_bytes(), "{peak}");
    world.assert_exactly_the_input();
}

#[test]
fn age_closes_a_roll() {
    let mut world = World::new();
    let mut deliverer = world.deliverer(limits(1000), Plan::Healthy);
    world.assign_all(&mut deliverer).unwrap();
    let start = Instant::now();
    world.absorb(&mut deliverer, 0, 0..3, start);
    assert_eq!(world.settle(&mut deliverer, start + Duration::from_secs(59), false).unwrap(), 0);
    assert_eq!(world.settle(&mut deliverer, start + Duration::from_secs(60), false).unwrap(), 1);
}

#[test]
fn unreadable_records_are_kept_raw_and_the_rest_goes_on() {
    let mut world = World::new();
    world.spoil(0, 4, Some(b"not avro".to_vec()));
    world.spoil(1, 0, None);
    assert_eq!(world.live(LIMITS, Plan::Healthy), Life::Finished);
    world.assert_exactly_the_input();
    let raw = world.rejected_lines();
    assert_eq!(raw.len(), 2, "{raw:?}");
    let garbage = raw.iter().find(|line| line["partition"] == 0).unwrap();
    assert_eq!(garbage["value_hex"], "6e6f74206176726f");
    assert!(!garbage["error"].as_str().unwrap().is_empty());
    let null = raw.iter().find(|line| line["partition"] == 1).unwrap();
    assert_eq!((null["value_hex"].as_str(), null["error"].as_str()), (None, Some("the value is null")));
}

#[test]
fn alerts_are_also_json_lines_in_offset_order() {
    let mut world = World::new();
    world.live(LIMITS, Plan::Healthy);
    let lines = world.alert_lines();
    assert_eq!(lines.len(), world.rows_of(TopicKind::Alerts));
    assert!(lines.iter().all(|line| line["alert_id"].is_string() && line["severity"] == "high"), "{:?}", lines[0]);
}

#[derive(Clone, Debug)]
enum Step {
    Read { writer: usize, partition: usize, records: usize },
    Settle { writer: usize, flush: bool },
    Restart { writer: usize, rows: u64 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..2usize, 0..2usize, 1..6usize).prop_map(|(writer, partition, records)| Step::Read { writer, partition, records }),
        2 => (0..2usize, any::<bool>()).prop_map(|(writer, flush)| Step::Settle { writer, flush }),
        1 => (0..2usize, 1..8u64).prop_map(|(writer, rows)| Step::Restart { writer, rows }),
    ];
    prop::collection::vec(step, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// A zombie: two writers believe they own the same partitions, with different bounds, at any
    /// interleaving of their steps.
    #[test]
    fn two_writers_at_once_write_each_row_once(steps in steps()) {
        let mut world = World::new();
        let mut writers = [world.writer(limits(3)), world.writer(limits(5))];
        for step in steps {
            match step {
                Step::Read { writer, partition, records } => world.read(&mut writers[writer], partition, records),
                Step::Settle { writer, flush } => { world.settle(&mut writers[writer].deliverer, Instant::now(), flush).unwrap(); }
                Step::Restart { writer, rows } => writers[writer] = world.writer(limits(rows)),
            }
            world.assert_nothing_doubled();
        }
        for writer in &mut writers {
            world.finish(writer);
        }
        world.assert_exactly_the_input();
    }

    /// Several deaths in a row, each life with its own bounds.
    #[test]
    fn many_deaths(lives in prop::collection::vec((0..40u64, any::<bool>(), 1..9u64), 1..6)) {
        let mut world = World::new();
        for (at, after, rows) in lives {
            let moment = if after { Moment::After } else { Moment::Before };
            world.live(limits(rows), Plan::DieAt { at, moment });
            world.assert_nothing_doubled();
        }
        assert_eq!(world.live(LIMITS, Plan::Healthy), Life::Finished);
        world.assert_exactly_the_input();
    }
}
