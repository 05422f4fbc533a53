//! What a demo's end says: whether every event is accounted for, what was found, what it cost, where it lies.
//!
//! [`Report`] is plain values and [`Report::render`] is pure, so that a test reads the same text as a person.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use tidewatch_processor::{HorizonAccuracy, Mean};
use tidewatch_sink::{DeliverySummary, TopicKind};

use crate::disorder::DisorderScore;
use crate::ledger::balance::{Balance, Totals};
use crate::live::{bytes, count, grouped};
use crate::score::{Judgement, table};

const GREEN: anstyle::Style = anstyle::AnsiColor::Green.on_default().bold();
const RED: anstyle::Style = anstyle::AnsiColor::Red.on_default().bold();
pub(crate) const HEAD: anstyle::Style = anstyle::AnsiColor::Cyan.on_default().bold();
pub(crate) const DIM: anstyle::Style = anstyle::Style::new().dimmed();

/// Processor time of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cpu {
    /// Of the three roles; of the whole process where the embedded broker's cannot be told from it.
    pub roles: Duration,
    /// Of the broker in this process.
    pub broker: BrokerCpu,
}

/// Processor time of the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BrokerCpu {
    /// The broker is another process.
    Elsewhere,
    /// The embedded broker's own.
    Own(Duration),
    /// The system does not tell it apart.
    Among,
}

impl Cpu {
    /// Of a whole process, in which an embedded broker's threads had used so much before and after, where the system tells.
    pub(crate) fn split(process: Duration, broker: Option<(Option<Duration>, Option<Duration>)>) -> Self {
        match broker {
            None => Self { roles: process, broker: BrokerCpu::Elsewhere },
            Some((Some(before), Some(after))) => {
                let broker = after.saturating_sub(before);
                Self { roles: process.saturating_sub(broker), broker: BrokerCpu::Own(broker) }
            }
            Some(_) => Self { roles: process, broker: BrokerCpu::Among },
        }
    }
}

/// Everything that is told.
#[derive(Debug)]
pub(crate) struct Report {
    /// The scenario's name.
    pub scenario: String,
    /// Its variant.
    pub seed: u64,
    /// How much event time it covers.
    pub event_time: Duration,
    /// Events that Kafka took.
    pub published: u64,
    /// The ledger, as it stands in its topic.
    pub balance: Balance,
    /// Wall-clock time of the three roles.
    pub elapsed: Duration,
    /// CPU time of this process in that time; Kafka has its own.
    pub cpu: Cpu,
    /// Alerts against the truth.
    pub judgement: Judgement,
    /// The ledger against the truth about disorder, if the scenario has any.
    pub disorder: Option<DisorderScore>,
    /// A hash over all alert records: the same seed, the same alerts.
    pub fingerprint: u64,
    /// How good forecasts are, by stream and horizon (in ms).
    pub accuracies: Vec<(String, i64, HorizonAccuracy)>,
    /// What was stored.
    pub delivered: DeliverySummary,
    /// Where.
    pub folder: PathBuf,
    /// A person ended it early.
    pub is_interrupted: bool,
    /// Commands to try, with what they do.
    pub next: Vec<(String, String)>,
}

impl Report {
    /// Whether every event that was published was read, and every record that was read is accounted for.
    pub(crate) fn adds_up(&self) -> bool {
        let Totals { read, duplicate, .. } = self.balance.total;
        // Duplicates were published, or read a second time.
        let (read, published) = (i128::from(read), i128::from(self.published));
        self.balance.problems.is_empty() && (published..=published + i128::from(duplicate)).contains(&read)
    }

    /// Why a person should not be content, if so.
    pub(crate) fn problem(&self) -> Option<String> {
        if let Some(problem) = self.balance.problem() {
            return Some(problem);
        }
        if self.is_interrupted {
            return None;
        }
        if !self.adds_up() {
            let (published, read) = (self.published, self.balance.total.read);
            return Some(format!("the ledger does not add up: {published} events published, {read} read"));
        }
        if let Some(difference) = self.disorder.as_ref().and_then(|disorder| disorder.differences.first()) {
            return Some(format!("the ledger is not what the truth says: {difference}"));
        }
        let left = self.balance.not_stored_yet();
        (left != 0).then(|| format!("the ledger does not add up: {left} results were written and are not stored"))
    }

