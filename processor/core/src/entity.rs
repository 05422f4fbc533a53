//! One entity: what it keeps for its windows, what is known of it, and what was said of its windows that are not final yet.
//!
//! A window *closes* when the watermark passes its end, and is *final* when the watermark is `lateness` past it. With
//! `revisions = off` it is told once, when it is final. With `revisions = on` it is told when it closes, and told again when late
//! events change what follows for it. Both say the same in the end, by construction:
//!
//! ```text
//!   settled ──judge──▶ window ──judge──▶ window ──judge──▶ ahead        windows that have closed and are not final, as they were told
//!      │
//!      └─ has judged the final windows, once each, in the order of their ends, from what they held when they became final
//! ```
//!
//! `settled` goes the same way in both modes. A late event makes a copy of it judge the windows after it anew; what comes out
//! differently from what was told is told as a revision. Several late events are worked in together, when the watermark passes the
//! next step (slide, gap) or a window of the entity closes or becomes final.

use serde::{Deserialize, Serialize};
use tidewatch_schemas::record::{AlertState as Change, Correction, WindowMetric};

use crate::config::{Revisions, StreamConfig};
use crate::engine::{Counts, Effects};
use crate::ids::Ids;
use crate::judge::{AlertStep, Closed, Judge, Judged, anomalous};
use crate::tell::{Telling, Whose, corrected, span};
use crate::window::{Contents, Pane, Sample, Window};

/// One entity's state, without its key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Entity {
    /// Input offset of its last event.
    pub(crate) last_seen: i64,
    pub(crate) ids: Ids,
    contents: Contents,
    /// Windows that end by this time have closed or become final, whichever tells them.
    told_until: i64,
    settled: Judge,
    last_final: Option<Box<LastFinal>>,
    ahead: Option<Box<Ahead>>,
    dropout: Option<Dropout>,
}

/// The last window that became final, for what a late event would have changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct LastFinal {
    start: i64,
    end: i64,
    pane: Pane,
    anomalous: Vec<bool>,
}

/// What was told of windows that are not final.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Ahead {
    /// `settled`, led along the windows told.
    judge: Judge,
    /// By end.
    told: Vec<Told>,
    /// Sessions that were told, and that a late event has prolonged into one that has not closed.
    reopened: Vec<Told>,
    /// Steps of alerts that were taken back, with the revision that did: one of them may come to be again.
    retracted: Vec<ToldAlert>,
    /// Late events have changed windows from this end on; they are worked in when the watermark gets to the second time.
    stale: Option<(i64, i64)>,
}

/// A window as it was told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Told {
    closed: Closed,
    pane: Pane,
    judged: Judged,
    /// Of each measure's record.
    revisions: Vec<i32>,
    /// The steps of alerts, as far as they hold.
    alerts: Vec<ToldAlert>,
    /// Of each forecast's record, by series.
    paths: Vec<i32>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct ToldAlert {
    step: AlertStep,
    revision: i32,
}

/// An entity that sends nothing, and has been reported.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Dropout {
    opened_at: i64,
    missing: u32,
}

/// What surrounds an entity while it says what follows.
pub(crate) struct Context<'a> {
    pub(crate) whose: Whose<'a>,
    pub(crate) effects: &'a mut Effects,
    pub(crate) counts: &'a mut Counts,
}

impl Entity {
    /// An entity whose first event is at `event_time`, when the watermark is at `now`.
    pub(crate) fn new(config: &StreamConfig, event_time: i64, offset: i64, now: Option<i64>) -> Self {
        let told_until = match config.revisions {
            Revisions::On => now,
            Revisions::Off => now.map(|now| now - config.lateness_ms),
        };
        Self {
            last_seen: offset,
            ids: Ids::default(),
            contents: Contents::new(config.window),
            // No window ends before 1970.
            told_until: told_until.unwrap_or(0).max(0),
            settled: Judge::new(config, event_time.div_euclid(config.window.step_ms())),
            last_final: None,
            ahead: None,
            dropout: None,
        }
    }

