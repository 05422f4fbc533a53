//! What was read of faults, alerts and windows, kept by entity, and the comparison entity by entity.

use std::collections::{BTreeMap, BTreeSet};

use tidewatch_schemas::record::{
    Alert, AlertKind, AlertState, AnomalyKind, Breach, Correction, Dimension, Severity, Truth,
};

use crate::tally::Score;

/// The values of the dimension of predictions: all of them, and those while a drift or a change of trend of the entity was under way.
const ALL: &str = "all";
const TREND: &str = "trend";

/// What was read, in any order; a record that comes again changes nothing.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    streams: BTreeMap<String, Stream>,
    records: usize,
}

/// A window that was closed, of an entity of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window<'a> {
    /// Stream's name.
    pub stream: &'a str,
    /// Entity's key.
    pub entity: &'a str,
    /// Input partition.
    pub partition: i32,
    /// First instant, inclusive.
    pub start: i64,
    /// End, exclusive.
    pub end: i64,
}

#[derive(Clone, Debug, Default)]
struct Stream {
    entities: BTreeMap<String, Entity>,
    /// The end of the last window of each input partition: how far event time has come there.
    ends: BTreeMap<i32, i64>,
}

#[derive(Clone, Debug, Default)]
struct Entity {
    /// By id and seed.
    faults: BTreeMap<(String, i64), Fault>,
    /// By id, in the order of their sequences.
    alerts: BTreeMap<String, Vec<Step>>,
    watched: Option<Watched>,
    /// Region and tenant, as far as the truth tells them.
    place: Vec<(Dimension, String)>,
}

#[derive(Clone, Copy, Debug)]
struct Fault {
    kind: AnomalyKind,
    onset: i64,
    end: i64,
}

/// The time from the first window of an entity to its last.
#[derive(Clone, Copy, Debug)]
struct Watched {
    partition: i32,
    start: i64,
    end: i64,
}

/// An alert record, as far as it counts.
#[derive(Clone, Debug)]
struct Step {
    sequence: i32,
    revision: i32,
    is_retracted: bool,
    state: AlertState,
    severity: Severity,
    kind: AlertKind,
    opened_at: i64,
    window_start: i64,
    window_end: i64,
    /// The detector with the greatest score.
    detector: Option<Box<str>>,
    /// Of a predicted breach: how long before it came true it was told, in ms, if it has.
    lead_ms: Option<i64>,
}

impl Evidence {
    /// Takes a fault in.
    pub fn add_fault(&mut self, truth: &Truth) {
        let Truth { fault_id, kind, onset, end, seed, labels, .. } = truth;
        let (entity, is_new) = self.entity(&truth.stream, &truth.entity);
        entity.place = [Dimension::Region, Dimension::Tenant]
            .into_iter()
            .filter_map(|dimension| Some((dimension, labels.get(dimension.as_str())?.clone())))
            .collect();
        let fault = Fault { kind: *kind, onset: *onset, end: *end };
        let is_more = entity.faults.insert((fault_id.clone(), *seed), fault).is_none();
        self.records += usize::from(is_new) + usize::from(is_more);
    }

    /// Takes a record of an alert in.
    pub fn add_alert(&mut self, alert: &Alert) {
        let (entity, is_new) = self.entity(&alert.stream, &alert.entity);
        let steps = entity.alerts.entry(alert.alert_id.clone()).or_default();
        let found = steps.binary_search_by_key(&alert.sequence, |step| step.sequence);
        match found {
            Ok(at) if steps[at].revision < alert.revision => steps[at] = Step::of(alert),
            Ok(_) => {}
            Err(at) => steps.insert(at, Step::of(alert)),
        }
        self.records += usize::from(is_new) + usize::from(found.is_err());
    }

    /// Takes a window in.
    pub fn add_window(&mut self, window: Window<'_>) {
        let Window { stream, entity, partition, start, end } = window;
        let (entity, is_new) = self.entity(stream, entity);
        let watched = entity.watched.get_or_insert(Watched { partition, start, end });
        *watched = Watched { partition, start: watched.start.min(start), end: watched.end.max(end) };
        self.records += usize::from(is_new);
        if let Some(stream) = self.streams.get_mut(stream) {
            let reached = stream.ends.entry(partition).or_insert(end);
            *reached = end.max(*reached);
        }
    }

    /// Whether anything is known of this entity of a stream.
    #[must_use]
    pub fn knows(&self, stream: &str, entity: &str) -> bool {
        self.streams.get(stream).is_some_and(|stream| stream.entities.contains_key(entity))
    }

