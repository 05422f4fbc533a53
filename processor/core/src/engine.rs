//! The engine of one input partition: takes events in, closes windows as the watermark passes them, and says what follows.

use std::sync::Arc;

use ahash::AHashMap;
use serde::{Deserialize, Serialize};
use tidewatch_schemas::record::{Alert, Forecast, WindowMetric};

use crate::cohort::Cohorts;
use crate::config::StreamConfig;
use crate::entity::{Context, Entity};
use crate::history::History;
use crate::recency::Recency;
use crate::state::format::in_4;
use crate::state::round::Rounds;
use crate::tell::Whose;
use crate::watermark::Watermark;
use crate::window::Sample;
use crate::window::deadlines::Deadlines;

/// Records after which [`Engine::go_on`] lets its caller write them.
const EFFECTS_MAX: usize = 10_000;

/// One event, as far as the stream's declaration asks for it.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    /// Its offset in the input partition.
    pub offset: i64,
    /// Its event time, in ms since 1970; see [`crate::is_valid_event_time`].
    pub event_time: i64,
    /// Its entity's key.
    pub entity: &'a str,
    /// The value of each measure of the stream, NaN where the event has none.
    pub values: &'a [f64],
    /// A hash of its id, where the stream remembers ids.
    pub id: Option<u64>,
}

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ingested {
    /// It is in at least one window that is not final.
    Scored,
    /// All its windows were final.
    Late(LateEvent),
    /// An event with its id was taken in before.
    Duplicate,
}

/// What window an event missed, and by how much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LateEvent {
    /// Start of the last window that it belonged to, in ms since 1970.
    pub window_start: i64,
    /// End of that window.
    pub window_end: i64,
    /// How far event time was past the moment at which the window became final, in ms.
    pub late_by_ms: i64,
    /// Whether the window would have been anomalous with it and was not, or the other way round; `None` if too little is known of the
    /// window any more.
    pub would_change_alert: Option<bool>,
}

/// What followed from events, in the order in which it followed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Effects {
    /// Enriched windows.
    pub metrics: Vec<WindowMetric>,
    /// Forecasts.
    pub forecasts: Vec<Forecast>,
    /// Alerts opened, updated, resolved.
    pub alerts: Vec<Alert>,
}

impl Effects {
    /// Whether nothing followed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.metrics.is_empty() && self.forecasts.is_empty() && self.alerts.is_empty()
    }

    fn len(&self) -> usize {
        self.metrics.len() + self.forecasts.len() + self.alerts.len()
    }

    /// Forgets everything but the memory.
    pub fn clear(&mut self) {
        self.metrics.clear();
        self.forecasts.clear();
        self.alerts.clear();
    }
}

/// What the engine has done since the partition's first event; part of its state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Events taken in.
    pub scored: u64,
    /// Events whose windows were all final.
    pub late: u64,
    /// Events that came again.
    pub duplicate: u64,
    /// Windows told, each once (an entity's, whatever its number of measures).
    pub windows: u64,
    /// Windows that were final before an event of theirs came, where others of the same event were not: the event is in those, and
    /// counts as scored.
    pub missed: u64,
    /// Records that corrected others after late events.
    pub revisions: u64,
    /// Entities forgotten to make room.
    pub evicted: u64,
    /// Records of alerts that were not told, as their alerts opened in the history.
    #[serde(deserialize_with = "in_4")]
    pub quiet: u64,
}

/// An entity in the engine's table.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    pub(crate) key: Arc<str>,
    pub(crate) entity: Entity,
    /// The number of its cohort.
    cohort: u16,
    /// Slot of its last record in the state topic.
    pub(crate) recorded: Option<u8>,
}

/// The state of one input partition and what can be done with it.
///
/// Memory: per entity, its open panes and, per series, the detectors and the forecaster (their files state their bounds), at most
/// `entities_max` entities.
#[derive(Clone, Debug)]
pub struct Engine {
    pub(crate) config: Arc<StreamConfig>,
    pub(crate) partition: i32,
    pub(crate) watermark: Watermark,
    pub(crate) counts: Counts,
    pub(crate) cohorts: Cohorts,
    /// What is learnt from without alerts.
    pub(crate) history: Option<History>,
    pub(crate) slots: Vec<Option<Slot>>,
    free: Vec<u32>,
    pub(crate) by_key: AHashMap<Arc<str>, u32>,
    recency: Recency,
    deadlines: Deadlines,
    /// What is due and not done yet, the last to be done first: empty between two events.
    due: Option<(i64, Vec<u32>)>,
    pub(crate) rounds: Rounds,
}

impl Engine {
    /// An engine that has seen nothing.
    #[must_use]
    pub fn new(config: Arc<StreamConfig>, partition: i32) -> Self {
        let watermark = Watermark::new(config.disorder_ms);
        Self {
            cohorts: Cohorts::new(&config),
            config,
            partition,
            watermark,
            counts: Counts::default(),
            history: None,
            slots: Vec::new(),
            free: Vec::new(),
            by_key: AHashMap::new(),
            recency: Recency::default(),
            deadlines: Deadlines::default(),
            due: None,
            rounds: Rounds::default(),
        }
    }

