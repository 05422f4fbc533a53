//! What was told of windows, and telling it again where late events have changed it.

use serde::{Deserialize, Serialize};
use tidewatch_schemas::record::{Alert, Correction, WindowMetric};

use crate::cohort::Cohort;
use crate::engine::{Counts, Effects};
use crate::history::History;
use crate::judge::{AlertStep, Closed, Judge, Judged};
use crate::tell::{Telling, Whose, corrected, span};
use crate::window::Pane;

/// What was told of windows that are not final.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Ahead {
    /// `settled`, led along the windows told.
    pub(super) judge: Judge,
    /// By end.
    pub(super) told: Vec<Told>,
    /// Sessions that were told, and that a late event has prolonged into one that has not closed.
    reopened: Vec<Told>,
    /// Steps of alerts that were taken back, with the revision that did: one of them may come to be again.
    retracted: Vec<ToldAlert>,
    /// Late events have changed windows from this end on; they are worked in when the watermark gets to the second time.
    pub(super) stale: Option<(i64, i64)>,
}

/// A window as it was told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Told {
    pub(super) closed: Closed,
    pub(super) pane: Pane,
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

/// What surrounds an entity while it says what follows.
pub(crate) struct Context<'a> {
    pub(crate) whose: Whose<'a>,
    pub(crate) effects: &'a mut Effects,
    pub(crate) counts: &'a mut Counts,
    /// The entity's.
    pub(crate) cohort: &'a mut Cohort,
    /// What is learnt from without alerts.
    pub(crate) history: Option<History>,
    /// Windows that end by this time are final; those after it that close all the same, as the entity is forgotten, teach nobody.
    pub(crate) final_until: i64,
}

impl Ahead {
    pub(super) fn new(judge: Judge) -> Self {
        Self { judge, told: Vec::new(), reopened: Vec::new(), retracted: Vec::new(), stale: None }
    }

    /// Forgets the steps that cannot come to be again, by what is known of the series for good.
    pub(super) fn forget_retracted(&mut self, settled: &Judge) {
        self.retracted.retain(|alert| settled.may_tell_again(&alert.step));
    }

    /// How a step is told again that was told and taken back.
    pub(super) fn taken_back(&self, step: &AlertStep, whose: Whose<'_>) -> Option<Telling> {
        let known = self.retracted.iter().find(|alert| alert.step.is_telling_of(step))?;
        let supersedes = Some(whose.alert_name(&known.step, known.revision));
        Some(Telling { revision: known.revision + 1, correction: Correction::Changed, supersedes, is_forgotten: false })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.told.is_empty() && self.reopened.is_empty() && self.retracted.is_empty() && self.stale.is_none()
    }

    /// Tells a window that has closed, and takes note of it.
    pub(super) fn tell(&mut self, closed: Closed, pane: Pane, judged: Judged, context: &mut Context<'_>) {
        let before = Before { told: Vec::new(), reopened: std::mem::take(&mut self.reopened), alerts: Vec::new() };
        before.tell(closed, pane, judged, self, context);
    }
}

/// What was told before late events were worked in.
pub(super) struct Before {
    pub(super) told: Vec<Told>,
    reopened: Vec<Told>,
    alerts: Vec<ToldAlert>,
}

impl Before {
    /// Takes it out of `ahead`.
    pub(super) fn new(ahead: &mut Ahead) -> Self {
        let told = std::mem::take(&mut ahead.told);
        let alerts = told.iter().flat_map(|told| told.alerts.iter().cloned()).collect();
        Self { told, reopened: std::mem::take(&mut ahead.reopened), alerts }
    }

    /// Tells what is different now, retractions first.
    pub(super) fn correct(self, windows: Vec<(Closed, Pane, Judged)>, ahead: &mut Ahead, context: &mut Context<'_>) {
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
        // Sessions that became one were told, and counted, each.
        context.counts.windows += u64::from(same.is_none() && covered_before.is_empty());
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
        let key = |step: &Self| (step.series, step.breach.is_some(), step.open.opened_at, step.open.sequence);
        key(self) == key(other)
    }
}

impl Closed {
    fn is_window_of(&self, other: &Self) -> bool {
        (self.start, self.end) == (other.start, other.end)
    }
}

impl Context<'_> {
    /// Tells a window for the first and last time.
    pub(super) fn tell_first(&mut self, closed: &Closed, judged: &Judged) {
        let whose = self.whose;
        self.effects.metrics.extend((0..closed.measured.len()).filter_map(|at| whose.metric(at, closed, judged, 0)));
        for step in &judged.steps {
            self.tell_alert(whose.alert(step, closed, judged, Telling::default()));
        }
        let forecasts = judged.paths.iter().filter_map(|(series, path)| whose.forecast(*series, path, closed, 0));
        self.effects.forecasts.extend(forecasts);
    }

    /// Tells an alert's record, unless the alert is of the history.
    pub(super) fn tell_alert(&mut self, alert: Option<Alert>) {
        let Some(alert) = alert else { return };
        if self.history.is_some_and(|history| history.covers(alert.opened_at)) {
            self.counts.quiet += 1;
            return;
        }
        self.counts.revisions += u64::from(alert.revision > 0);
        self.effects.alerts.push(alert);
    }

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
            self.tell_alert(self.whose.alert(step, closed, judged, Telling::default()));
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
        let says =
            |step: &AlertStep| (step.change, step.open.severity, step.open.kind, step.breach.map(|of| of.came_true_ms));
        let correction = match of_this {
            Some(_) if says(&known.step) == says(step) => Correction::Confirmed,
            _ => Correction::Changed,
        };
        let revision = known.revision + 1;
        let supersedes = Some(self.whose.alert_name(&known.step, known.revision));
        let telling = Telling { revision, correction, supersedes, is_forgotten: false };
        self.tell_alert(self.whose.alert(step, closed, judged, telling));
        revision
    }

    /// Takes a step of an alert back.
    fn retract(&mut self, alert: &ToldAlert, told: &Told) {
        let telling = Telling {
            revision: alert.revision + 1,
            correction: Correction::Retracted,
            supersedes: Some(self.whose.alert_name(&alert.step, alert.revision)),
            is_forgotten: false,
        };
        self.tell_alert(self.whose.alert(&alert.step, &told.closed, &told.judged, telling));
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
            self.effects.forecasts.extend(self.whose.forecast(*series, path, closed, revision));
            revisions.push(revision);
        }
        revisions
    }
}
