//! From declared and random faults to the faults of a seed, entity by entity.
//!
//! Invariant: a function of (scenario, seed). Random faults keep off the learning period, the quiet tail and, by the
//! minimal gap, off any other fault of the same entity.

use super::{DeclaredFault, Fault, FaultKind};
use crate::random::Random;
use crate::scenario::{RandomFaults, RandomKind, Scenario};
use crate::shape::DAY_MS;
use crate::stream::{Measure, StreamKind};

/// What is left of a fault's deviation one dependency further.
const PROPAGATED_SHARE: f64 = 0.6;
/// Below this (of the factor's logarithm: 1.5 times, or 2/3) it is no fault any more: nobody could tell it from the daily wave.
const PROPAGATED_LOG_MIN: f64 = 0.4;
/// A dependant feels it this much later, per dependency.
const DELAY_MS: [i64; 2] = [60_000, 180_000];
/// Draws for one random fault. Validation keeps faults to a part of the room, so that the first few find a place; a fault
/// that finds none is left out of events and truth alike.
const ATTEMPTS_MAX: u64 = 2000;

// Channels of the randomness.
const ENTITY: u64 = 0;
const ONSET: u64 = 1;
const DURATION: u64 = 2;
const MAGNITUDE: u64 = 3;
const DELAY: u64 = 4;

pub(crate) fn place(scenario: &Scenario, seed: u64) -> Vec<Fault> {
    let random = Random::new(seed).of("faults");
    let mut faults = Vec::new();
    for (number, declared) in (1..).zip(&scenario.faults) {
        expand(scenario, declared, &format!("fault-{number:02}"), random, &mut faults);
    }
    if let Some(rules) = &scenario.random_faults {
        place_random(scenario, rules, random.of("random"), &mut faults);
    }
    faults.sort_by(|a, b| (a.onset_ms, &a.id).cmp(&(b.onset_ms, &b.id)));
    faults
}

/// The faults of all entities that a declared one reaches; the first is the cause of the others.
fn expand(scenario: &Scenario, declared: &DeclaredFault, id: &str, random: Random, out: &mut Vec<Fault>) {
    let root = format!("{id}.1");
    let mut number = 0;
    let mut add = |entity: usize, measure: Measure, delay_ms: i64, magnitude: f64| {
        let onset_ms = scenario.start_ms + declared.onset_ms + delay_ms;
        let end_ms = (onset_ms + declared.duration_ms).min(scenario.end_ms());
        if onset_ms >= end_ms {
            return;
        }
        number += 1;
        out.push(Fault {
            id: format!("{id}.{number}"),
            kind: declared.kind,
            entity,
            measure,
            onset_ms,
            end_ms,
            magnitude,
            cause: (number > 1).then(|| root.clone()),
        });
    };
    for &entity in &declared.targets {
        add(entity, declared.measure, 0, declared.magnitude);
    }
    let Some(origin) = declared.origin else { return };
    for (entity, measure, depth) in reached(scenario, origin, declared.measure) {
        let magnitude = 1.0 + (declared.magnitude - 1.0) * PROPAGATED_SHARE.powi(depth);
        if magnitude.ln().abs() < PROPAGATED_LOG_MIN {
            continue;
        }
        let own = random.of(id).between(DELAY_MS[0] as f64, DELAY_MS[1] as f64, entity as u64, DELAY) as i64;
        add(entity, measure, own * i64::from(depth), magnitude);
    }
}

/// Entities that depend on a service, with what they feel and over how many dependencies.
fn reached(scenario: &Scenario, origin: usize, measure: Measure) -> Vec<(usize, Measure, i32)> {
    let mut depths: Vec<Option<i32>> = vec![None; scenario.services.len()];
    depths[origin] = Some(0);
    let mut queue = std::collections::VecDeque::from([(origin, 0)]);
    while let Some((service, depth)) = queue.pop_front() {
        for &dependant in &scenario.services[service].dependants {
            if depths[dependant].is_none() {
                depths[dependant] = Some(depth + 1);
                queue.push_back((dependant, depth + 1));
            }
        }
    }
    let felt = |(number, entity): (usize, &crate::scenario::Entity)| {
        let depth = depths[entity.service?]?;
        // Sites and checks call the service: one dependency further than it.
        let depth = if entity.stream == StreamKind::ServiceCalls { depth } else { depth + 1 };
        (depth > 0).then_some(())?;
        Some((number, measure.propagated(entity.stream)?, depth))
    };
    scenario.entities.iter().enumerate().filter_map(felt).collect()
}

