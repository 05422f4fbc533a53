//! Deaths and restarts: whatever was written of which snapshot round, what comes out is what would have come out, and so is the state.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use tidewatch_schemas::record::State;

use super::*;
use crate::state::{StateKey, restore};

/// What a processor has committed of a partition: its outputs, the state topic, and what the committed offset says.
#[derive(Clone)]
struct Log {
    config: Arc<StreamConfig>,
    /// The first offset that is no history, as the committed offset says until there is a round.
    history: i64,
    engine: Engine,
    state: BTreeMap<StateKey, State>,
    written: Effects,
    /// The next offset.
    committed: usize,
    /// The last complete round.
    round: Option<i64>,
}

impl Log {
    fn new(config: Arc<StreamConfig>, history: i64) -> Self {
        let mut engine = Engine::new(config.clone(), 0);
        engine.learn_until(history);
        Self { config, history, engine, state: BTreeMap::new(), written: Effects::default(), committed: 0, round: None }
    }

    /// One transaction: some events, and a part of a round, of which another is opened where none is open.
    fn cycle(&mut self, events: &[Given], len: usize, bytes: usize) {
        let end = (self.committed + len).min(events.len());
        let (mut effects, _) = run(&mut self.engine, self.committed as i64, &events[self.committed..end]);
        self.written.metrics.append(&mut effects.metrics);
        self.written.forecasts.append(&mut effects.forecasts);
        self.written.alerts.append(&mut effects.alerts);
        self.committed = end;
        if self.engine.open_round_offset().is_none() && self.round < Some(end as i64) {
            self.engine.open_round(end as i64);
        }
        let (offset, mut changes) = (self.engine.open_round_offset(), Vec::new());
        if self.engine.write_round(bytes, &mut changes) {
            self.round = offset;
        }
        for (place, state) in changes {
            match state {
                Some(state) => drop(self.state.insert(place, state)),
                None => drop(self.state.remove(&place)),
            }
        }
    }

    /// Dies, and comes back: restores, and takes in again what followed, without writing. Between two transactions or in one is the
    /// same to it: of an open one, nothing is there to be read.
    fn restart(&mut self, events: &[Given]) {
        let records = self.state.iter().map(|(place, state)| (place.slot, state.clone()));
        self.engine = restore(self.config.clone(), 0, self.round, records).unwrap();
        if self.round.is_none() {
            self.engine.learn_until(self.history);
        }
        let from = self.round.unwrap_or(0);
        run(&mut self.engine, from, &events[from as usize..self.committed]);
    }