    /// The text, with colours that the writer may strip.
    pub(crate) fn render(&self) -> String {
        let mut text = String::new();
        let days = self.event_time.as_secs_f64() / 86_400.0;
        let ended = if self.is_interrupted { " · ended early" } else { "" };
        line(
            &mut text,
            "",
            &format!(
                "{HEAD}Tidewatch demo{HEAD:#} · scenario {} · seed {} · {days:.1} days of event time{ended}\n",
                self.scenario, self.seed
            ),
        );
        self.ledger(&mut text);
        if self.is_interrupted {
            line(&mut text, "Truth", "not judged: the run was ended before all faults had happened");
        } else {
            table::headline(&mut text, &self.judgement);
            line(
                &mut text,
                "",
                &format!("{DIM}fingerprint {:016x}: the same seed gives the same alerts{DIM:#}", self.fingerprint),
            );
            table::tables(&mut text, &self.judgement.score);
            text.push('\n');
        }
        let forecasts = forecasts(&self.accuracies);
        for (place, row) in forecasts.iter().enumerate() {
            line(&mut text, if place == 0 { "Forecasts" } else { "" }, row);
        }
        self.cost(&mut text);
        self.files(&mut text);
        text.push('\n');
        for (place, (command, effect)) in self.next.iter().enumerate() {
            let head = if place == 0 { "Next" } else { "" };
            line(&mut text, head, &format!("{command}\n{:10}  {DIM}{effect}{DIM:#}", ""));
        }
        text
    }

    fn ledger(&self, text: &mut String) {
        let seconds = self.elapsed.as_secs_f64().max(0.001);
        let Totals { read, scored, late, dead_lettered, duplicate, filtered, windows, revisions, .. } =
            self.balance.total;
        let rate = grouped((read as f64 / seconds) as u64);
        line(
            text,
            "Events",
            &format!("{} in {seconds:.1} s, {rate} a second from producer to files", grouped(self.published)),
        );
        let mark = match (self.adds_up(), self.is_interrupted) {
            (true, _) => format!("{GREEN}✓ every event is accounted for{GREEN:#}"),
            (false, true) => format!("{DIM}the rest was not read{DIM:#}"),
            (false, false) => format!("{RED}✗ does not add up{RED:#}"),
        };
        let number = |number: i64| grouped(number.unsigned_abs());
        let filtered = if filtered > 0 { format!(" + {} filtered", number(filtered)) } else { String::new() };
        let sum = format!(
            "{} scored + {} late + {} dead letters + {} duplicates{filtered} = {} read  {mark}",
            number(scored),
            number(late),
            number(dead_lettered),
            number(duplicate),
            number(read)
        );
        line(text, "", &sum);
        if let Some(disorder) = &self.disorder
            && !self.is_interrupted
        {
            let DisorderScore { late, duplicates, dead_letters, ref differences } = *disorder;
            let mark = match differences.len() {
                0 => format!("{GREEN}✓ in every partition the ledger says the same{GREEN:#}"),
                partitions => format!("{RED}✗ the ledger differs in {}{RED:#}", count(partitions as u64, "partition")),
            };
            let (late, duplicates, dead) = (number(late), number(duplicates), number(dead_letters));
            line(text, "Disorder", &format!("injected: {late} late, {duplicates} duplicates, {dead} broken  {mark}"));
        }
        let revised =
            if revisions > 0 { format!(", {} revisions after late events", number(revisions)) } else { String::new() };
        line(text, "Windows", &format!("{} closed and scored{revised}", number(windows)));
    }

