//! The score as a person reads it, at the end of a demo and of `score`. Pure.

use std::time::Duration;

use tidewatch_schemas::record::Dimension;
use tidewatch_score::{Figures, Score, Tally};

use super::Judgement;
use crate::live::{count, grouped, span};
use crate::summary::{DIM, HEAD, line};

const WEEK_MS: f64 = 7.0 * 86_400_000.0;

/// All that is told of a scorer that has ended.
pub(crate) fn render(judgement: &Judgement) -> String {
    let mut text = String::new();
    let until = judgement.score.event_time.and_then(|end| jiff::Timestamp::from_millisecond(end).ok());
    let until = until.map_or(String::new(), |end| format!(", event time {end}"));
    line(&mut text, "Score", &format!("{} read{until}", count(judgement.read, "record")));
    if !judgement.is_whole {
        line(&mut text, "", "ended before all was read that there was: nothing was published of this");
    }
    headline(&mut text, judgement);
    tables(&mut text, &judgement.score);
    text
}

/// What was found of the whole, and what it does not count.
pub(crate) fn headline(text: &mut String, judgement: &Judgement) {
    let Score { total, open, .. } = &judgement.score;
    let missed = total.faults.saturating_sub(total.found);
    let pending = if total.pending > 0 { format!(", {} not over yet", total.pending) } else { String::new() };
    let faults = count(total.faults, "injected fault");
    line(text, "Truth", &format!("{} of {faults} found, {missed} missed{pending}", total.found));
    let open = if *open > 0 { format!(", {open} still open") } else { String::new() };
    let repeated = if total.repeated > 0 {
        format!("{} on faults that were found already, ", total.repeated)
    } else {
        String::new()
    };
    let said = format!("{}, {repeated}{} of them false{open}", count(total.alerts(), "alert"), total.false_alerts);
    line(text, "Alerts", &said);
    let figures = Figures::new(Dimension::Total, "all", total.clone());
    let shares =
        format!("recall {} · precision {} · F1 {}", share(figures.recall), share(figures.precision), share(figures.f1));
    let delays = figures
        .delay_p50_ms
        .zip(figures.delay_p95_ms)
        .map(|(p50, p95)| format!(" · found {} after the onset in the middle, {} for 95 %", millis(p50), millis(p95)));
    line(text, "", &format!("{shares}{}", delays.unwrap_or_default()));
    if let Some(rate) = figures.false_alarms_per_entity_week {
        let weeks = total.watched_ms as f64 / WEEK_MS;
        let entities =
            if total.entities == 1 { "1 entity".to_owned() } else { format!("{} entities", grouped(total.entities)) };
        let watched = format!("{entities}, {weeks:.1} weeks of one without a fault");
        line(text, "", &format!("{rate:.3} false alarms per entity and week ({watched})"));
    }
    let delay = humantime::format_duration(judgement.delay_max);
    let rule = format!(
        "{DIM}found: an alert of the entity opens or is updated during the fault, or at most {delay} after its onset{DIM:#}"
    );
    line(text, "", &rule);
    if let Some(unreadable) = &judgement.unreadable {
        line(text, "", &unreadable.to_string());
    }
    if judgement.left_out > 0 {
        let left_out = count(judgement.left_out, "record");
        line(text, "", &format!("{left_out} left out to keep memory bounded: score.records_max"));
    }
}

/// What came of the breaches that were predicted, if any were.
fn predictions(text: &mut String, score: &Score) {
    for (value, tally) in score.of(Dimension::Prediction) {
        let (name, what) = match value {
            "trend" => ("", " during a drift or a change of trend"),
            _ => ("Predicted", ""),
        };
        let breaches = if tally.alerts() + tally.pending == 1 { "breach" } else { "breaches" };
        let pending = if tally.pending > 0 { format!(", {} not over yet", tally.pending) } else { String::new() };
        let lead =
            tally.delay_ms(0.5).map_or(String::new(), |ms| format!(", told {} before in the middle", millis(ms)));
        let Tally { found, false_alerts, .. } = tally;
        let said = grouped(tally.alerts() + tally.pending);
        line(text, name, &format!("{said} {breaches}{what}: {found} came true{lead}, {false_alerts} did not{pending}"));
    }
}

/// What came of predictions, and the figures by each dimension that has any.
pub(crate) fn tables(text: &mut String, score: &Score) {
    predictions(text, score);
    let all: Vec<Figures> = score.figures().collect();
    for dimension in [Dimension::Kind, Dimension::Detector, Dimension::Severity, Dimension::Region, Dimension::Tenant] {
        let of_dimension: Vec<&Figures> = all.iter().filter(|figures| figures.dimension == dimension).collect();
        if of_dimension.is_empty() {
            continue;
        }
        text.push('\n');
        let title = format!("by {dimension}");
        let head = format!(
            "{title:17}{:>7}{:>6}{:>7}{:>9}{:>9}{:>6}{:>8}{:>6}{:>9}{:>9}",
            "faults", "found", "missed", "named so", "repeated", "false", "a week", "F1", "p50", "p95"
        );
        line(text, "", &format!("{HEAD}{head}{HEAD:#}"));
        for figures in of_dimension {
            line(text, "", &row(figures));
        }
    }
    if all.len() > 1 {
        line(text, "", "by kind: faults by their own, alerts that are repeated or false by the kind that they say");
        line(text, "", "a week: false alarms per entity and week; p50 and p95: from the onset to the alert");
    }
}