    /// All that the engine knows.
    fn standing(&self) -> BTreeMap<Option<Arc<str>>, Vec<u8>> {
        let mut engine = restore(self.config.clone(), 0, None, []).unwrap();
        engine.clone_from(&self.engine);
        if engine.open_round_offset().is_some() {
            engine.write_round(usize::MAX, &mut Vec::new());
        }
        // Every entity, changed or not.
        for at in 0..engine.slots.len() as u32 {
            if engine.slots[at as usize].is_some() {
                engine.about_to_change(at);
            }
        }
        let all = engine.snapshot(i64::MAX).into_iter();
        all.filter_map(|(place, state)| Some((place.entity, state?.payload)))
            .filter(|(_, payload)| !payload.is_empty())
            .collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn restoring_anywhere_equals_never_having_stopped(
        events in events(150),
        steps in prop::collection::vec((0usize..12, prop::sample::select(vec![0usize, 300, 1_000, 5_000, usize::MAX]), prop::bool::weighted(0.2)), 0..40),
        settings in variants(),
        history in 0i64..150,
    ) {
        let config = StreamSettings { entities_max: 3, ..settings }.validate().unwrap();
        let mut undisturbed = Engine::new(config.clone(), 0);
        undisturbed.learn_until(history);
        let (expected, _) = run(&mut undisturbed, 0, &events);

        let mut log = Log::new(config, history);
        for (len, bytes, dies) in steps {
            log.cycle(&events, len, bytes);
            if dies {
                log.restart(&events);
            }
        }
        log.cycle(&events, events.len(), usize::MAX);
        log.restart(&events);
        prop_assert_eq!(&log.written, &expected);
        prop_assert_eq!(log.engine.counts(), undisturbed.counts());
        // And the state is the same, whatever it took to get there.
        prop_assert_eq!(log.standing(), Log { engine: undisturbed, ..log.clone() }.standing());
    }
}

/// Four streams of 2,500 deaths and more, one after every few events.
#[test]
fn ten_thousand_deaths_leave_no_trace() {
    let seconds = |seconds: i64| Span::from_millis(seconds * SECOND);
    let streams = [
        (WindowSettings::Tumbling(seconds(10)), Revisions::On, None),
        (WindowSettings::Hopping([seconds(30), seconds(3)]), Revisions::Off, Some("id".to_owned())),
        (WindowSettings::Hopping([seconds(10), seconds(5)]), Revisions::On, None),
        (WindowSettings::Session(seconds(4)), Revisions::On, None),
    ];
    let mut deaths = 0;
    for (seed, (window, revisions, event_id)) in streams.into_iter().enumerate() {
        let mut settings = StreamSettings { window, revisions, event_id, entities_max: 5, ..settings(10_000, 5_000) };
        // A forest is larger than all the rest, and is in the recorded states.
        settings.measures[0].detectors = ALL_BUT_THE_FOREST.to_vec();
        settings.alert = crate::config::AlertSettings { open_after: 1, ..settings.alert };
        if window != WindowSettings::Hopping([seconds(10), seconds(5)]) {
            settings.measures[0].forecast = None;
        }
        let config = settings.validate().unwrap();
        let mut dice = Dice(seed as u64);
        let events = dice.events(7_500);
        // The state at each offset, as it is without a death.
        let mut undisturbed = Log::new(config.clone(), 2_650);
        let mut log = Log::new(config, 2_650);
        while log.committed < events.len() {
            log.cycle(&events, dice.roll(4), [0, 500, 2_000, 20_000, usize::MAX][dice.roll(5)]);
            if dice.roll(10) < 9 {
                log.restart(&events);
                deaths += 1;
                undisturbed.cycle(&events, log.committed - undisturbed.committed, 0);
                assert_eq!(log.standing(), undisturbed.standing(), "seed {seed}, offset {}", log.committed);
            }
        }
        undisturbed.cycle(&events, events.len(), 0);
        assert!(!log.written.metrics.is_empty() && !log.written.alerts.is_empty(), "{window:?}");
        assert!(log.written == undisturbed.written, "seed {seed}: another output");
        assert_eq!(log.standing(), undisturbed.standing(), "seed {seed}");
    }
    assert!(deaths >= 10_000, "{deaths} deaths");
}

/// Entities come and go far faster than rounds end, of which a record is written at a time: what says that one is gone is the last of it
/// to be cleared.
#[test]
fn who_is_forgotten_stays_forgotten_wherever_it_dies() {
    let mut settings = StreamSettings { entities_max: 5, ..settings(10_000, 5_000) };
    settings.measures[0].detectors.truncate(1);
    settings.measures[0].forecast = None;
    let config = settings.validate().unwrap();
    let mut dice = Dice(7);
    let mut events = dice.events(1_500);
    events.iter_mut().for_each(|event| event.entity = format!("job/{}", dice.roll(40)));
    let (mut log, mut undisturbed) = (Log::new(config.clone(), 0), Log::new(config, 0));
    let mut deaths = 0;
    while log.committed < events.len() {
        log.cycle(&events, dice.roll(2), 1);
        if dice.roll(10) == 0 {
            log.restart(&events);
            deaths += 1;
            undisturbed.cycle(&events, log.committed - undisturbed.committed, 0);
            assert_eq!(log.standing(), undisturbed.standing(), "offset {}", log.committed);
        }
    }
    assert!(deaths > 200 && log.round > Some(1_000), "{deaths} deaths, {:?}", log.round);
}

/// Numbers by a seed (Knuth's MMIX).
pub(super) struct Dice(pub(super) u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % sides
    }

    /// Events of six entities, two of them rare: disorder, some late, some twice, some far out for a while, and pauses.
    pub(super) fn events(&mut self, number: usize) -> Vec<Given> {
        let mut now = 100 * SECOND;
        let event = |at| {
            now += self.roll(1_000) as i64 + if self.roll(200) == 0 { 60 * SECOND } else { 0 };
            let late_ms = if self.roll(30) == 0 { 8 * SECOND } else { self.roll(3_000) as i64 };
            let far = if at / 100 % 9 == 8 { 500.0 } else { 0.0 };
            Given {
                event_time: now - late_ms,
                entity: format!("checkout/{}", if self.roll(50) == 0 { 4 + self.roll(2) } else { self.roll(4) }),
                value: 20.0 + self.roll(100) as f64 / 10.0 + far,
                id: Some(self.roll(2_000) as u64),
                silence_ms: (self.roll(300) == 0).then_some(20 * SECOND),
            }
        };
        (0..number).map(event).collect()
    }
}
