//! Labelled disorder held against the ledger. Pure.

use tidewatch_schemas::record::Disorder;

use crate::ledger::balance::{PartitionBalance, Totals};

/// What a scenario did on purpose to the order and content of its records, and where the ledger says otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DisorderScore {
    /// Late, duplicate and dead records, as the truth has them.
    pub late: i64,
    pub duplicates: i64,
    pub dead_letters: i64,
    /// Each partition of which the ledger says something else, in a line.
    pub differences: Vec<String>,
}

/// Compares the truth about disorder with the ledger, partition by partition; `None` if the scenario has none.
pub(crate) fn compare(truth: &[Disorder], partitions: &[PartitionBalance]) -> Option<DisorderScore> {
    let mut score = DisorderScore::default();
    for truth in truth {
        let dead_letters: i64 = truth.dead_letters.values().sum();
        score.late += truth.late;
        score.duplicates += truth.duplicates;
        score.dead_letters += dead_letters;
        let here = partitions.iter().find(|here| here.stream == truth.stream && here.partition == truth.partition);
        let Totals { read, scored, late, duplicate, dead_lettered, .. } =
            here.map_or_else(Totals::default, |here| here.totals);
        let (told, fact) = (
            [read, scored, late, duplicate, dead_lettered],
            [truth.sent, truth.scored, truth.late, truth.duplicates, dead_letters],
        );
        if told != fact {
            let names = ["read", "scored", "late", "duplicates", "dead letters"];
            let parts = names.iter().zip(told).zip(fact).filter(|((_, told), fact)| told != fact);
            let parts: Vec<String> = parts.map(|((name, told), fact)| format!("{told} {name}, truth {fact}")).collect();
            score.differences.push(format!(
                "stream `{}` partition {}: {}",
                truth.stream,
                truth.partition,
                parts.join("; ")
            ));
        }
    }
    (!truth.is_empty()).then_some(score)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn the_ledger_says_of_each_partition_what_was_injected_or_how_it_differs() {
        let truth = Disorder {
            stream: "s".into(),
            partition: 1,
            seed: 1,
            events: 10,
            sent: 10,
            scored: 6,
            late: 1,
            duplicates: 0,
            dead_letters: BTreeMap::from([("undecodable".into(), 2), ("null-value".into(), 1)]),
            dropped: 0,
            idle: 0,
            reordered: 0,
            skewed: 0,
            evolved: 0,
        };
        let totals = Totals { read: 10, scored: 6, late: 1, dead_lettered: 3, ..Totals::default() };
        let ledger = PartitionBalance { stream: "s".into(), partition: 1, totals, ..PartitionBalance::default() };
        assert_eq!(compare(&[], std::slice::from_ref(&ledger)), None);
        let score = compare(std::slice::from_ref(&truth), std::slice::from_ref(&ledger)).unwrap();
        assert_eq!(score, DisorderScore { late: 1, duplicates: 0, dead_letters: 3, differences: vec![] });
        let totals = Totals { scored: 7, late: 0, ..totals };
        let score = compare(&[truth], &[PartitionBalance { totals, ..ledger }]).unwrap();
        assert_eq!(score.differences, ["stream `s` partition 1: 7 scored, truth 6; 0 late, truth 1"]);
    }
}
