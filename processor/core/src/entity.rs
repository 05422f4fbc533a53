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

use crate::cohort::Cohort;
use crate::config::{Revisions, StreamConfig};
use crate::ids::Ids;
use crate::judge::{Closed, Judge, Judged};
use crate::tell::{Silence, Telling, Whose};
use crate::window::{Contents, Pane, Sample, Window};
use serde::{Deserialize, Serialize};

mod told;

pub(crate) use told::Context;
use told::{Ahead, Before};

/// Windows under maintenance that are looked past, at most.
const MAINTAINED_MAX: u32 = 10_000;

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
}

/// What an event that was taken in leads to.
pub(crate) struct Added {
    /// The next deadline may have changed.
    pub(crate) may_be_due: bool,
    /// Windows of the event that were final before it came.
    pub(crate) missed: u64,
}

/// An entity that sends nothing, and has been reported.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Dropout {
    opened_at: i64,
    missing: u32,
}

impl Entity {
    /// An entity without an event, when the watermark is at `now`.
    pub(crate) fn new(config: &StreamConfig, offset: i64, now: Option<i64>) -> Self {
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
            settled: Judge::new(config),
            last_final: None,
            ahead: None,
            dropout: None,
        }
    }

    /// Takes on the detectors that the declaration names now; see [`crate::cohort::Cohorts::fit`].
    pub(crate) fn fit(&mut self, config: &StreamConfig, has_other_series: bool) {
        self.settled.fit(config, has_other_series);
        if let Some(ahead) = &mut self.ahead {
            ahead.judge.fit(config, has_other_series);
        }
    }

    /// Takes an event in when the watermark is at `now`; `None` if it is late.
    pub(crate) fn add(
        &mut self,
        config: &StreamConfig,
        event_time: i64,
        sample: &Sample<'_>,
        now: Option<i64>,
    ) -> Option<Added> {
        let final_until = now.map(|now| now - config.lateness_ms);
        let touched = self.contents.add(config.window, event_time, sample, final_until)?;
        // All that had to be told by now was; a window that ends before comes to be by this event.
        let told_until = if config.revisions == Revisions::On { now } else { final_until };
        self.told_until = self.told_until.max(told_until.unwrap_or(0));
        let Some(now) = now.filter(|&now| config.revisions == Revisions::On && touched.first_end <= now) else {
            return Some(Added { may_be_due: touched.is_new, missed: touched.missed });
        };
        let step_ms = config.window.step_ms();
        let ahead = self.ahead.get_or_insert_with(|| Box::new(Ahead::new(self.settled.clone())));
        let (from, at) = ahead.stale.unwrap_or((i64::MAX, now - now.rem_euclid(step_ms) + step_ms));
        let from = from.min(touched.first_end);
        // At the latest when the first of them is final: an event after that is none of its any more.
        ahead.stale = Some((from, at.min(from + config.lateness_ms)));
        Some(Added { may_be_due: true, missed: touched.missed })
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
        [windows, self.silent_due(config), self.dropout_due(config)].into_iter().flatten().min()
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
        if self.silent_due(config).is_some_and(|due| due <= now) {
            self.end_alerts(true, context);
        }
        self.report_dropout(final_until, context);
    }

    /// Closes what is open, in the order of the windows' ends, and ends its alerts: the entity is forgotten after that.
    pub(crate) fn finish(&mut self, context: &mut Context<'_>) {
        self.close_all(i64::MAX, context);
        self.end_alerts(false, context);
        if let Some(Dropout { opened_at, missing }) = self.dropout.take() {
            let ended = context.whose.dropout(Silence::Forgotten, opened_at, missing, self.last_seen);
            context.tell_alert(Some(ended));
        }
    }

    /// When alerts that are open end, as there is no window any more; the first one that comes all the same ends them otherwise.
    fn silent_due(&self, config: &StreamConfig) -> Option<i64> {
        let due = self.settled.silent_from(config)? + config.lateness_ms;
        let (_, last_end) = self.settled.last()?;
        let next_end = self.contents.next_end(config.window, last_end);
        next_end.is_none_or(|end| end > due).then_some(due)
    }

    /// Ends the alerts that are open, as the entity is silent or, if not, is forgotten.
    fn end_alerts(&mut self, is_silent: bool, context: &mut Context<'_>) {
        let Whose { config, .. } = context.whose;
        let told = self.ahead.as_ref().and_then(|ahead| Some(ahead.told.last()?.closed.clone()));
        let last_final = self.last_final.as_ref().map(|last| Closed::new(config, last.start, last.end, &last.pane));
        let Some(closed) = told.or(last_final) else { return };
        let version = context.cohort.version_now(config, closed.end);
        let judge = self.ahead.as_mut().map_or(&mut self.settled, |ahead| &mut ahead.judge);
        let judged = judge.end_alerts(config, &closed, version, is_silent);
        if self.ahead.is_some() {
            self.settled.end_alerts(config, &closed, version, is_silent);
        }
        for step in &judged.steps {
            let taken_back = self.ahead.as_ref().and_then(|ahead| ahead.taken_back(step, context.whose));
            let telling = Telling { is_forgotten: !is_silent, ..taken_back.unwrap_or_default() };
            context.tell_alert(context.whose.alert(step, &closed, &judged, telling));
        }
    }

    /// Windows that have not closed.
    pub(crate) fn open_windows(&self, config: &StreamConfig) -> usize {
        self.contents.open_windows(config.window, self.told_until)
    }

    /// Whether the last final window, which an event has missed, is anomalous with it and not without it, or the other way round, by
    /// what is known now; `None` if the event missed an earlier one.
    pub(crate) fn late_event_would_change(
        &self,
        config: &StreamConfig,
        event_time: i64,
        sample: &Sample<'_>,
        cohort: &Cohort,
    ) -> Option<bool> {
        let LastFinal { start, end, pane } = &**self.last_final.as_ref()?;
        if !(*start..*end).contains(&event_time) {
            return None;
        }
        let version = cohort.version_now(config, *end);
        let is_anomalous =
            |pane: &Pane| self.settled.would_be_anomalous(config, &Closed::new(config, *start, *end, pane), version);
        let mut with = pane.clone();
        with.add(sample);
        Some(is_anomalous(&with) != is_anomalous(pane))
    }

    fn close_all(&mut self, until: i64, context: &mut Context<'_>) {
        let config = context.whose.config;
        self.work_in(context);
        while let Some(end) = self.contents.next_end(config.window, self.told_until).filter(|&end| end <= until) {
            self.told_until = end;
            let Some((start, pane)) = self.contents.window(config.window, end) else { continue };
            let closed = Closed::new(config, start, end, &pane);
            match config.revisions {
                Revisions::Off => {
                    context.counts.windows += 1;
                    let judged = self.settle_one(&closed, pane, context);
                    context.tell_first(&closed, &judged);
                }
                Revisions::On => {
                    let mut ahead = self.ahead.take().unwrap_or_else(|| Box::new(Ahead::new(self.settled.clone())));
                    let (judged, _) = ahead.judge.judge(config, &closed, context.cohort.version(config, end));
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
            let back = context.whose.dropout(Silence::Over, opened_at, missing, closed.first_offset);
            context.tell_alert(Some(back));
        }
        let (judged, row) = self.settled.judge(config, closed, context.cohort.version(config, closed.end));
        if context.final_until >= closed.end {
            context.cohort.learn(config, closed.end, row, self.settled.examples(&judged));
        }
        self.last_final = Some(Box::new(LastFinal { start: closed.start, end: closed.end, pane }));
        judged
    }

    /// Makes the windows final that end by `final_until`.
    fn settle(&mut self, final_until: i64, context: &mut Context<'_>) {
        let Some(mut ahead) = self.ahead.take() else { return };
        let count = ahead.told.partition_point(|told| told.closed.end <= final_until);
        for told in ahead.told.drain(..count) {
            self.settle_one(&told.closed, told.pane, context);
        }
        ahead.forget_retracted(&self.settled);
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
        let (judge, cohort) = (&mut ahead.judge, &*context.cohort);
        let windows = windows.into_iter().map(|(closed, pane)| {
            let (judged, _) = judge.judge(config, &closed, cohort.version(config, closed.end));
            (closed, pane, judged)
        });
        let windows = windows.collect();
        before.correct(windows, &mut ahead, context);
        self.ahead = Some(ahead);
    }

    fn dropout_due(&self, config: &StreamConfig) -> Option<i64> {
        self.silent_window(config).map(|(_, end)| end + config.lateness_ms)
    }

    /// The window without events with which the entity has fallen silent: how many there are of them, and its end.
    fn silent_window(&self, config: &StreamConfig) -> Option<(u32, i64)> {
        let (Window::Fixed { size_ms, slide_ms }, Some(after), None) =
            (config.window, self.settled.dropout_after(config), self.dropout)
        else {
            return None;
        };
        let (start, _) = self.settled.last()?;
        // Those under maintenance do not count.
        let mut counting = (1..=after.saturating_add(MAINTAINED_MAX)).filter(|at| {
            let start = start + i64::from(*at) * slide_ms;
            !config.is_maintained(start, start + size_ms)
        });
        let missing =
            if config.has_maintenance() { counting.nth(after.saturating_sub(1) as usize) } else { Some(after) };
        missing.map(|missing| (missing, start + i64::from(missing) * slide_ms + size_ms))
    }

    fn report_dropout(&mut self, final_until: i64, context: &mut Context<'_>) {
        let config = context.whose.config;
        let silent = self.silent_window(config).filter(|(_, end)| *end <= final_until);
        if let (Some((missing, _)), Some((start, _))) = (silent, self.settled.last()) {
            let opened_at = start + config.window.step_ms();
            self.dropout = Some(Dropout { opened_at, missing });
            let silent = context.whose.dropout(Silence::Begun, opened_at, missing, self.last_seen);
            context.tell_alert(Some(silent));
        }
    }
}
