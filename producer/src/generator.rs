//! From a scenario and a seed to events, partition by partition.
//!
//! Invariant: the i-th event of an entity is a function of (scenario, seed, entity, i); a partition's events are those of
//! its entities merged by (event time, entity, i). So neither threads, nor the pace, nor a stop and a resumption at any
//! position can change a byte of a partition.

mod cut;
mod merge;
mod records;
#[cfg(test)]
mod tests;
mod values;

pub(crate) use merge::Slot;
pub use merge::{GeneratedEvent, PartitionEvents};
pub use records::{PartitionRecords, PublishedRecord};
pub(crate) use values::EventRecord;

use crate::disorder::sequence::Sequence;
use crate::disorder::{Counts, Disorder};
use crate::fault::Fault;
use crate::random::Random;
use crate::rate::{Profile, Timeline};
use crate::scenario::{Entity, Scenario};
use crate::stream::StreamKind;
use std::collections::BTreeMap;
use std::sync::Arc;
use tidewatch_schemas::record::{self, Truth};
use tidewatch_topic_io::partitioner::partition_for;

/// A partition of a stream's topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamPartition {
    /// The stream.
    pub stream: StreamKind,
    /// The partition's number.
    pub partition: i32,
}

/// A scenario's events for one seed. Cheap to clone; share it between threads.
#[derive(Clone, Debug)]
pub struct Generator {
    plan: Arc<Plan>,
    /// Per entity, how many of its events there are up to the limit.
    ends: Arc<Vec<u64>>,
}

/// Everything that does not move while events are made.
#[derive(Debug)]
struct Plan {
    start_ms: i64,
    events_expected: u64,
    expected: Timeline,
    partitions: i32,
    truth: Vec<Truth>,
    seed: u64,
    disorder: Option<Arc<Disorder>>,
    sources: Vec<Source>,
}

/// One entity's part of the plan.
#[derive(Debug)]
struct Source {
    entity: Entity,
    partition: i32,
    random: Random,
    /// What its disorder is drawn from.
    disorder: Random,
    /// Cumulative count of its events, or of a curve that all share.
    timeline: Arc<Timeline>,
    /// The timeline's count per event of this entity.
    step: f64,
    events: u64,
    /// By onset.
    faults: Vec<Fault>,
    spread: f64,
}

impl Generator {
    pub(crate) fn new(scenario: &Scenario, seed: u64, partitions: i32) -> Self {
        let partitions = partitions.max(1);
        let faults = scenario.faults(seed);
        let expected =
            Timeline::expected(&scenario.profile, scenario.start_ms, scenario.duration_ms, scenario.events as f64);
        let counts = apportion(scenario.events, &scenario.entities);
        let shared = Arc::new(expected.clone());
        let random = Random::new(seed);
        let sources: Vec<Source> = scenario
            .entities
            .iter()
            .zip(counts)
            .enumerate()
            .map(|(number, (entity, count))| {
                let random = random.of(entity.stream.name()).of(&entity.key);
                let (timeline, step, events) = if matches!(scenario.profile, Profile::Poisson(_)) {
                    let own = Timeline::poisson(&expected, entity.share, scenario.entities.len(), random.of("counts"));
                    let events = own.total() as u64;
                    (Arc::new(own), 1.0, events)
                } else {
                    (Arc::clone(&shared), scenario.events as f64 / count.max(1) as f64, count)
                };
                Source {
                    partition: partition_for(entity.key.as_bytes(), partitions),
                    disorder: random.of("disorder"),
                    random,
                    timeline,
                    step,
                    events,
                    faults: faults.iter().filter(|fault| fault.entity == number).cloned().collect(),
                    spread: entity.spread(),
                    entity: entity.clone(),
                }
            })
            .collect();
        let ends = Arc::new(sources.iter().map(|source| source.events).collect());
        let truth = faults.iter().map(|fault| fault.truth(&scenario.entities[fault.entity], seed)).collect();
        let plan = Plan {
            start_ms: scenario.start_ms,
            events_expected: scenario.events,
            expected,
            partitions,
            truth,
            seed,
            disorder: scenario.disorder.clone().map(Arc::new),
            sources,
        };
        Self { plan: Arc::new(plan), ends }
    }

    /// Only the first `events` events of all streams, in order of (event time, stream, entity).
    pub fn limited(&self, events: u64) -> Self {
        let chosen: Vec<usize> = (0..self.plan.sources.len()).collect();
        let ends = cut::first(&self.plan, &chosen, &self.ends, events);
        Self { plan: Arc::clone(&self.plan), ends: Arc::new(ends) }
    }

    /// Events in all.
    pub fn events_total(&self) -> u64 {
        self.ends.iter().sum()
    }

    /// Events of every partition that has any.
    pub fn partitions(&self) -> BTreeMap<StreamPartition, u64> {
        let mut partitions = BTreeMap::new();
        for (source, end) in self.plan.sources.iter().zip(self.ends.iter()).filter(|(_, end)| **end > 0) {
            *partitions.entry(source.place()).or_default() += end;
        }
        partitions
    }

    /// Records that are published to every partition that has events.
    ///
    /// Cost: nothing, or with disorder a run through all partitions, about 100 ns an event.
    pub fn records_total(&self) -> BTreeMap<StreamPartition, u64> {
        let Some(rules) = &self.plan.disorder else { return self.partitions() };
        let sent = |place| self.counts(rules, place).sent().unsigned_abs();
        self.partitions().into_keys().map(|place| (place, sent(place))).collect()
    }

