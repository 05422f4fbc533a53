//! The figures: medians, ratios, goals, as a table and as JSON.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Value, json};
use tidewatch_benches::figures::{median, number};

use crate::{Args, ROWS};

/// What a figure is meant to be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Goal {
    /// Nothing in particular.
    None,
    /// The embedded broker's figure divided by Kafka's is at least this.
    RatioAtLeast(f64),
    /// The same is at most this.
    RatioAtMost(f64),
    /// The embedded broker's figure is at most this.
    AtMost(f64),
}

/// All that was measured.
pub(crate) struct Report {
    about: String,
    samples: BTreeMap<(&'static str, &'static str), Vec<f64>>,
}

struct Figures {
    embedded: f64,
    kafka: f64,
    goal: Goal,
}

impl Figures {
    fn ratio(&self) -> f64 {
        self.embedded / self.kafka
    }

    fn holds(&self) -> Option<bool> {
        match self.goal {
            Goal::None => None,
            Goal::RatioAtLeast(bound) => Some(self.ratio() >= bound),
            Goal::RatioAtMost(bound) => Some(self.ratio() <= bound),
            Goal::AtMost(bound) => Some(self.embedded <= bound),
        }
    }

    fn goal_text(&self) -> String {
        let text = match self.goal {
            Goal::None => return String::new(),
            Goal::RatioAtLeast(bound) => format!("ratio ≥ {bound}"),
            Goal::RatioAtMost(bound) => format!("ratio ≤ {bound}"),
            Goal::AtMost(bound) => format!("≤ {bound}"),
        };
        format!("{text} {}", if self.holds() == Some(true) { "✓" } else { "✗ missed" })
    }
}

impl Report {
    pub(crate) fn new(args: &Args) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let build = if cfg!(debug_assertions) { "debug build, worth nothing" } else { "release build" };
        let about = format!(
            "Embedded broker beside Apache Kafka {} · {cores} cores · {build} · {} rounds of {} records and {} transactions, \
             medians · memory with {} records · long log of {:.1} GB",
            tidewatch_kafka::version(),
            args.rounds,
            args.records,
            args.transactions,
            args.stored,
            args.log_bytes as f64 / 1e9
        );
        Self { about, samples: BTreeMap::new() }
    }

    pub(crate) fn add(&mut self, row: &'static str, subject: &'static str, sample: f64) {
        self.samples.entry((row, subject)).or_default().push(sample);
    }

    fn figures(&self, row: &'static str, goal: Goal) -> Figures {
        let of = |subject| median(self.samples.get(&(row, subject)).map_or(&[], Vec::as_slice));
        Figures { embedded: of("embedded"), kafka: of("kafka"), goal }
    }

    pub(crate) fn table(&self) -> String {
        let mut text = format!("{}\n\n{:62}{:>12}{:>12}{:>9}   goal\n", self.about, "", "embedded", "Kafka", "ratio");
        for (row, name, goal) in ROWS {
            let figures = self.figures(row, goal);
            let (embedded, kafka) = (number(figures.embedded), number(figures.kafka));
            // Writing to a String does not fail.
            let _ =
                writeln!(text, "{name:62}{embedded:>12}{kafka:>12}{:>9.2}   {}", figures.ratio(), figures.goal_text());
        }
        text
    }

    pub(crate) fn json(&self) -> String {
        let rows = ROWS.map(|(row, name, goal)| {
            let figures = self.figures(row, goal);
            let samples = |subject| self.samples.get(&(row, subject)).cloned().unwrap_or_default();
            json!({
                "name": row, "what": name, "embedded": figures.embedded, "kafka": figures.kafka, "ratio": figures.ratio(),
                "holds": figures.holds(), "samples": { "embedded": samples("embedded"), "kafka": samples("kafka") },
            })
        });
        let whole: Value = json!({ "about": self.about, "figures": rows });
        format!("{whole:#}\n")
    }

    /// The goals that are missed.
    pub(crate) fn missed(&self) -> Vec<&'static str> {
        let missed = |&(row, _, goal): &(&'static str, &str, Goal)| self.figures(row, goal).holds() == Some(false);
        ROWS.iter().filter(|row| missed(row)).map(|&(row, ..)| row).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goals_are_held_or_missed() {
        let figures = |goal| Figures { embedded: 2.0, kafka: 4.0, goal };
        for (goal, expected) in [
            (Goal::None, None),
            (Goal::RatioAtLeast(0.5), Some(true)),
            (Goal::RatioAtLeast(1.0), Some(false)),
            (Goal::RatioAtMost(0.5), Some(true)),
            (Goal::AtMost(1.0), Some(false)),
        ] {
            assert_eq!(figures(goal).holds(), expected, "{goal:?}");
        }
    }
}