    /// How much is kept: entities, faults and records of alerts.
    #[must_use]
    pub const fn records(&self) -> usize {
        self.records
    }

    /// The comparison as of the event time that the windows have come to.
    #[must_use]
    pub fn score(&self, delay_max_ms: i64) -> Score {
        self.judge(delay_max_ms, Stream::reached)
    }

    /// The comparison when all is over: nothing is pending.
    pub(crate) fn score_all(&self, delay_max_ms: i64) -> Score {
        self.judge(delay_max_ms, |_, _| i64::MAX)
    }

    fn judge(&self, delay_max_ms: i64, reached: impl Fn(&Stream, &Entity) -> i64) -> Score {
        let event_time = self.streams.values().flat_map(|stream| stream.ends.values()).max().copied();
        let mut score = Score { event_time, ..Score::default() };
        for stream in self.streams.values() {
            for entity in stream.entities.values() {
                entity.judge(reached(stream, entity), delay_max_ms, &mut score);
            }
        }
        score.sort_delays();
        score
    }

    /// An entity, and whether it was not known before.
    fn entity(&mut self, stream: &str, entity: &str) -> (&mut Entity, bool) {
        let is_new = !self.knows(stream, entity);
        if is_new {
            let stream = self.streams.entry(stream.to_owned()).or_default();
            stream.entities.insert(entity.to_owned(), Entity::default());
        }
        let found = self.streams.get_mut(stream).and_then(|stream| stream.entities.get_mut(entity));
        (found.expect("it was made above"), is_new)
    }
}

impl Stream {
    /// How far event time has come for an entity: in its partition, or in any where that is not known.
    fn reached(&self, entity: &Entity) -> i64 {
        let of_partition = entity.watched.and_then(|watched| self.ends.get(&watched.partition));
        of_partition.or(self.ends.values().max()).copied().unwrap_or(i64::MIN)
    }
}

