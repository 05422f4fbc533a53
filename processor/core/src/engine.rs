//! The engine of one input partition: takes events in, closes windows as the watermark passes them, and says what follows.

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tidewatch_schemas::record::{Alert, Forecast, WindowMetric};

use crate::config::StreamConfig;
use crate::entity::{Closing, Entity};
use crate::recency::Recency;
use crate::summary::Summary;
use crate::watermark::Watermark;
use crate::window::{Deadlines, Pane};

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
}

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ingested {
    /// It is in at least one window that is still open.
    Scored,
    /// All its windows had closed.
    Late(LateEvent),
}

/// By how much an event missed its last window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LateEvent {
    /// Start of the last window that it belonged to, in ms since 1970.
    pub window_start: i64,
    /// End of that window.
    pub window_end: i64,
    /// How far event time was past the moment at which the window closed, in ms.
    pub late_by_ms: i64,
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
    /// Events whose windows had all closed.
    pub late: u64,
    /// Windows closed (an entity's, whatever its number of measures).
    pub windows: u64,
    /// Entities forgotten to make room.
    pub evicted: u64,
}

/// An entity in the engine's table.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    pub(crate) key: Arc<str>,
    pub(crate) entity: Entity,
    /// Changed since the last snapshot.
    pub(crate) dirty: bool,
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
    pub(crate) slots: Vec<Option<Slot>>,
    free: Vec<u32>,
    by_key: HashMap<Arc<str>, u32>,
    recency: Recency,
    deadlines: Deadlines,
    /// Entities forgotten since the last snapshot.
    pub(crate) forgotten: Vec<Arc<str>>,
}

impl Engine {
    /// An engine that has seen nothing.
    #[must_use]
    pub fn new(config: Arc<StreamConfig>, partition: i32) -> Self {
        let watermark = Watermark::new(config.disorder_ms);
        Self {
            config,
            partition,
            watermark,
            counts: Counts::default(),
            slots: Vec::new(),
            free: Vec::new(),
            by_key: HashMap::new(),
            recency: Recency::default(),
            deadlines: Deadlines::default(),
            forgotten: Vec::new(),
        }
    }

    /// Takes one event in and appends what follows from it to `effects`.
    ///
    /// Events must come in the order of their offsets. Cost: constant, but for the windows that it closes.
    pub fn ingest(&mut self, event: &Event<'_>, effects: &mut Effects) -> Ingested {
        debug_assert_eq!(event.values.len(), self.config.measures.len());
        let window = self.config.window;
        let pane_start = window.pane_of(event.event_time);
        if let Some(closed_until) = self.closed_until() {
            let window_end = window.last_end_of(pane_start);
            if window_end <= closed_until {
                self.counts.late += 1;
                let late_by_ms = closed_until - window_end;
                return Ingested::Late(LateEvent { window_start: window_end - window.size_ms, window_end, late_by_ms });
            }
        }
        self.add(event, pane_start, effects);
        self.counts.scored += 1;
        if self.watermark.observe(event.event_time) {
            self.close_due(effects);
        }
        Ingested::Scored
    }

