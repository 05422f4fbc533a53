//! What a campaign has to say: a line for each run while it goes on, then the table of the faults.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::json;
use tidewatch_benches::BrokerKind;

use crate::Args;
use crate::fault::FaultKind;
use crate::run::Verdict;

/// What a fault did over a campaign.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Line {
    /// Runs in which it was tried.
    runs: u32,
    /// Of these, those in which it befell something.
    struck: u32,
    /// Of these, those that ended as they have to.
    survived: u32,
    /// The longest time from its end to the next commit.
    recovered_max_s: f64,
}

/// The verdicts of a campaign.
pub(crate) struct Report {
    broker: BrokerKind,
    seed: u64,
    events: u64,
    /// The arguments that a run hangs on, but for its seed.
    args: String,
    verdicts: Vec<Verdict>,
}

impl Report {
    pub(crate) fn new(args: &Args) -> Self {
        let Args { broker, seed, events, rate, patience, memory_mib, .. } = *args;
        let only: String = args.only.iter().map(|name| format!(" --only {name}")).collect();
        let all = format!(
            "--broker {} --events {events} --rate {rate} --patience {patience} --memory-mib {memory_mib}{only}",
            broker.name()
        );
        Self { broker, seed, events, args: all, verdicts: Vec::new() }
    }

    /// Takes a verdict in and says it: one line, and what went wrong.
    pub(crate) fn add(&mut self, verdict: Verdict, number: u64, of: u64) -> String {
        let faults: Vec<String> = verdict.planned.iter().map(|name| (*name).to_owned()).collect();
        let mark = if verdict.failure.is_none() { "✓" } else { "✗" };
        let mut text = format!(
            "{mark} run {number} of {of} · seed {} · {} · {:.1} s",
            verdict.seed,
            faults.join(", "),
            verdict.took_s
        );
        if let Some(failure) = &verdict.failure {
            let _ = write!(text, "\n  {}", failure.replace('\n', "\n  "));
            if let Some(logs) = &verdict.logs {
                let _ = write!(text, "\n  logs and files: {}", logs.display());
            }
            let _ = write!(text, "\n  again: {}", self.again(&verdict));
        }
        self.verdicts.push(verdict);
        text
    }

    fn again(&self, verdict: &Verdict) -> String {
        let Verdict { seed, .. } = verdict;
        format!("cargo run --release -p tidewatch-benches --bin faults -- {} --runs 1 --seed {seed}", self.args)
    }

    /// Whether no run has come to its end.
    pub(crate) fn is_empty(&self) -> bool {
        self.verdicts.is_empty()
    }

    /// Runs that did not end as they have to.
    pub(crate) fn failed(&self) -> usize {
        self.verdicts.iter().filter(|verdict| verdict.failure.is_some()).count()
    }

    fn lines(&self) -> BTreeMap<&'static str, Line> {
        let mut lines = BTreeMap::<_, Line>::new();
        for verdict in &self.verdicts {
            for name in &verdict.planned {
                let line = lines.entry(*name).or_default();
                line.runs += 1;
                let injected = verdict.faults.iter().find(|injected| injected.name == *name);
                if let Some(injected) = injected.filter(|injected| injected.struck) {
                    line.struck += 1;
                    line.survived += u32::from(verdict.failure.is_none());
                    line.recovered_max_s = line.recovered_max_s.max(injected.recovered_s.unwrap_or(0.0));
                }
            }
        }
        lines
    }

    /// The table: a line for each fault that there is, also for those that no run has drawn.
    pub(crate) fn table(&self, faults: &[&'static FaultKind]) -> String {
        let lines = self.lines();
        let mut table =
            format!("{:32}{:>6}{:>8}{:>10}{:>16}\n", "fault", "runs", "struck", "survived", "recovered, max");
        for kind in faults {
            let line = lines.get(kind.name).copied().unwrap_or_default();
            let recovered = if line.struck == 0 { "-".to_owned() } else { format!("{:.1} s", line.recovered_max_s) };
            let mark = if line.survived < line.struck { "  ✗" } else { "" };
            let _ = writeln!(
                table,
                "{:32}{:>6}{:>8}{:>10}{recovered:>16}{mark}",
                kind.name, line.runs, line.struck, line.survived
            );
        }
        let (runs, failed) = (self.verdicts.len(), self.failed());
        let took: f64 = self.verdicts.iter().map(|verdict| verdict.took_s).sum();
        let exits: usize = self.verdicts.iter().map(|verdict| verdict.exits.len()).sum();
        let memory = self.verdicts.iter().map(|verdict| verdict.memory_peak_mib).max().unwrap_or(0);
        let _ = writeln!(
            table,
            "\n{} of {runs} runs on the {} broker equal the undisturbed one, {failed} do not; seed {}, {} events each",
            runs - failed,
            self.broker.name(),
            self.seed,
            self.events,
        );
        let each = Duration::from_secs_f64(took / runs.max(1) as f64);
        let _ = writeln!(
            table,
            "{each:.1?} a run; {exits} times a process ended by itself and was started again; at most {memory} MiB a process"
        );
        table
    }

    /// Everything as JSON.
    pub(crate) fn write_json(&self, file: &Path) -> anyhow::Result<()> {
        let lines = self.lines().into_iter().map(|(name, line)| {
            json!({ "fault": name, "runs": line.runs, "struck": line.struck, "survived": line.survived,
                "recovered_max_s": line.recovered_max_s })
        });
        let lines: Vec<_> = lines.collect();
        let all = json!({
            "broker": self.broker.name(), "seed": self.seed, "events": self.events,
            "runs": self.verdicts.len(), "failed": self.failed(), "faults": lines, "verdicts": self.verdicts,
        });
        std::fs::write(file, format!("{all:#}\n")).with_context(|| format!("cannot write {}", file.display()))
    }
}