    /// Has events before this offset be history: what they teach is learnt, and no alert is told that opened by the greatest time of them.
    ///
    /// For an engine that has seen nothing. The caller has to remember the offset until a snapshot holds it, and must not
    /// [`advance`](Self::advance) before all events before it are taken in.
    pub fn learn_until(&mut self, end: i64) {
        debug_assert!(self.watermark.now().is_none(), "it is the first thing that an engine is told");
        self.history = Some(History::until(end));
    }

    /// The first offset behind the history, if there was one.
    #[must_use]
    pub fn history_end(&self) -> Option<i64> {
        self.history.as_ref().map(History::end)
    }

    /// Takes one event in and appends what follows from it to `effects`, or some of it: see [`go_on`](Self::go_on).
    ///
    /// Events must come in the order of their offsets. Cost: constant, but for the windows that it closes.
    pub fn ingest(&mut self, event: &Event<'_>, effects: &mut Effects) -> Ingested {
        debug_assert_eq!(event.values.len(), self.config.measures.len());
        debug_assert!(!self.has_more(), "what is due comes first");
        let config = self.config.clone();
        let sample = Sample { offset: event.offset, values: event.values, quantiles: &config.quantiles };
        let now = self.watermark.now();
        let known = self.by_key.get(event.entity).copied();
        if let Some(slot) = known {
            self.about_to_change(slot);
        }
        if let (Some(id), Some((_, memory)), Some(Slot { entity, .. })) =
            (event.id, &config.event_id, known.and_then(|slot| self.slots[slot as usize].as_mut()))
            && !entity.ids.note(*memory, now, event.event_time, id)
        {
            self.counts.duplicate += 1;
            return Ingested::Duplicate;
        }
        let (window_start, window_end) = config.window.last_of(event.event_time);
        let final_until = self.final_until();
        let late_by_ms = final_until.map_or(-1, |until| until - window_end);
        let slot = match known {
            Some(slot) => Some(slot),
            None if late_by_ms >= 0 => None,
            None => Some(self.admit(event, effects)),
        };
        let mut would_change_alert = None;
        if let Some((slot, Slot { entity, cohort, .. })) =
            slot.and_then(|slot| Some((slot, self.slots[slot as usize].as_mut()?)))
        {
            if let Some(added) = entity.add(&config, event.event_time, &sample, now) {
                entity.last_seen = event.offset;
                if added.may_be_due {
                    self.deadlines.bring_forward(slot, entity.due(&config));
                }
                self.recency.touch(slot);
                self.counts.scored += 1;
                self.counts.missed += added.missed;
                if let Some(history) = &mut self.history {
                    history.observe(event.offset, event.event_time);
                }
                if self.watermark.observe(event.event_time) {
                    self.go_on(effects);
                }
                return Ingested::Scored;
            }
            let cohort = self.cohorts.of(*cohort);
            would_change_alert = entity.late_event_would_change(&config, event.event_time, &sample, cohort);
        }
        self.counts.late += 1;
        Ingested::Late(LateEvent { window_start, window_end, late_by_ms, would_change_alert })
    }

    /// Lets the watermark go on to `time` without an event, if it is not there yet, and appends what follows to `effects`, or some of it:
    /// see [`go_on`](Self::go_on).
    ///
    /// For a partition that has fallen silent: the caller decides by a clock, and has to remember the decision and its offset.
    pub fn advance(&mut self, time: i64, effects: &mut Effects) {
        debug_assert!(!self.has_more(), "what is due comes first");
        if self.watermark.advance(time) {
            self.go_on(effects);
        }
    }

    /// Whether more follows from the last event or advance than was appended: then [`go_on`](Self::go_on) before anything else.
    ///
    /// After a gap in event time every window of every entity may close at once, and nobody has the memory for all of that.
    #[must_use]
    pub fn has_more(&self) -> bool {
        self.due.is_some()
    }

    /// Appends what follows next, until nothing does or some ten thousand records are appended.
    ///
    /// What is due is done in the order of the times at which it is due, then of the entities' keys.
    pub fn go_on(&mut self, effects: &mut Effects) {
        let Some(now) = self.watermark.now() else { return };
        let before = effects.len();
        loop {
            if self.due.is_none() {
                let Some((time, mut slots)) = self.deadlines.take_due(now) else { return };
                slots.sort_unstable_by(|&a, &b| self.key_of(b).cmp(&self.key_of(a)));
                self.due = Some((time, slots));
            }
            let Some((time, slots)) = &mut self.due else { return };
            if effects.len() - before >= EFFECTS_MAX {
                return;
            }
            let Some(slot) = slots.pop() else {
                self.due = None;
                continue;
            };
            let time = *time;
            let Some(Slot { entity, .. }) = &self.slots[slot as usize] else { continue };
            // Nothing may be due any more, where a deadline was put off.
            let is_due = entity.due(&self.config).is_some_and(|due| due <= time);
            if is_due {
                self.about_to_change(slot);
            }
            let Some(Slot { key, entity, cohort, .. }) = &mut self.slots[slot as usize] else { continue };
            if is_due {
                let whose = Whose { config: &self.config, partition: self.partition, entity: key };
                let (cohort, final_until) = (self.cohorts.of(*cohort), time - self.config.lateness_ms);
                let (counts, history) = (&mut self.counts, self.history);
                entity.come_to(time, &mut Context { whose, effects, counts, cohort, history, final_until });
            }
            self.deadlines.set(slot, entity.due(&self.config));
        }
    }

