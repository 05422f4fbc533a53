//! Where a merged sequence stands after its first n events, found without making them.
//!
//! Invariant: equal to taking n events one after the other; the cost is the logarithm of the scenario, not n.

use super::{Plan, Source};

/// Per entity of the plan, how many of the first `events` events (of the `chosen` entities, in order of time, then entity)
/// are its own, at most `ends`. Entities that are not chosen get 0.
pub(super) fn first(plan: &Plan, chosen: &[usize], ends: &[u64], events: u64) -> Vec<u64> {
    let mut begins = vec![0; plan.sources.len()];
    if events == 0 {
        return begins;
    }
    let total: u64 = chosen.iter().map(|at| ends[*at]).sum();
    if events >= total {
        chosen.iter().for_each(|at| begins[*at] = ends[*at]);
        return begins;
    }
    // The latest time before which at most `events` have happened: less than the rest happens in that very millisecond.
    let all_before = |time: i64| -> u64 { chosen.iter().map(|at| before_of(plan, *at, ends, time)).sum() };
    let (mut low, mut high) = (0, plan.expected.duration_ms());
    while low + 1 < high {
        let middle = low + (high - low) / 2;
        if all_before(middle) <= events { low = middle } else { high = middle }
    }
    let mut left = events;
    for at in chosen {
        begins[*at] = before_of(plan, *at, ends, low);
        left -= begins[*at];
    }
    for at in chosen {
        let same = before_of(plan, *at, ends, low + 1) - begins[*at];
        let taken = same.min(left);
        begins[*at] += taken;
        left -= taken;
    }
    begins
}

fn before_of(plan: &Plan, at: usize, ends: &[u64], offset_ms: i64) -> u64 {
    before(&plan.sources[at], ends[at], offset_ms)
}

/// How many of an entity's first `end` events come before a time. Times are monotone in the index.
pub(super) fn before(source: &Source, end: u64, offset_ms: i64) -> u64 {
    let (mut low, mut high) = (0, end);
    while low < high {
        let middle = low + (high - low) / 2;
        if source.offset_ms(middle, &mut 0) < offset_ms { low = middle + 1 } else { high = middle }
    }
    low
}