    /// Takes an event in when the watermark is at `now`: whether the next deadline may have changed, `None` if it is late.
    pub(crate) fn add(
        &mut self,
        config: &StreamConfig,
        event_time: i64,
        sample: &Sample<'_>,
        now: Option<i64>,
    ) -> Option<bool> {
        let final_until = now.map(|now| now - config.lateness_ms);
        let touched = self.contents.add(config.window, event_time, sample, final_until)?;
        // All that had to be told by now was; a window that ends before comes to be by this event.
        let told_until = if config.revisions == Revisions::On { now } else { final_until };
        self.told_until = self.told_until.max(told_until.unwrap_or(0));
        let Some(now) = now.filter(|&now| config.revisions == Revisions::On && touched.first_end <= now) else {
            return Some(touched.is_new);
        };
        let step_ms = config.window.step_ms();
        let ahead = self.ahead.get_or_insert_with(|| Box::new(Ahead::new(self.settled.clone())));
        let (from, at) = ahead.stale.unwrap_or((i64::MAX, now - now.rem_euclid(step_ms) + step_ms));
        let from = from.min(touched.first_end);
        // At the latest when the first of them is final: an event after that is none of its any more.
        ahead.stale = Some((from, at.min(from + config.lateness_ms)));
        Some(true)
    }

    /// The watermark at which there is something to do next.
    pub(crate) fn due(&self, config: &StreamConfig) -> Option<i64> {
        let next_end = self.contents.next_end(config.window, self.told_until);
        let windows = match (config.revisions, &self.ahead) {
            (Revisions::Off, _) => next_end.map(|end| end + config.lateness_ms),
            (Revisions::On, None) => next_end,
            (Revisions::On, Some(ahead)) => {
                let first_final = ahead.told.first().map(|told| told.closed.end + config.lateness_ms);
                let stale = ahead.stale.map(|(_, at)| at);
                [next_end, first_final, stale].into_iter().flatten().min()
            }
        };
        [windows, self.dropout_due(config)].into_iter().flatten().min()
    }

    /// Does what is due when the watermark is at `now`.
    pub(crate) fn come_to(&mut self, now: i64, context: &mut Context<'_>) {
        let config = context.whose.config;
        let final_until = now - config.lateness_ms;
        match config.revisions {
            Revisions::Off => {
                self.close_all(final_until, context);
                self.told_until = self.told_until.max(final_until);
            }
            Revisions::On => {
                self.close_all(now, context);
                self.told_until = self.told_until.max(now);
                self.settle(final_until, context);
            }
        }
        self.contents.forget(config.window, final_until);
        self.report_dropout(final_until, context);
    }

    /// Closes what is open, in the order of the windows' ends: the entity is forgotten after that.
    pub(crate) fn finish(&mut self, context: &mut Context<'_>) {
        self.close_all(i64::MAX, context);
    }

    /// Windows that have not closed.
    pub(crate) fn open_windows(&self, config: &StreamConfig) -> usize {
        self.contents.open_windows(config.window, self.told_until)
    }

    /// Whether the last final window, which an event has missed, would have been anomalous with it and was not, or the other way
    /// round, by what is known now; `None` if the event missed an earlier one.
    pub(crate) fn late_event_would_change(
        &self,
        config: &StreamConfig,
        event_time: i64,
        sample: &Sample<'_>,
    ) -> Option<bool> {
        let LastFinal { start, end, pane, anomalous } = &**self.last_final.as_ref()?;
        if !(*start..*end).contains(&event_time) {
            return None;
        }
        let mut pane = pane.clone();
        pane.add(sample);
        let closed = Closed::new(config, *start, *end, &pane);
        Some(self.settled.would_be_anomalous(config, &closed) != *anomalous)
    }

    fn close_all(&mut self, until: i64, context: &mut Context<'_>) {
        let config = context.whose.config;
        self.work_in(context);
        while let Some(end) = self.contents.next_end(config.window, self.told_until).filter(|&end| end <= until) {
            self.told_until = end;
            let Some((start, pane)) = self.contents.window(config.window, end) else { continue };
            context.counts.windows += 1;
            let closed = Closed::new(config, start, end, &pane);
            match config.revisions {
                Revisions::Off => {
                    let judged = self.settle_one(&closed, pane, context);
                    tell_first(&context.whose, &closed, &judged, context.effects);
                }
                Revisions::On => {
                    let mut ahead = self.ahead.take().unwrap_or_else(|| Box::new(Ahead::new(self.settled.clone())));
                    let judged = ahead.judge.judge(config, &closed);
                    ahead.tell(closed, pane, judged, context);
                    self.ahead = Some(ahead);
                }
            }
        }
    }