    fn cost(&self, text: &mut String) {
        let arrival = self.delivered.alert_arrival;
        if arrival.count > 0 {
            let millis = |ms: u64| {
                if ms < 10_000 { format!("{} ms", grouped(ms)) } else { format!("{:.1} s", ms as f64 / 1_000.0) }
            };
            let (p50, p99) = (millis(arrival.p50_ms), millis(arrival.p99_ms));
            line(
                text,
                "Latency",
                &format!("event to alert p50 {p50}, p99 {p99} ({})", count(arrival.count, "alert record")),
            );
        }
        let millions = (self.balance.total.read as f64 / 1e6).max(1e-6);
        let roles = self.cpu.roles.as_secs_f64();
        let whose = match self.cpu.broker {
            BrokerCpu::Elsewhere => format!("all three roles, without Kafka's ({roles:.1} s)"),
            BrokerCpu::Own(broker) => {
                let broker = broker.as_secs_f64();
                format!("all three roles ({roles:.1} s); the broker {:.1} s more ({broker:.1} s)", broker / millions)
            }
            BrokerCpu::Among => format!("all three roles and the broker ({roles:.1} s)"),
        };
        line(text, "CPU", &format!("{:.1} s per million events, {whose}", roles / millions));
    }

    fn files(&self, text: &mut String) {
        line(text, "Files", &format!("{}", self.folder.display()));
        let stored = |kind: &TopicKind| self.delivered.topics.get(kind).copied().unwrap_or_default();
        for kind in TopicKind::ALL {
            let topic = stored(&kind);
            if topic.rows > 0 {
                let (rows, files) = (count(topic.rows, "row"), count(topic.files, "file"));
                line(text, "", &format!("{:13}{rows:>16}{files:>10}{:>11}", kind.as_str(), bytes(topic.bytes)));
            }
        }
        if stored(&TopicKind::Alerts).rows > 0 {
            line(
                text,
                "",
                &format!(
                    "{DIM}Parquet; the alerts also as JSON lines in {}/{DIM:#}",
                    tidewatch_sink::delivery::ALERT_LINES_FOLDER
                ),
            );
        }
    }
}

/// How good forecasts are, as rows of a table; none without any.
pub(crate) fn forecasts(accuracies: &[(String, i64, HorizonAccuracy)]) -> Vec<String> {
    if accuracies.is_empty() {
        return Vec::new();
    }
    let percent = |mean: Mean| mean.get().map_or("-".to_owned(), |mean| format!("{:.1} %", 100.0 * mean));
    let mut rows =
        vec![format!("{DIM}{:<16}{:>8}{:>9}{:>8}{:>20}{DIM:#}", "", "ahead", "MAPE", "MASE", "in the 95 % band")];
    for (stream, horizon_ms, is) in accuracies {
        let ahead = humantime::format_duration(Duration::from_millis(horizon_ms.unsigned_abs())).to_string();
        let mase = is.mase.get().map_or("-".to_owned(), |mase| format!("{mase:.2}"));
        let (mape, coverage) = (percent(is.mape), percent(is.coverage));
        rows.push(format!("{stream:<16}{ahead:>8}{mape:>9}{mase:>8}{coverage:>20}"));
    }
    rows
}