    /// Whether a window closes or becomes final, or something else is due, by this event time.
    #[must_use]
    pub fn is_due(&self, time: i64) -> bool {
        self.deadlines.next().is_some_and(|due| due <= time)
    }

    /// All windows that end by this time are final; `None` before the first event.
    #[must_use]
    pub fn final_until(&self) -> Option<i64> {
        self.watermark.now().map(|now| now - self.config.lateness_ms)
    }

    /// How far event time has come.
    #[must_use]
    pub fn watermark(&self) -> &Watermark {
        &self.watermark
    }

    /// What the engine has done so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Entities that it remembers.
    #[must_use]
    pub fn entities(&self) -> usize {
        self.by_key.len()
    }

    /// Windows that have not closed. Cost: proportional to the panes and sessions.
    #[must_use]
    pub fn open_windows(&self) -> usize {
        self.slots.iter().flatten().map(|slot| slot.entity.open_windows(&self.config)).sum()
    }

    /// Makes a place for an entity that is new here, if need be by forgetting another.
    fn admit(&mut self, event: &Event<'_>, effects: &mut Effects) -> u32 {
        // More than one where the bound was lowered since the state was written.
        while self.by_key.len() >= self.config.entities_max
            && let Some(oldest) = self.recency.oldest()
        {
            self.forget(oldest, effects);
        }
        let mut entity = Entity::new(&self.config, event.offset, self.watermark.now());
        if let (Some(id), Some((_, memory))) = (event.id, &self.config.event_id) {
            entity.ids.note(*memory, self.watermark.now(), event.event_time, id);
        }
        let cohort = self.cohorts.admit(&self.config, event.entity);
        let slot = self.insert(event.entity.into(), entity, cohort, None);
        self.has_come(slot);
        slot
    }

    /// Puts an entity into the table as the most recent one.
    fn insert(&mut self, key: Arc<str>, entity: Entity, cohort: u16, recorded: Option<u8>) -> u32 {
        let slot = Some(Slot { key: key.clone(), entity, cohort, recorded });
        let at = match self.free.pop() {
            Some(at) => {
                self.slots[at as usize] = slot;
                at
            }
            None => {
                self.slots.push(slot);
                u32::try_from(self.slots.len() - 1).expect("entities_max is far below 2^32")
            }
        };
        self.rounds.make_place(at);
        self.by_key.insert(key, at);
        self.recency.insert(at);
        at
    }

    /// Makes room for this many entities at once.
    pub(crate) fn make_room(&mut self, entities: usize) {
        self.slots.reserve(entities);
        self.by_key.reserve(entities);
    }

    /// Puts an entity of a snapshot back, into no cohort yet; gives its place.
    pub(crate) fn reinstate(&mut self, key: Arc<str>, entity: Entity, recorded: u8) -> u32 {
        let due = entity.due(&self.config);
        let slot = self.insert(key, entity, 0, Some(recorded));
        self.deadlines.set(slot, due);
        slot
    }

    /// Has the entities in these places last seen in this order, all of them after those that are not named.
    pub(crate) fn put_in_order(&mut self, places: impl Iterator<Item = u32>) {
        places.for_each(|place| self.recency.touch(place));
    }

    /// Has each entity of a snapshot in its cohort; those that are new come to be in the order of the entities' keys.
    pub(crate) fn admit_to_cohorts(&mut self) {
        let mut slots: Vec<&mut Slot> = self.slots.iter_mut().flatten().collect();
        slots.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        for slot in slots {
            slot.cohort = self.cohorts.admit(&self.config, &slot.key);
        }
    }

    /// Closes an entity's windows, earliest first, ends its alerts, and forgets it.
    fn forget(&mut self, slot: u32, effects: &mut Effects) {
        self.about_to_forget(slot);
        let final_until = self.final_until().unwrap_or(i64::MIN);
        let Some(Slot { key, mut entity, cohort, .. }) = self.slots[slot as usize].take() else { return };
        let whose = Whose { config: &self.config, partition: self.partition, entity: &key };
        let (cohort, counts, history) = (self.cohorts.of(cohort), &mut self.counts, self.history);
        entity.finish(&mut Context { whose, effects, counts, cohort, history, final_until });
        self.deadlines.set(slot, None);
        self.by_key.remove(&key);
        self.recency.remove(slot);
        self.free.push(slot);
        self.counts.evicted += 1;
    }

    fn key_of(&self, slot: u32) -> Option<&str> {
        self.slots[slot as usize].as_ref().map(|slot| &*slot.key)
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod transcripts;
