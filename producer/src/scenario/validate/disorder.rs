//! Disorder: whether it is certain what becomes of each record.
//!
//! Invariant: what passes keeps the promises of [`crate::disorder`].

use super::faults::Whom;
use super::{Checked, Checker, TIME_MS_MAX};
use crate::disorder::poison::Poison;
use crate::disorder::sequence::has_id;
use crate::disorder::{Assumes, Delayed, Disorder, Idle, Late, PoisonRules, SchemaChange};
use crate::scenario::{Scenario, raw};
use std::collections::BTreeMap;
use std::ops::Range;

/// Records wait in memory for so long.
const WAIT_MS_MAX: i64 = 24 * 3_600_000;
const SHARE_SUM_SLACK: f64 = 1e-9;

impl Checker<'_> {
    pub(super) fn disorder(&self, rules: &raw::Disorder, scenario: &Scenario) -> Checked<Disorder> {
        let assumes = self.assumes(&rules.assumes)?;
        let reorder = self.delayed("disorder.reorder", rules.reorder.as_ref())?;
        let duplicates = self.delayed("disorder.duplicates", rules.duplicates.as_ref())?;
        let has_ids = scenario.streams().into_iter().any(has_id);
        self.require(
            rules.duplicates.is_none() || has_ids,
            "disorder.duplicates",
            "needs events with an id; add a stream of service-calls or beacons",
        )?;
        self.require(
            rules.duplicates.is_none() || duplicates.within_ms < assumes.event_id_memory_ms,
            "disorder.duplicates.within",
            "is not shorter than disorder.assumes.event_id_memory; the id would be forgotten by then",
        )?;
        let late = self.late(rules.late.as_ref(), &assumes)?;
        let drops = rules.drops.as_ref().map_or(0.0, |drops| drops.share);
        self.share("disorder.drops.share", drops)?;
        let poison = self.poison(rules.poison.as_ref())?;
        let shares = drops + poison.share + late.share + duplicates.share;
        self.require(
            shares <= 1.0 + SHARE_SUM_SLACK,
            "disorder",
            format!("the shares of drops, poison, late and duplicates add up to {shares}; keep them within 1"),
        )?;
        let skews = self.skews(&rules.skew, &assumes, reorder.within_ms, scenario)?;
        let reach = [scenario.start_ms, scenario.end_ms() + assumes.future_max_ms + 60_000]
            .map(|time| (0..=TIME_MS_MAX).contains(&time));
        self.require(
            reach == [true; 2],
            "disorder.assumes.future_max",
            "reaches beyond 2200 from the scenario's end; make it shorter or the scenario earlier",
        )?;
        Ok(Disorder {
            assumes,
            reorder,
            duplicates,
            late,
            drops,
            poison,
            skews,
            idle: self.idle(&rules.idle, scenario)?,
            schema_changes: self.schema_changes(&rules.schema_change, scenario)?,
        })
    }

    fn assumes(&self, assumes: &raw::Assumes) -> Checked<Assumes> {
        let span = |name: &str, text: &str| self.duration(format!("disorder.assumes.{name}"), text);
        let found = Assumes {
            on_time_within_ms: span("on_time_within", &assumes.on_time_within)?,
            final_after_ms: span("final_after", &assumes.final_after)?,
            future_max_ms: span("future_max", &assumes.future_max)?,
            event_id_memory_ms: span("event_id_memory", &assumes.event_id_memory)?,
        };
        self.require(
            found.final_after_ms > found.on_time_within_ms,
            "disorder.assumes.final_after",
            "is not longer than disorder.assumes.on_time_within; it is the stream's window, disorder and lateness together",
        )?;
        Ok(found)
    }

    fn delayed(&self, at: &str, rules: Option<&raw::Delayed>) -> Checked<Delayed> {
        let Some(rules) = rules else { return Ok(Delayed::default()) };
        self.share(format!("{at}.share"), rules.share)?;
        let within_ms = self.duration(format!("{at}.within"), &rules.within)?;
        self.waits(format!("{at}.within"), within_ms)?;
        Ok(Delayed { share: rules.share, within_ms })
    }

    fn waits(&self, field: String, span_ms: i64) -> Checked<()> {
        let ok = (1..=WAIT_MS_MAX).contains(&span_ms);
        self.require(ok, field, "is not between 1ms and 24h: records wait for so long in memory")
    }

    fn late(&self, rules: Option<&raw::Late>, assumes: &Assumes) -> Checked<Late> {
        let Some(rules) = rules else { return Ok(Late::default()) };
        self.share("disorder.late.share", rules.share)?;
        let by = |number: usize| self.duration(format!("disorder.late.by[{number}]"), &rules.by[number]);
        let by_ms = [by(0)?, by(1)?];
        self.require(
            by_ms[0] >= assumes.final_after_ms,
            "disorder.late.by[0]",
            "is shorter than disorder.assumes.final_after; such an event may still be in time",
        )?;
        self.require(by_ms[0] <= by_ms[1], "disorder.late.by[1]", "is shorter than by[0]; swap the two")?;
        self.waits("disorder.late.by[1]".to_owned(), by_ms[1])?;
        Ok(Late { share: rules.share, by_ms })
    }

    fn poison(&self, rules: Option<&raw::Poisoned>) -> Checked<PoisonRules> {
        let Some(rules) = rules else { return Ok(PoisonRules::default()) };
        self.share("disorder.poison.share", rules.share)?;
        let kinds = rules.kinds.clone().unwrap_or_else(|| Poison::DEFAULT.to_vec());
        self.require(!kinds.is_empty(), "disorder.poison.kinds", "is empty; leave it out for the default")?;
        Ok(PoisonRules { share: rules.share, kinds })
    }

    /// By entity, what its clock is ahead. All that is not late or dead must fit into the disorder that is assumed.
    fn skews(
        &self,
        skews: &[raw::Skew],
        assumes: &Assumes,
        reorder_ms: i64,
        scenario: &Scenario,
    ) -> Checked<BTreeMap<usize, i64>> {
        let mut by_entity = BTreeMap::new();
        let (mut fast_ms, mut slow_ms) = (0, 0);
        for (number, skew) in skews.iter().enumerate() {
            let at = format!("disorder.skew[{number}]");
            let ahead_ms = match (&skew.fast, &skew.slow) {
                (Some(fast), None) => self.duration(format!("{at}.fast"), fast)?,
                (None, Some(slow)) => -self.duration(format!("{at}.slow"), slow)?,
                _ => return self.fail(at, "is neither fast nor slow; give one of the two"),
            };
            self.require(ahead_ms != 0, &at, "is no skew; give a span above zero")?;
            let reach = [scenario.start_ms + ahead_ms.min(0), scenario.end_ms() + ahead_ms.max(0)];
            self.require(
                reach[0] >= 0 && reach[1] <= TIME_MS_MAX,
                &at,
                "shifts event times out of 1970 to 2200; make it smaller",
            )?;
            if ahead_ms <= assumes.future_max_ms && ahead_ms > -assumes.final_after_ms {
                (fast_ms, slow_ms) = (fast_ms.max(ahead_ms), slow_ms.max(-ahead_ms));
                let sum_ms = reorder_ms + fast_ms + slow_ms;
                let problem = "with disorder.reorder.within (and the skews before) exceeds disorder.assumes.on_time_within, so events \
                               might be late or not; make it smaller, or slow by final_after, or fast by more than future_max";
                self.require(sum_ms <= assumes.on_time_within_ms, &at, problem)?;
            }
            let whom = Whom {
                stream: skew.stream,
                service: skew.service.as_deref(),
                instance: skew.instance.as_deref(),
                entity: skew.entity.as_deref(),
            };
            for entity in self.targets(&at, &whom, scenario)? {
                let key = &scenario.entities[entity].key;
                let is_new = by_entity.insert(entity, ahead_ms).is_none();
                self.require(is_new, &at, format!("\"{key}\" has a skew already; keep one"))?;
            }
        }
        self.require(
            reorder_ms <= assumes.on_time_within_ms,
            "disorder.reorder.within",
            "is longer than disorder.assumes.on_time_within; such an event might be late or not",
        )?;
        Ok(by_entity)
    }

    fn idle(&self, idle: &[raw::Idle], scenario: &Scenario) -> Checked<Vec<Idle>> {
        let checked = |(number, idle): (usize, &raw::Idle)| {
            let at = format!("disorder.idle[{number}]");
            let problem = "is not a partition's number, from 0";
            self.require(idle.partition >= 0, format!("{at}.partition"), problem)?;
            self.has_stream(&at, idle.stream, scenario)?;
            let offsets_ms = self.period_of(&at, &idle.from, idle.to.as_deref(), scenario)?;
            Ok(Idle { stream: idle.stream, partition: idle.partition, offsets_ms })
        };
        idle.iter().enumerate().map(checked).collect()
    }

    fn schema_changes(&self, changes: &[raw::SchemaChange], scenario: &Scenario) -> Checked<Vec<SchemaChange>> {
        let checked = |(number, change): (usize, &raw::SchemaChange)| {
            let at = format!("disorder.schema_change[{number}]");
            self.has_stream(&at, change.stream, scenario)?;
            let offsets_ms = self.period_of(&at, &change.from, change.to.as_deref(), scenario)?;
            Ok(SchemaChange { stream: change.stream, kind: change.kind, offsets_ms })
        };
        changes.iter().enumerate().map(checked).collect()
    }

    fn has_stream(&self, at: &str, stream: crate::stream::StreamKind, scenario: &Scenario) -> Checked<()> {
        let problem = format!("the scenario has no {}; declare a [[stream]] of it", stream.name());
        self.require(scenario.streams().contains(&stream), format!("{at}.stream"), problem)
    }

    /// Offsets of `[from, to)`; without a `to`, all that follows.
    fn period_of(&self, at: &str, from: &str, to: Option<&str>, scenario: &Scenario) -> Checked<Range<i64>> {
        let from_ms = self.onset(&format!("{at}.from"), from, scenario)?;
        let to_ms = to.map_or(Ok(scenario.duration_ms), |to| self.onset(&format!("{at}.to"), to, scenario))?;
        self.require(from_ms < to_ms, format!("{at}.to"), "is not after from; make it later or leave it out")?;
        Ok(from_ms..to_ms)
    }
}