    /// Lets `settled` judge a window that is final.
    fn settle_one(&mut self, closed: &Closed, pane: Pane, context: &mut Context<'_>) -> Judged {
        let config = context.whose.config;
        if let Some(Dropout { opened_at, .. }) = self.dropout.take() {
            let missing = (closed.start - opened_at) / config.window.step_ms();
            let missing = u32::try_from(missing.max(0)).unwrap_or(u32::MAX);
            let back = context.whose.dropout(Change::Resolved, opened_at, missing, closed.first_offset);
            context.effects.alerts.push(back);
        }
        let judged = self.settled.judge(config, closed);
        let anomalous = anomalous(&judged.verdicts);
        self.last_final = Some(Box::new(LastFinal { start: closed.start, end: closed.end, pane, anomalous }));
        judged
    }

    /// Makes the windows final that end by `final_until`.
    fn settle(&mut self, final_until: i64, context: &mut Context<'_>) {
        let Some(mut ahead) = self.ahead.take() else { return };
        let count = ahead.told.partition_point(|told| told.closed.end <= final_until);
        for told in ahead.told.drain(..count) {
            self.settle_one(&told.closed, told.pane, context);
        }
        ahead.retracted.retain(|alert| self.settled.may_tell_again(alert.step.series, alert.step.open.opened_at));
        if !ahead.is_empty() {
            self.ahead = Some(ahead);
        }
    }

    /// Judges the windows anew that late events have changed, and tells what comes out differently.
    fn work_in(&mut self, context: &mut Context<'_>) {
        let Some(mut ahead) = self.ahead.take_if(|ahead| ahead.stale.is_some()) else { return };
        let config = context.whose.config;
        let Some((from, _)) = ahead.stale.take() else { return };
        let before = Before::new(&mut ahead);
        ahead.judge = self.settled.clone();
        let unchanged = before.told.iter().take_while(|told| told.closed.end < from);
        let mut windows: Vec<(Closed, Pane)> = unchanged.map(|told| (told.closed.clone(), told.pane.clone())).collect();
        let mut after = from - 1;
        while let Some(end) = self.contents.next_end(config.window, after).filter(|&end| end <= self.told_until) {
            after = end;
            let made = self.contents.window(config.window, end);
            windows.extend(made.map(|(start, pane)| (Closed::new(config, start, end, &pane), pane)));
        }
        let judge = &mut ahead.judge;
        let windows = windows.into_iter().map(|(closed, pane)| {
            let judged = judge.judge(config, &closed);
            (closed, pane, judged)
        });
        let windows = windows.collect();
        before.correct(windows, &mut ahead, context);
        self.ahead = Some(ahead);
    }

    fn dropout_due(&self, config: &StreamConfig) -> Option<i64> {
        let (Window::Fixed { size_ms, slide_ms }, Some(after), None) =
            (config.window, config.dropout_after, self.dropout)
        else {
            return None;
        };
        let (start, _) = self.settled.last()?;
        Some(start + size_ms + i64::from(after) * slide_ms + config.lateness_ms)
    }

    fn report_dropout(&mut self, final_until: i64, context: &mut Context<'_>) {
        let config = context.whose.config;
        let is_due = self.dropout_due(config).is_some_and(|due| due - config.lateness_ms <= final_until);
        if let (true, Some((start, _)), Some(missing)) = (is_due, self.settled.last(), config.dropout_after) {
            let opened_at = start + config.window.step_ms();
            self.dropout = Some(Dropout { opened_at, missing });
            let silent = context.whose.dropout(Change::Opened, opened_at, missing, self.last_seen);
            context.effects.alerts.push(silent);
        }
    }
}