impl Entity {
    fn judge(&self, reached: i64, delay_max_ms: i64, score: &mut Score) {
        let lives = self.alerts.iter().filter_map(|(id, steps)| Some((id.as_str(), Life::of(steps)?)));
        let (predictions, lives): (BTreeMap<&str, Life<'_>>, BTreeMap<_, _>) =
            lives.partition(|(_, life)| life.last().kind == AlertKind::PredictedBreach);
        predictions.values().for_each(|life| self.judge_prediction(life, score));
        score.open += lives.values().filter(|life| life.is_open()).count() as u64;
        let mut faults: Vec<(&str, Fault)> = self.faults.iter().map(|((id, _), fault)| (id.as_str(), *fault)).collect();
        faults.sort_by_key(|(id, fault)| (fault.onset, *id));
        let mut finders: BTreeSet<&str> = BTreeSet::new();
        for (fault_id, fault) in &faults {
            let free = lives.iter().filter(|(id, _)| !finders.contains(*id));
            let first = free.filter_map(|(id, life)| Some((life.says(*fault, delay_max_ms)?, *id))).min();
            let mut keys = self.place.clone();
            keys.push((Dimension::Kind, fault.kind.as_str().to_owned()));
            let Some((at, id)) = first else {
                if reached < fault.reach(delay_max_ms) {
                    score.count(&keys, |tally| tally.pending += 1);
                } else {
                    score.count(&keys, |tally| tally.faults += 1);
                    score.missed.push((*fault_id).to_owned());
                }
                continue;
            };
            finders.insert(id);
            let (life, delay_ms) = (&lives[id], at - fault.onset);
            let is_named = life.last().kind == fault.kind.into();
            score.count(&keys, |tally| {
                tally.faults += 1;
                tally.found += 1;
                tally.named += u64::from(is_named);
                tally.delays_ms.push(delay_ms);
            });
            score.count_apart(&life.own_keys(), |tally| {
                tally.found += 1;
                tally.delays_ms.push(delay_ms);
            });
        }
        for (id, life) in lives.iter().filter(|(id, _)| !finders.contains(*id)) {
            let mut keys = life.own_keys();
            keys.push((Dimension::Kind, life.last().kind.as_str().to_owned()));
            keys.extend(self.place.iter().cloned());
            if faults.iter().any(|(_, fault)| life.overlaps(*fault, delay_max_ms)) {
                score.count(&keys, |tally| tally.repeated += 1);
            } else {
                score.count(&keys, |tally| tally.false_alerts += 1);
                score.false_alerts.push((*id).to_owned());
            }
        }
        if let Some(watched) = self.watched {
            let without_fault_ms = watched.without(&faults, delay_max_ms);
            score.count(&self.place, |tally| {
                tally.entities += 1;
                tally.watched_ms += without_fault_ms;
            });
        }
    }

    /// Whether a predicted breach came true, how long before it was told, and whether it was of a trend.
    fn judge_prediction(&self, life: &Life<'_>, score: &mut Score) {
        let is_trend = |fault: &&Fault| matches!(fault.kind, AnomalyKind::Drift | AnomalyKind::TrendChange);
        let is_of_trend = self.faults.values().filter(is_trend).any(|fault| life.overlaps(*fault, 0));
        let values = [ALL].into_iter().chain(is_of_trend.then_some(TREND));
        let keys: Vec<_> = values.map(|value| (Dimension::Prediction, value.to_owned())).collect();
        score.count_apart(&keys, |tally| match life.last().lead_ms {
            Some(lead_ms) => {
                tally.found += 1;
                tally.delays_ms.push(-lead_ms);
            }
            None if life.is_open() => tally.pending += 1,
            None => tally.false_alerts += 1,
        });
    }
}

impl Watched {
    /// How much of it is in none of these faults, which are in the order of their onsets, nor within `d` of an onset, in ms.
    fn without(self, faults: &[(&str, Fault)], delay_max_ms: i64) -> u64 {
        let (mut from, mut free_ms) = (self.start, 0);
        for (_, fault) in faults {
            free_ms += (fault.onset.min(self.end) - from).max(0);
            from = from.max(fault.reach(delay_max_ms));
        }
        free_ms += (self.end - from).max(0);
        free_ms.unsigned_abs()
    }
}

impl Fault {
    /// Until when it can be found.
    fn reach(&self, delay_max_ms: i64) -> i64 {
        self.end.max(self.onset.saturating_add(delay_max_ms))
    }
}

impl Step {
    fn of(alert: &Alert) -> Self {
        let leading = alert.detectors.iter().max_by(|a, b| a.score.total_cmp(&b.score));
        Self {
            sequence: alert.sequence,
            revision: alert.revision,
            is_retracted: alert.correction == Correction::Retracted,
            state: alert.state,
            severity: alert.severity,
            kind: alert.kind,
            opened_at: alert.opened_at,
            window_start: alert.window_start,
            window_end: alert.window_end,
            detector: leading.map(|leading| leading.detector.as_str().into()),
            lead_ms: alert
                .breach
                .as_ref()
                .and_then(|&Breach { came_true_at, lead_ms, .. }| came_true_at.and(Some(lead_ms))),
        }
    }
}

/// One alert over its life: what was said and not retracted, the first record first.
struct Life<'a> {
    steps: Vec<&'a Step>,
}

impl<'a> Life<'a> {
    fn of(steps: &'a [Step]) -> Option<Self> {
        let steps: Vec<&Step> = steps.iter().filter(|step| !step.is_retracted).collect();
        (!steps.is_empty()).then_some(Self { steps })
    }

    fn last(&self) -> &'a Step {
        self.steps[self.steps.len() - 1]
    }

    fn is_open(&self) -> bool {
        self.last().state != AlertState::Resolved
    }

    /// When it said something of a fault at first: the end of that window.
    fn says(&self, fault: Fault, delay_max_ms: i64) -> Option<i64> {
        let last = fault.reach(delay_max_ms);
        let says = self.steps.iter().filter(|step| step.state != AlertState::Resolved);
        says.map(|step| (step.window_start, step.window_end))
            .filter(|(start, end)| *end > fault.onset && *start < last)
            .map(|(_, end)| end)
            .min()
    }

    fn overlaps(&self, fault: Fault, delay_max_ms: i64) -> bool {
        let end = if self.is_open() { i64::MAX } else { self.last().window_end };
        self.steps[0].opened_at < fault.reach(delay_max_ms) && end > fault.onset
    }

    /// What only an alert has: the highest severity, and the detector that led as it opened.
    fn own_keys(&self) -> Vec<(Dimension, String)> {
        let severity = self.steps.iter().map(|step| step.severity).max();
        let severity = severity.map(|severity| (Dimension::Severity, severity.as_str().to_owned()));
        let detector = self.steps[0].detector.as_deref().map(|detector| (Dimension::Detector, detector.to_owned()));
        severity.into_iter().chain(detector).collect()
    }
}
