//! The figures: a table, lines with goals, and both as JSON.

use std::fmt::Write as _;
use std::path::Path;

use crate::figures::number;
use anyhow::Context as _;
use serde_json::{Value, json};

/// What a figure is meant to be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Goal {
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
pub struct Report {
    table: String,
    figures: Value,
    goals: Vec<(String, f64, Goal)>,
}

impl Report {
    /// Of a table as text, and the same figures for JSON.
    #[must_use]
    pub fn new(table: String, figures: Value) -> Self {
        Self { table, figures, goals: Vec::new() }
    }

    /// Holds a figure against its goal.
    #[must_use]
    pub fn goal(mut self, what: impl Into<String>, figure: f64, goal: Goal) -> Self {
        self.goals.push((what.into(), figure, goal));
        self
    }

    /// The table and a line for each goal.
    #[must_use]
    pub fn text(&self) -> String {
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

    /// The same for machines; `about` says what was measured on.
    #[must_use]
    pub fn json(&self, about: &str) -> Value {
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
    #[must_use]
    pub fn missed(&self) -> usize {
        self.goals.iter().filter(|(_, figure, goal)| !goal.holds(*figure)).count()
    }
}

/// What was measured on, with the load of the machine before and after.
#[must_use]
pub fn about(what: &str, load_before: &str) -> String {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let build = if cfg!(debug_assertions) { "debug build, worth nothing" } else { "release build" };
    format!("{what} · {cores} cores · load {load_before} before, {} after · {build}", load())
}

/// Says what was found, writes it to the file if one is named, and tells whether all goals are met.
///
/// # Errors
/// A file that cannot be written; with `check`, a missed goal.
pub fn publish(report: &Report, about: &str, json: Option<&Path>, check: bool) -> anyhow::Result<()> {
    print!("\n{about}\n{}", report.text());
    if let Some(file) = json {
        let text = format!("{:#}\n", report.json(about));
        std::fs::write(file, text).with_context(|| format!("--json: cannot write {}", file.display()))?;
    }
    let missed = report.missed();
    anyhow::ensure!(!check || missed == 0, "goals missed: {missed}");
    Ok(())
}

/// The machine's load average over a minute.
#[must_use]
pub fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().unwrap_or("unknown").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

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