/// Tells a window for the first and last time.
fn tell_first(whose: &Whose<'_>, closed: &Closed, judged: &Judged, effects: &mut Effects) {
    effects.metrics.extend((0..closed.measured.len()).filter_map(|at| whose.metric(at, closed, judged, 0)));
    let alerts = judged.steps.iter().filter_map(|step| whose.alert(step, closed, judged, Telling::default()));
    effects.alerts.extend(alerts);
    let forecasts = judged.paths.iter().filter_map(|(series, path)| whose.forecast(*series, path, closed.end, 0));
    effects.forecasts.extend(forecasts);
}

impl Ahead {
    fn new(judge: Judge) -> Self {
        Self { judge, told: Vec::new(), reopened: Vec::new(), retracted: Vec::new(), stale: None }
    }

    fn is_empty(&self) -> bool {
        self.told.is_empty() && self.reopened.is_empty() && self.retracted.is_empty() && self.stale.is_none()
    }

    /// Tells a window that has closed, and takes note of it.
    fn tell(&mut self, closed: Closed, pane: Pane, judged: Judged, context: &mut Context<'_>) {
        let before = Before { told: Vec::new(), reopened: std::mem::take(&mut self.reopened), alerts: Vec::new() };
        before.tell(closed, pane, judged, self, context);
    }
}

/// What was told before late events were worked in.
struct Before {
    told: Vec<Told>,
    reopened: Vec<Told>,
    alerts: Vec<ToldAlert>,
}

impl Before {
    /// Takes it out of `ahead`.
    fn new(ahead: &mut Ahead) -> Self {
        let told = std::mem::take(&mut ahead.told);
        let alerts = told.iter().flat_map(|told| told.alerts.iter().cloned()).collect();
        Self { told, reopened: std::mem::take(&mut ahead.reopened), alerts }
    }

    /// Tells what is different now, retractions first.
    fn correct(self, windows: Vec<(Closed, Pane, Judged)>, ahead: &mut Ahead, context: &mut Context<'_>) {
        let still_told: Vec<&AlertStep> = windows.iter().flat_map(|(_, _, judged)| &judged.steps).collect();
        for told in self.told.iter().chain(&self.reopened) {
            for alert in &told.alerts {
                if still_told.iter().any(|step| step.is_telling_of(&alert.step)) {
                    continue;
                }
                context.retract(alert, told);
                ahead.retracted.push(ToldAlert { revision: alert.revision + 1, ..alert.clone() });
            }
        }
        drop(still_told);
        let mut before = self;
        for (closed, pane, judged) in windows {
            before = before.tell(closed, pane, judged, ahead, context);
        }
        // What no window covers any more is a session that goes on, and closes later.
        for mut told in before.told.into_iter().chain(before.reopened) {
            told.alerts.clear();
            ahead.reopened.push(told);
        }
    }

    /// Tells one window, as a correction of what was told of it; gives back what was told of others.
    fn tell(
        mut self,
        closed: Closed,
        pane: Pane,
        judged: Judged,
        ahead: &mut Ahead,
        context: &mut Context<'_>,
    ) -> Self {
        let same = self.told.iter().position(|told| told.closed.is_window_of(&closed));
        let same = same.map(|at| self.told.remove(at));
        let covered = |told: &mut Told| closed.start <= told.closed.start && told.closed.end <= closed.end;
        let mut covered_before: Vec<Told> = self.told.extract_if(.., covered).collect();
        covered_before.extend(self.reopened.extract_if(.., covered));
        covered_before.sort_by_key(|told| told.closed.end);
        let revisions = context.metrics(&closed, &judged, same.as_ref(), &covered_before);
        let alerts = judged.steps.iter().map(|step| {
            let known = self.alerts.iter().find(|alert| alert.step.is_telling_of(step));
            let retracted = ahead.retracted.iter().position(|alert| alert.step.is_telling_of(step));
            let retracted = retracted.map(|at| ahead.retracted.remove(at));
            let revision = context.alert(step, &closed, &judged, known.or(retracted.as_ref()), same.as_ref());
            ToldAlert { step: step.clone(), revision }
        });
        let alerts = alerts.collect();
        let paths = context.forecasts(&closed, &judged, same.as_ref());
        ahead.told.push(Told { closed, pane, judged, revisions, alerts, paths });
        self
    }
}

