//! The figures: a table, lines with goals, and both as JSON.

use std::fmt::Write as _;

use serde_json::{Value, json};

/// What a figure is meant to be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Goal {
    /// At least this.
    AtLeast(f64),
    /// At most this.
    AtMost(f64),
}

impl Goal {
    fn holds(self, figure: f64) -> bool {
        match self {
            Self::AtLeast(bound) => figure >= bound,
            Self::AtMost(bound) => figure <= bound,
        }
    }
}

/// All that an instrument has to say.
pub(crate) struct Report {
    table: String,
    figures: Value,
    goals: Vec<(String, f64, Goal)>,
}

impl Report {
    /// Of a table as text, and the same figures for JSON.
    pub(crate) fn new(table: String, figures: Value) -> Self {
        Self { table, figures, goals: Vec::new() }
    }

    /// Holds a figure against its goal.
    pub(crate) fn goal(mut self, what: impl Into<String>, figure: f64, goal: Goal) -> Self {
        self.goals.push((what.into(), figure, goal));
        self
    }

    pub(crate) fn text(&self) -> String {
        let mut text = format!("\n{}\n", self.table);
        for (what, figure, goal) in &self.goals {
            let (words, bound) = match goal {
                Goal::AtLeast(bound) => ("at least", bound),
                Goal::AtMost(bound) => ("at most", bound),
            };
            let mark = if goal.holds(*figure) { "✓" } else { "✗ missed" };
            // Writing to a String does not fail.
            let _ = writeln!(text, "{what}: {}, {words} {} {mark}", number(*figure), number(*bound));
        }
        text
    }

    pub(crate) fn json(&self, about: &str) -> Value {
        let goal = |(what, figure, goal): &(String, f64, Goal)| {
            let (name, bound) = match goal {
                Goal::AtLeast(bound) => ("at_least", bound),
                Goal::AtMost(bound) => ("at_most", bound),
            };
            json!({ "what": what, "figure": figure, name: bound, "holds": goal.holds(*figure) })
        };
        json!({ "about": about, "figures": self.figures, "goals": self.goals.iter().map(goal).collect::<Vec<_>>() })
    }

    /// How many goals are missed.
    pub(crate) fn missed(&self) -> usize {
        self.goals.iter().filter(|(_, figure, goal)| !goal.holds(*figure)).count()
    }
}

/// What was measured on, with the load of the machine before and after.
pub(crate) fn about(broker: &str, load_before: &str) -> String {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let build = if cfg!(debug_assertions) { "debug build, worth nothing" } else { "release build" };
    format!("{broker} broker · {cores} cores · load {load_before} before, {} after · {build}", load())
}

/// The machine's load average over a minute.
pub(crate) fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().unwrap_or("unknown").to_owned()
}

pub(crate) fn median(samples: &[f64]) -> f64 {
    quantile(samples, 0.5)
}

/// By the nearest rank; the median of two is their mean. Of nothing, not a number.
pub(crate) fn quantile(samples: &[f64], share: f64) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let place = last as f64 * share;
    f64::midpoint(sorted[place.floor() as usize], sorted[place.ceil() as usize])
}

/// Three digits are enough of small numbers, thousands are apart in great ones.
pub(crate) fn number(value: f64) -> String {
    if value.abs() < 100.0 || !value.is_finite() {
        return format!("{value:.2}");
    }
    let digits = format!("{value:.0}");
    let place = |(at, digit): (usize, char)| {
        let comma = at > 0 && (digits.len() - at).is_multiple_of(3);
        comma.then_some(',').into_iter().chain([digit])
    };
    digits.chars().enumerate().flat_map(place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_and_numbers() {
        for (samples, share, expected) in
            [(&[3.0, 1.0, 2.0][..], 0.5, 2.0), (&[4.0, 1.0], 0.5, 2.5), (&[7.0], 0.99, 7.0), (&[1.0, 2.0], 1.0, 2.0)]
        {
            assert_eq!(quantile(samples, share), expected, "{samples:?} at {share}");
        }
        assert!(median(&[]).is_nan());
        for (value, expected) in [(0.5, "0.50"), (99.0, "99.00"), (123.4, "123"), (1_234_567.0, "1,234,567")] {
            assert_eq!(number(value), expected);
        }
    }

    #[test]
    fn goals_are_held_or_missed() {
        let report = |figure, goal| Report::new(String::new(), Value::Null).goal("it", figure, goal);
        for (figure, goal, missed) in [
            (1.0, Goal::AtMost(1.0), 0),
            (1.1, Goal::AtMost(1.0), 1),
            (1.0, Goal::AtLeast(1.0), 0),
            (0.9, Goal::AtLeast(1.0), 1),
            (f64::NAN, Goal::AtLeast(1.0), 1),
        ] {
            let report = report(figure, goal);
            assert_eq!(report.missed(), missed, "{figure} {goal:?}");
            assert_eq!(report.text().contains("missed"), missed > 0, "{}", report.text());
        }
    }
}