fn row(figures: &Figures) -> String {
    let Tally { faults, found, named, repeated, false_alerts, .. } = figures.tally;
    let name = figures.value.replace('_', " ");
    // An alert has a detector and a severity, a fault has none.
    let of_faults = |number: u64| if figures.dimension.is_of_faults() { number.to_string() } else { "-".to_owned() };
    let (all, missed, named) = (of_faults(faults), of_faults(faults.saturating_sub(found)), of_faults(named));
    let rate = figures.false_alarms_per_entity_week.map_or("-".to_owned(), |rate| format!("{rate:.3}"));
    let delay = |ms: Option<i64>| ms.map_or("-".to_owned(), millis);
    let (f1, p50, p95) = (share(figures.f1), delay(figures.delay_p50_ms), delay(figures.delay_p95_ms));
    format!(
        "{name:17}{all:>7}{found:>6}{missed:>7}{named:>9}{repeated:>9}{false_alerts:>6}{rate:>8}{f1:>6}{p50:>9}{p95:>9}"
    )
}

fn share(share: Option<f64>) -> String {
    share.map_or("-".to_owned(), |share| format!("{share:.2}"))
}

fn millis(ms: i64) -> String {
    span(Duration::from_millis(ms.unsigned_abs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judgement() -> Judgement {
        let tally = Tally {
            faults: 4,
            found: 3,
            named: 2,
            pending: 1,
            repeated: 1,
            false_alerts: 1,
            delays_ms: vec![60_000, 90_000, 6_004_000],
            entities: 2,
            watched_ms: 7 * 86_400_000,
        };
        let mut score = Score { total: tally.clone(), open: 1, ..Score::default() };
        score.by.insert((Dimension::Kind, "level_shift".into()), tally);
        score.by.insert((Dimension::Severity, "high".into()), Tally { found: 3, repeated: 2, ..Tally::default() });
        let predicted = Tally {
            found: 3,
            pending: 1,
            false_alerts: 2,
            delays_ms: vec![-5_400_000, -1_500_000, -300_000],
            ..Tally::default()
        };
        score.by.insert((Dimension::Prediction, "all".into()), predicted);
        let of_trend = Tally { found: 1, delays_ms: vec![-300_000], ..Tally::default() };
        score.by.insert((Dimension::Prediction, "trend".into()), of_trend);
        let delay_max = Duration::from_secs(1_800);
        Judgement { score, delay_max, read: 1_000, unreadable: None, left_out: 0, is_whole: true }
    }

    fn plain(judgement: &Judgement) -> String {
        anstream::adapter::strip_str(&render(judgement)).to_string()
    }

    #[test]
    fn it_says_what_was_found_and_how_soon() {
        let text = plain(&judgement());
        for part in [
            "1,000 records read\n",
            "3 of 4 injected faults found, 1 missed, 1 not over yet\n",
            "5 alerts, 1 on faults that were found already, 1 of them false, 1 still open\n",
            "recall 0.75 · precision 0.75 · F1 0.75 · found 1m 30s after the onset in the middle, 1h 40m for 95 %\n",
            "1.000 false alarms per entity and week (2 entities, 1.0 weeks of one without a fault)\n",
            "or at most 30m after its onset\n",
            "Predicted   6 breaches: 3 came true, told 25m before in the middle, 2 did not, 1 not over yet\n",
            "1 breach during a drift or a change of trend: 1 came true, told 5m before in the middle, 0 did not\n",
            "level shift            4     3      1        2        1     1   1.000  0.75   1m 30s   1h 40m\n",
            "high                   -     3      -        -        2     0   0.000  0.86        -        -\n",
        ] {
            assert!(text.contains(part), "{part}{text}");
        }
    }

    #[test]
    fn it_says_what_does_not_count() {
        let mut judgement = Judgement { is_whole: false, left_out: 7, ..Judgement::default() };
        let text = plain(&judgement);
        assert!(text.contains("0 of 0 injected faults found, 0 missed\n"), "{text}");
        assert!(text.contains("recall - · precision - · F1 -\n"), "{text}");
        assert!(text.contains("nothing was published of this\n"), "{text}");
        assert!(text.contains("7 records left out to keep memory bounded: score.records_max\n"), "{text}");
        judgement.is_whole = true;
        assert!(!plain(&judgement).contains("nothing was published"));
    }
}