impl AlertStep {
    /// Whether both are the same step of the same alert.
    fn is_telling_of(&self, other: &Self) -> bool {
        let key = |step: &Self| (step.series, step.open.opened_at, step.open.sequence);
        key(self) == key(other)
    }
}

impl Closed {
    fn is_window_of(&self, other: &Self) -> bool {
        (self.start, self.end) == (other.start, other.end)
    }
}

impl Context<'_> {
    /// Tells the records of a window's measures as far as they are new or different; gives their revisions.
    fn metrics(&mut self, closed: &Closed, judged: &Judged, same: Option<&Told>, covered: &[Told]) -> Vec<i32> {
        let mut revisions = Vec::with_capacity(closed.measured.len());
        for at in 0..closed.measured.len() {
            let known = same.map(|told| told.revisions[at]);
            let old = same.and_then(|told| self.whose.metric(at, &told.closed, &told.judged, told.revisions[at]));
            let after = covered.iter().map(|told| told.revisions[at] + 1).max();
            let new = self.whose.metric(at, closed, judged, after.unwrap_or(0));
            let record = match (old, new) {
                (Some(old), Some(new)) => corrected(&old, new),
                (_, new) => new.map(|new| WindowMetric {
                    supersedes: covered.iter().map(|told| span(&told.closed)).collect(),
                    ..new
                }),
            };
            let revision = record.as_ref().map(|record| record.revision);
            self.counts.revisions += u64::from(revision.is_some_and(|revision| revision > 0));
            revisions.push(revision.or(known).unwrap_or(0));
            self.effects.metrics.extend(record);
        }
        revisions
    }

    /// Tells a step of an alert, if it is new or different from how it was told; gives its revision.
    fn alert(
        &mut self,
        step: &AlertStep,
        closed: &Closed,
        judged: &Judged,
        known: Option<&ToldAlert>,
        same: Option<&Told>,
    ) -> i32 {
        let Some(known) = known else {
            self.effects.alerts.extend(self.whose.alert(step, closed, judged, Telling::default()));
            return 0;
        };
        // Told of the same window before, and not of another one.
        let of_this = same.filter(|told| told.alerts.contains(known));
        let series = usize::from(step.series);
        if of_this.is_some_and(|told| {
            known.step == *step
                && told.judged.verdicts[series] == judged.verdicts[series]
                && told.closed.last_offset == closed.last_offset
        }) {
            return known.revision;
        }
        let says = |step: &AlertStep| (step.change, step.open.severity, step.open.kind);
        let correction = match of_this {
            Some(_) if says(&known.step) == says(step) => Correction::Confirmed,
            _ => Correction::Changed,
        };
        let revision = known.revision + 1;
        let supersedes = Some(self.whose.alert_name(&known.step, known.revision));
        let telling = Telling { revision, correction, supersedes };
        self.counts.revisions += 1;
        self.effects.alerts.extend(self.whose.alert(step, closed, judged, telling));
        revision
    }

    /// Takes a step of an alert back.
    fn retract(&mut self, alert: &ToldAlert, told: &Told) {
        let telling = Telling {
            revision: alert.revision + 1,
            correction: Correction::Retracted,
            supersedes: Some(self.whose.alert_name(&alert.step, alert.revision)),
        };
        self.counts.revisions += 1;
        self.effects.alerts.extend(self.whose.alert(&alert.step, &told.closed, &told.judged, telling));
    }

    /// Tells the forecasts issued with a window, as far as they are new or different; gives their revisions.
    fn forecasts(&mut self, closed: &Closed, judged: &Judged, same: Option<&Told>) -> Vec<i32> {
        let mut revisions = Vec::with_capacity(judged.paths.len());
        for (series, path) in &judged.paths {
            let known = same.and_then(|told| {
                let at = told.judged.paths.iter().position(|(other, _)| other == series)?;
                Some((&told.judged.paths[at].1, told.paths[at]))
            });
            let revision = match known {
                Some((old, revision)) if old == path => {
                    revisions.push(revision);
                    continue;
                }
                Some((_, revision)) => revision + 1,
                None => 0,
            };
            self.counts.revisions += u64::from(revision > 0);
            self.effects.forecasts.extend(self.whose.forecast(*series, path, closed.end, revision));
            revisions.push(revision);
        }
        revisions
    }
}