/// Correlated faults first: they need room at many entities at once. Then the longest, for the same reason.
fn place_random(scenario: &Scenario, rules: &RandomFaults, random: Random, faults: &mut Vec<Fault>) {
    let mut number = 0_u64;
    let mut kinds: Vec<&RandomKind> = rules.kinds.iter().collect();
    kinds.sort_by_key(|kind| (std::cmp::Reverse(kind.duration_ms[1]), kind.kind));
    for correlated in [true, false] {
        for kind in &kinds {
            let count = if correlated { kind.correlated } else { kind.count - kind.correlated };
            for _ in 0..count {
                number += 1;
                let own = random.of(&number.to_string());
                let id = format!("random-{number:02}");
                let placed = (0..ATTEMPTS_MAX).find_map(|attempt| {
                    let declared = draw(scenario, rules, kind, correlated, own, attempt)?;
                    let mut drawn = Vec::new();
                    expand(scenario, &declared, &id, own, &mut drawn);
                    drawn.iter().all(|fault| has_room(fault, faults, rules.min_gap_ms)).then_some(drawn)
                });
                faults.extend(placed.unwrap_or_default());
            }
        }
    }
}

fn has_room(fault: &Fault, others: &[Fault], gap_ms: i64) -> bool {
    others
        .iter()
        .filter(|other| other.entity == fault.entity)
        .all(|other| fault.onset_ms >= other.end_ms + gap_ms || other.onset_ms >= fault.end_ms + gap_ms)
}

fn draw(
    scenario: &Scenario,
    rules: &RandomFaults,
    kind: &RandomKind,
    correlated: bool,
    random: Random,
    attempt: u64,
) -> Option<DeclaredFault> {
    let (targets, origin) = if correlated {
        let services = origins(scenario);
        let origin = *services.get(random.below(services.len() as u64, attempt, ENTITY) as usize)?;
        (calls_of(scenario, origin), Some(origin))
    } else {
        let candidates = candidates(scenario, &rules.streams, kind.kind);
        (vec![*candidates.get(random.below(candidates.len() as u64, attempt, ENTITY) as usize)?], None)
    };
    let entity = &scenario.entities[*targets.first()?];
    let [shortest, longest] = kind.duration_ms;
    let minutes = random.between(shortest as f64, longest as f64 + 1.0, attempt, DURATION) / 60_000.0;
    let duration_ms = (minutes.round() as i64 * 60_000).clamp(shortest, longest);
    let latest = scenario.duration_ms - rules.quiet_tail_ms - duration_ms;
    let drawn_ms = random.between(rules.after_ms as f64, latest as f64, attempt, ONSET) as i64;
    let onset_ms = if kind.kind == FaultKind::SeasonalBreak {
        centred_on_extremum(scenario.start_ms + drawn_ms, duration_ms, entity.shape.peak_ms) - scenario.start_ms
    } else {
        drawn_ms
    };
    (onset_ms >= rules.after_ms && onset_ms <= latest).then_some(())?;
    let [least, most] = kind.magnitude;
    Some(DeclaredFault {
        kind: kind.kind,
        measure: *entity.stream.measures().first()?,
        targets,
        onset_ms,
        duration_ms,
        magnitude: random.between(least, most, attempt, MAGNITUDE),
        origin,
    })
}

/// A break of the daily wave shows where the wave is far from its mean: around the nearest peak or trough.
fn centred_on_extremum(near_ms: i64, duration_ms: i64, peak_ms: i64) -> i64 {
    let half_day = DAY_MS / 2;
    let past = (near_ms + duration_ms / 2 - peak_ms).rem_euclid(half_day);
    let shift = if past > half_day / 2 { half_day - past } else { -past };
    near_ms + shift
}

/// Entities that a random fault of this kind can hit.
pub(crate) fn candidates(scenario: &Scenario, streams: &[StreamKind], kind: FaultKind) -> Vec<usize> {
    let fits = |entity: &crate::scenario::Entity| {
        let companion = entity.stream.measures().first().and_then(|measure| measure.companion());
        streams.contains(&entity.stream)
            && (kind != FaultKind::Outlier || companion.is_some())
            && (kind != FaultKind::SeasonalBreak || entity.shape.daily_amplitude > 0.0)
    };
    scenario.entities.iter().enumerate().filter(|(_, entity)| fits(entity)).map(|(number, _)| number).collect()
}

/// Services whose faults somebody else feels.
pub(crate) fn origins(scenario: &Scenario) -> Vec<usize> {
    let felt = |service: &usize| {
        !calls_of(scenario, *service).is_empty() && !reached(scenario, *service, Measure::DurationMs).is_empty()
    };
    (0..scenario.services.len()).filter(felt).collect()
}

fn calls_of(scenario: &Scenario, service: usize) -> Vec<usize> {
    let calls =
        |entity: &crate::scenario::Entity| entity.stream == StreamKind::ServiceCalls && entity.service == Some(service);
    scenario.entities.iter().enumerate().filter(|(_, entity)| calls(entity)).map(|(number, _)| number).collect()
}
