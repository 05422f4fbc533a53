//! One live line per role while they work: redrawn on a terminal, a plain line every few seconds elsewhere.

use std::io::{self, IsTerminal as _, Write};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// How often a plain line is written where there is no terminal.
const PLAIN_EVERY: Duration = Duration::from_secs(5);

/// The lines on the terminal, if there are any: who else writes there has to move them out of the way.
static SCREEN: OnceLock<MultiProgress> = OnceLock::new();

/// Standard error for log lines, which go above the live lines.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct AboveLines;

impl Write for AboveLines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match SCREEN.get() {
            Some(lines) => lines.suspend(|| io::stderr().write(bytes)),
            None => io::stderr().write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// The lines of all roles.
pub(crate) struct Live {
    lines: Vec<Line>,
    terminal: Option<MultiProgress>,
    last_plain: Option<Instant>,
}

struct Line {
    role: &'static str,
    bar: ProgressBar,
    text: String,
}

/// What a role says of itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Status {
    /// In words and numbers.
    pub text: String,
    /// How much of the whole is done, if there is a whole.
    pub share: Option<f64>,
    /// Whether it has ended.
    pub is_done: bool,
}

impl Live {
    /// Lines for these roles.
    pub(crate) fn new(roles: &[&'static str]) -> Self {
        let terminal = io::stderr().is_terminal().then(|| SCREEN.get_or_init(MultiProgress::new).clone());
        let style = ProgressStyle::with_template("  {spinner} {prefix:8} {msg}")
            .unwrap_or_else(|_| ProgressStyle::default_spinner());
        let lines = roles.iter().map(|&role| {
            let bar = match &terminal {
                Some(all) => all.add(ProgressBar::new_spinner()),
                None => ProgressBar::hidden(),
            };
            bar.set_style(style.clone().tick_chars("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏✓"));
            bar.set_prefix(role);
            Line { role, bar, text: String::new() }
        });
        Self { lines: lines.collect(), terminal, last_plain: None }
    }

    /// Shows what the roles say now, in the order of [`new`](Self::new).
    pub(crate) fn show(&mut self, statuses: &[Status]) {
        for (line, status) in self.lines.iter_mut().zip(statuses) {
            let gauge = status.share.map_or(String::new(), |share| format!("{} ", gauge(share)));
            line.text = format!("{gauge}{}", status.text);
            line.bar.set_message(line.text.clone());
            if status.is_done {
                line.bar.finish();
            } else {
                line.bar.tick();
            }
        }
        if self.terminal.is_none() && self.last_plain.is_none_or(|last| last.elapsed() >= PLAIN_EVERY) {
            self.last_plain = Some(Instant::now());
            self.plain();
        }
    }

    /// Leaves the last state on the screen.
    pub(crate) fn end(&mut self) {
        if self.terminal.is_none() {
            self.plain();
        }
        for line in &self.lines {
            line.bar.abandon();
        }
    }

    fn plain(&self) {
        let mut out = io::stderr().lock();
        for line in &self.lines {
            // Nobody can be told that standard error is closed.
            let _ = writeln!(out, "{:8} {}", line.role, line.text);
        }
    }
}

/// Ten cells and a percentage.
fn gauge(share: f64) -> String {
    let share = share.clamp(0.0, 1.0);
    let full = (share * 10.0).floor() as usize;
    format!("{}{} {:>3.0}%", "█".repeat(full), "░".repeat(10 - full), (share * 100.0).floor())
}

/// `1234567` as `1,234,567`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Bytes with a unit that keeps the number small.
pub(crate) fn bytes(number: u64) -> String {
    let mut value = number as f64;
    for unit in ["B", "KiB", "MiB"] {
        if value < 1024.0 {
            return if unit == "B" { format!("{number} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1024.0;
    }
    format!("{value:.1} GiB")
}

/// `1 file`, `2 files`.
pub(crate) fn count(number: u64, one: &str) -> String {
    let plural = if one.ends_with('h') { "es" } else { "s" };
    format!("{} {one}{}", grouped(number), if number == 1 { "" } else { plural })
}

/// A span of time by its two largest units.
pub(crate) fn span(time: Duration) -> String {
    let text = humantime::format_duration(Duration::from_secs(time.as_secs())).to_string();
    text.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_for_people() {
        for (number, expected) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), expected);
        }
        for (number, expected) in
            [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (3 << 20, "3.0 MiB"), (5 << 30, "5.0 GiB")]
        {
            assert_eq!(bytes(number), expected);
        }
        assert_eq!(count(1, "file"), "1 file");
        assert_eq!(count(2_000, "row"), "2,000 rows");
        assert_eq!((span(Duration::from_millis(6_004_900)), span(Duration::ZERO)), ("1h 40m".into(), "0s".into()));
        assert_eq!(gauge(0.55), "█████░░░░░  55%");
        assert_eq!(gauge(7.0), "██████████ 100%");
    }
}