/// A line behind its head.
pub(crate) fn line(text: &mut String, head: &str, rest: &str) {
    // Writing to a String does not fail.
    let _ = if head.is_empty() && text.is_empty() {
        writeln!(text, "{rest}")
    } else {
        writeln!(text, "{HEAD}{head:10}{HEAD:#}  {rest}")
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::balance::KindBalance;

    fn report() -> Report {
        let total = Totals { read: 1_000, scored: 990, late: 7, dead_lettered: 3, windows: 120, ..Totals::default() };
        Report {
            scenario: "smoke".into(),
            seed: 7,
            event_time: Duration::from_secs(2 * 86_400),
            published: 1_000,
            balance: Balance { total, ..Balance::default() },
            elapsed: Duration::from_secs(2),
            cpu: Cpu { roles: Duration::from_millis(30), broker: BrokerCpu::Elsewhere },
            judgement: Judgement::default(),
            disorder: None,
            fingerprint: 0xab,
            accuracies: Vec::new(),
            delivered: DeliverySummary::default(),
            folder: "tidewatch-demo/1/results".into(),
            is_interrupted: false,
            next: vec![("tidewatch demo --seed 8".into(), "other faults".into())],
        }
    }

    fn plain(report: &Report) -> String {
        anstream::adapter::strip_str(&report.render()).to_string()
    }

    #[test]
    fn it_says_whether_every_event_is_accounted_for() {
        let mut report = report();
        let text = plain(&report);
        assert!(text.contains("990 scored + 7 late + 3 dead letters + 0 duplicates = 1,000 read  ✓"), "{text}");
        assert!(text.contains("30.0 s per million events, all three roles, without Kafka's (0.0 s)"), "{text}");
        assert_eq!(report.problem(), None);
        report.published = 1_001;
        assert!(plain(&report).contains("✗ does not add up"));
        assert_eq!(report.problem().unwrap(), "the ledger does not add up: 1001 events published, 1000 read");
        report.is_interrupted = true;
        assert_eq!(report.problem(), None, "who ends early does not expect all to be read");
    }

    #[test]
    fn processor_time_is_the_roles_and_the_brokers_apart_where_the_system_tells() {
        let millis = Duration::from_millis;
        assert_eq!(Cpu::split(millis(50), None).broker, BrokerCpu::Elsewhere);
        let split = Cpu::split(millis(50), Some((Some(millis(10)), Some(millis(30)))));
        assert_eq!(split, Cpu { roles: millis(30), broker: BrokerCpu::Own(millis(20)) });
        let text = plain(&Report { cpu: split, ..report() });
        assert!(text.contains("30.0 s per million events, all three roles (0.0 s); the broker 20.0 s more"), "{text}");
        let untold = Cpu::split(millis(50), Some((None, None)));
        assert!(
            plain(&Report { cpu: untold, ..report() })
                .contains("50.0 s per million events, all three roles and the broker")
        );
    }

    #[test]
    fn what_was_read_twice_or_published_twice_is_explained_by_the_duplicates() {
        let mut report = report();
        report.balance.total.read = 1_004;
        assert!(!report.adds_up());
        report.balance.total.duplicate = 4;
        assert!(report.adds_up());
        report.published = 1_004;
        assert!(report.adds_up());
        report.published = 1_005;
        assert!(!report.adds_up());
    }

    #[test]
    fn disorder_is_held_against_the_truth() {
        let mut report = report();
        report.disorder = Some(DisorderScore { late: 7, duplicates: 0, dead_letters: 3, differences: vec![] });
        let text = plain(&report);
        assert!(text.contains("injected: 7 late, 0 duplicates, 3 broken  ✓ in every partition"), "{text}");
        assert_eq!(report.problem(), None);
        let difference = "stream `s` partition 1: 6 late, truth 7".to_owned();
        report.disorder.as_mut().unwrap().differences.push(difference);
        assert!(plain(&report).contains("✗ the ledger differs in 1 partition"));
        let problem = report.problem().unwrap();
        assert_eq!(problem, "the ledger is not what the truth says: stream `s` partition 1: 6 late, truth 7");
    }

    #[test]
    fn what_is_not_stored_or_does_not_add_up_is_a_problem() {
        let mut report = report();
        let kind = |not_stored_yet| KindBalance {
            kind: TopicKind::Alerts,
            written: 7,
            stored: 7 - not_stored_yet,
            rejected: 0,
            removed: 0,
            not_stored_yet,
        };
        report.balance.results = vec![kind(2)];
        assert_eq!(report.problem().unwrap(), "the ledger does not add up: 2 results were written and are not stored");
        report.balance.results = vec![kind(0)];
        assert_eq!(report.problem(), None);
        report.is_interrupted = true;
        report.balance.problems = vec!["stream `s` partition 0: a residue of 1".into()];
        assert!(report.problem().unwrap().ends_with("stream `s` partition 0: a residue of 1"));
        assert!(!report.adds_up());
    }
}
