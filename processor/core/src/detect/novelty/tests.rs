use super::*;
use crate::forecast::usual::Usual;

const STEP_MS: i64 = 300_000;
const START_MS: i64 = 1_767_571_200_000;

/// A detector with what is usual of its series.
struct Watched {
    usual: Usual,
    novelty: Novelty,
    window: i64,
}

impl Watched {
    fn after(windows: i64, value: impl Fn(i64) -> f64) -> Self {
        let mut watched = Self { usual: Usual::new(STEP_MS), novelty: Novelty::default(), window: 0 };
        for window in 0..windows {
            watched.next(value(window));
        }
        watched
    }

    fn observe(&self, value: f64) -> Observation {
        let start_ms = START_MS + self.window * STEP_MS;
        Observation { start_ms, value, expected: None, usual: Some(self.usual.compare(start_ms, value)) }
    }

    fn score(&self, value: f64) -> f64 {
        self.novelty.score(&self.observe(value))
    }

    fn next(&mut self, value: f64) -> f64 {
        let observation = self.observe(value);
        let score = self.novelty.score(&observation);
        self.novelty.learn(&observation);
        self.usual.learn(observation.start_ms, STEP_MS, value);
        self.window += 1;
        score
    }
}

/// Within 10 and 20, in no order.
fn within(window: i64) -> f64 {
    10.0 + (window * 7_919 % 1_009) as f64 / 100.9
}

#[test]
fn what_leaves_the_range_is_novel_and_what_stays_within_is_not() {
    let watched = Watched::after(2_000, within);
    assert!(watched.score(15.0) < 0.5 && watched.score(19.9) < 0.5);
    assert!(watched.score(35.0) > 1.0, "{}", watched.score(35.0));
    assert!(watched.score(-5.0) > 1.0, "below as above");
    assert!(watched.score(60.0) > watched.score(35.0), "the further out the more");
}

#[test]
fn a_record_extends_the_ranges() {
    let mut watched = Watched::after(2_000, within);
    let before = watched.score(35.0);
    watched.next(35.0);
    assert!(watched.novelty.all.beyond(35.0) == 0.0);
    watched.next(15.0);
    // Coming from there it has not been that high, which is a third of the evidence at most.
    assert!(watched.score(35.0) < before / 2.0, "{before} before, {} after", watched.score(35.0));
}

#[test]
fn an_hour_and_a_height_have_ranges_of_their_own() {
    // Low by night, high by day, in a range that both are in.
    let night = |window: i64| window % 288 < 144;
    let value = |window: i64| if night(window) { within(window) } else { 100.0 + within(window) };
    let watched = Watched::after(20 * 288 + 30, value);
    assert!(watched.novelty.all.beyond(70.0) == 0.0);
    assert!(watched.score(70.0) > 1.0, "{}", watched.score(70.0));
}

#[test]
fn the_first_day_is_silent_and_teaches() {
    let growing = |window: i64| within(window) + window as f64;
    let mut watched = Watched::after(0, growing);
    for window in 0..287 {
        assert_eq!(watched.next(growing(window)), 0.0);
    }
    assert!(watched.novelty.threshold > 1.5, "records are usual in this series: {}", watched.novelty.threshold);
    assert!(Watched::after(287, within).novelty.threshold < 1.5, "and hardly in this one");
}

#[test]
fn bounds_relax_towards_the_mean() {
    let mut range = Range::default();
    assert_eq!(range.beyond(0.0), 0.0);
    range.take(10.0);
    range.take(20.0);
    assert_eq!((range.beyond(25.0), range.beyond(7.0), range.beyond(15.0)), (5.0, 3.0, 0.0));
    for _ in 0..100_000 {
        range.relax(15.0);
    }
    assert!((range.high - 15.0 - 5.0 * (-0.3_f64).exp()).abs() < 1e-3, "{range:?}");
    assert!((range.low - 15.0 + 5.0 * (-0.3_f64).exp()).abs() < 1e-3, "{range:?}");
}