    /// What disorder does to every partition that has events; nothing for a scenario without. Cost: as [`Self::records_total`].
    pub fn disorder(&self) -> Vec<record::Disorder> {
        let Some(rules) = &self.plan.disorder else { return Vec::new() };
        let of =
            |place: StreamPartition| self.counts(rules, place).record(place.stream, place.partition, self.plan.seed);
        self.partitions().into_keys().map(of).collect()
    }

    /// A partition's records as they are published, from the `resume_at`-th on (0: from the first).
    ///
    /// With disorder the sequence depends on where the events end: resume with the limit of before. Cost: a logarithm, or with
    /// disorder about 100 ns a record before.
    pub fn records(&self, place: StreamPartition, resume_at: u64) -> PartitionRecords {
        let Some(rules) = &self.plan.disorder else { return PartitionRecords::ordered(self.events(place, resume_at)) };
        let mut sequence = self.sequence(rules, place);
        sequence.skip(resume_at);
        PartitionRecords::disordered(sequence, Arc::clone(rules))
    }

    fn counts(&self, rules: &Arc<Disorder>, place: StreamPartition) -> Counts {
        self.sequence(rules, place).count()
    }

    fn sequence(&self, rules: &Arc<Disorder>, place: StreamPartition) -> Sequence {
        let anchor = self.anchor(rules, place);
        Sequence::new(self.events(place, 0), Arc::clone(rules), place, self.plan.start_ms, anchor)
    }

    /// The last event of a partition that can be scored at its own time.
    fn anchor(&self, rules: &Disorder, place: StreamPartition) -> Option<Anchor> {
        let gaps = rules.gaps(place.stream, place.partition);
        let last = |(number, source): (usize, &Source)| {
            let mut end = self.ends[number];
            while end > 0 {
                let offset_ms = source.offset_ms(end - 1, &mut 0);
                match gaps.iter().find(|gap| gap.contains(&offset_ms)) {
                    Some(gap) => end = cut::before(source, end, gap.start),
                    None => {
                        let event_time = self.plan.start_ms + offset_ms;
                        return Some(Anchor { event_time, source: number, index: end - 1 });
                    }
                }
            }
            None
        };
        let sources = self.plan.sources.iter().enumerate();
        let right = sources.filter(|(number, source)| source.place() == place && !rules.skews.contains_key(number));
        right.filter_map(last).max_by_key(|anchor| (anchor.event_time, anchor.source))
    }

    /// A partition's events, in order, from the `resume_at`-th on (0: from the first).
    pub fn events(&self, place: StreamPartition, resume_at: u64) -> PartitionEvents {
        let chosen: Vec<usize> =
            (0..self.plan.sources.len()).filter(|at| self.plan.sources[*at].place() == place).collect();
        let begins = cut::first(&self.plan, &chosen, &self.ends, resume_at);
        PartitionEvents::new(Arc::clone(&self.plan), &chosen, &begins, &self.ends)
    }

    /// What goes wrong in these events, by onset: a limited generator has no faults after its last event.
    pub fn truth(&self) -> impl Iterator<Item = &Truth> {
        let last = self.last_time();
        self.plan.truth.iter().filter(move |truth| last.is_some_and(|last| truth.onset <= last))
    }

    /// Event time of the last event, epoch ms.
    pub fn last_time(&self) -> Option<i64> {
        let ended = self.plan.sources.iter().zip(self.ends.iter()).filter(|(_, end)| **end > 0);
        ended.map(|(source, end)| self.plan.start_ms + source.offset_ms(end - 1, &mut 0)).max()
    }

    /// How many partitions each stream's topic has.
    pub fn partition_count(&self) -> i32 {
        self.plan.partitions
    }

    /// Events of the whole scenario that are expected before an event time: an event's place in an open-loop schedule, known
    /// without knowing the other events.
    pub fn expected_position(&self, event_time: i64) -> f64 {
        self.plan.expected.count_at((event_time - self.plan.start_ms) as f64)
    }

    /// Event time of the scenario's beginning, epoch ms.
    pub fn start_ms(&self) -> i64 {
        self.plan.start_ms
    }

    /// Events expected over the whole scenario.
    pub fn events_expected(&self) -> u64 {
        self.plan.events_expected
    }
}

/// An event that nothing happens to, so that what has to follow on something can follow on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Anchor {
    pub(crate) event_time: i64,
    /// Its entity's number.
    pub(crate) source: usize,
    pub(crate) index: u64,
}

impl Source {
    fn place(&self) -> StreamPartition {
        StreamPartition { stream: self.entity.stream, partition: self.partition }
    }

    /// Milliseconds after the scenario's start of the entity's i-th event: one event in each of equal parts of the expected
    /// count, anywhere in its part. `slot` is a cache, see [`Timeline::time_of`].
    fn offset_ms(&self, index: u64, slot: &mut usize) -> i64 {
        let within = self.random.uniform(index, values::TIME);
        self.timeline.time_of((index as f64 + within) * self.step, slot)
    }
}

/// Whole events by shares that add up to 1, exactly `events` in all: largest remainders first, then by number.
fn apportion(events: u64, entities: &[Entity]) -> Vec<u64> {
    let exact: Vec<f64> = entities.iter().map(|entity| entity.share * events as f64).collect();
    let mut counts: Vec<u64> = exact.iter().map(|share| share.floor() as u64).collect();
    let mut order: Vec<usize> = (0..entities.len()).collect();
    order.sort_by(|a, b| exact[*b].fract().total_cmp(&exact[*a].fract()).then(a.cmp(b)));
    let left = events.saturating_sub(counts.iter().sum());
    for at in order.into_iter().cycle().take(left as usize) {
        counts[at] += 1;
    }
    counts
}