    /// All windows that end by this time have closed; `None` before the first event.
    #[must_use]
    pub fn closed_until(&self) -> Option<i64> {
        self.watermark.now().map(|now| now - self.config.lateness_ms)
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

    /// Windows that have not closed.
    #[must_use]
    pub fn open_windows(&self) -> usize {
        self.deadlines.open_windows()
    }

    fn add(&mut self, event: &Event<'_>, pane_start: i64, effects: &mut Effects) {
        let slot = match self.by_key.get(event.entity) {
            Some(&slot) => slot,
            None => self.admit(event, pane_start, effects),
        };
        self.recency.touch(slot);
        let closed_until = self.closed_until();
        let config = &self.config;
        let Some(Slot { entity, dirty, .. }) = &mut self.slots[slot as usize] else { return };
        *dirty = true;
        entity.last_seen = event.offset;
        let (pane, new) = entity.panes.get_or_insert(pane_start, || Pane {
            start: pane_start,
            events: 0,
            first_offset: event.offset,
            last_offset: event.offset,
            summaries: config.measures.iter().map(|measure| Summary::new(measure.needs_quantiles())).collect(),
        });
        pane.events += 1;
        pane.last_offset = event.offset;
        for (summary, &value) in pane.summaries.iter_mut().zip(event.values) {
            if !value.is_nan() {
                summary.add(value);
            }
        }
        if new {
            for end in config.window.ends_of(pane_start).filter(|&end| closed_until.is_none_or(|closed| end > closed)) {
                self.deadlines.note(end, slot);
            }
        }
    }

    /// Makes a place for an entity that is new here, if need be by forgetting another.
    fn admit(&mut self, event: &Event<'_>, pane_start: i64, effects: &mut Effects) -> u32 {
        if self.by_key.len() >= self.config.entities_max
            && let Some(oldest) = self.recency.oldest()
        {
            self.forget(oldest, effects);
        }
        let step_index = pane_start.div_euclid(self.config.window.slide_ms);
        let entity = Entity::new(&self.config, step_index, event.offset);
        self.insert(event.entity.into(), entity)
    }

    /// Puts an entity into the table as the most recent one.
    fn insert(&mut self, key: Arc<str>, entity: Entity) -> u32 {
        let slot = Some(Slot { key: key.clone(), entity, dirty: false });
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
        self.by_key.insert(key, at);
        self.recency.insert(at);
        at
    }

    /// Puts an entity of a snapshot back. Entities must come in the order in which they were last seen.
    pub(crate) fn reinstate(&mut self, key: Arc<str>, entity: Entity) {
        let closed_until = self.closed_until();
        let ends: Vec<i64> = entity.panes.starts().flat_map(|start| self.config.window.ends_of(start)).collect();
        let slot = self.insert(key, entity);
        for end in ends.into_iter().filter(|&end| closed_until.is_none_or(|closed| end > closed)) {
            self.deadlines.note(end, slot);
        }
    }

    /// Closes an entity's windows, earliest first, and forgets it.
    fn forget(&mut self, slot: u32, effects: &mut Effects) {
        let Some(Slot { key, entity, .. }) = &self.slots[slot as usize] else { return };
        let key = key.clone();
        let mut ends: Vec<i64> = entity.panes.starts().flat_map(|start| self.config.window.ends_of(start)).collect();
        ends.sort_unstable();
        ends.dedup();
        for end in ends {
            if self.deadlines.strike(end, slot) {
                self.close(slot, end, effects);
            }
        }
        self.slots[slot as usize] = None;
        self.by_key.remove(&key);
        self.recency.remove(slot);
        self.free.push(slot);
        self.counts.evicted += 1;
        self.forgotten.push(key);
    }

    /// Closes the windows that the watermark has passed: by their end, then by the entity's key.
    fn close_due(&mut self, effects: &mut Effects) {
        let Some(until) = self.closed_until() else { return };
        while let Some((end, slots)) = self.deadlines.take_due(until) {
            let mut slots: Vec<u32> = slots.into_iter().collect();
            slots.sort_unstable_by(|&a, &b| self.key_of(a).cmp(&self.key_of(b)));
            for slot in slots {
                self.close(slot, end, effects);
            }
        }
    }

    fn key_of(&self, slot: u32) -> Option<&str> {
        self.slots[slot as usize].as_ref().map(|slot| &*slot.key)
    }

    fn close(&mut self, slot: u32, end: i64, effects: &mut Effects) {
        let Some(Slot { key, entity, dirty }) = &mut self.slots[slot as usize] else { return };
        *dirty = true;
        self.counts.windows += 1;
        let start = end - self.config.window.size_ms;
        entity.close(&Closing { config: &self.config, partition: self.partition, entity: key, start, end }, effects);
    }
}

#[cfg(test)]
mod tests;
