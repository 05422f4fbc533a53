//! How far event time has come in each input partition, and what holds it back: for the person who waits for a window.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

/// Where event time stands in one input partition. Times in ms since 1970.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Stream's name.
    pub stream: String,
    /// Input partition.
    pub partition: i32,
    /// The watermark; `None` before the first event.
    pub watermark: Option<i64>,
    /// Windows with events that have not closed.
    pub open_windows: u64,
    /// Records still to read.
    pub lag: i64,
    /// How long no event has come that was scored.
    pub silence: Duration,
    /// How long the watermark has not moved.
    pub still: Duration,
    /// After which silence event time goes on by the clock.
    pub idle_timeout: Option<Duration>,
}

/// Silence that is worth a word, if event time does not go on by the clock before.
const SILENCE_MIN: Duration = Duration::from_secs(10);
/// How far a partition's event time may trail the stream's without being called slow, in ms.
const TRAIL_MAX_MS: i64 = 10_000;
/// Nothing is the matter.
const ON_TIME: &str = "on time";
/// Age at which what is told is no longer what is.
const AGE_MAX: Duration = Duration::from_secs(3);

impl Standing {
    /// Why its event time is where it is; `newest` is the greatest watermark of the stream's partitions.
    fn reason(&self, newest: i64) -> String {
        let is_silent = self.silence >= self.idle_timeout.map_or(SILENCE_MIN, |timeout| timeout.min(SILENCE_MIN));
        let silence = spoken(self.silence);
        if self.lag > 0 {
            let lag = format!("lag: {} still to read", counted(self.lag.unsigned_abs(), "record"));
            // Those of a transaction are withheld by the broker until it ends.
            return if is_silent {
                format!("{lag}, and no event for {silence}; a producer may have left a transaction open")
            } else {
                lag
            };
        }
        let Some(watermark) = self.watermark else { return "empty: no event yet".to_owned() };
        if is_silent {
            let idle = format!("idle: no event for {silence}");
            return match self.idle_timeout {
                _ if self.open_windows == 0 => format!("{idle}; nothing waits for it"),
                None => format!("{idle}; idle_timeout is off, its windows wait for the next one"),
                Some(timeout) if self.silence >= timeout => format!("{idle}; its event time goes on by the clock"),
                Some(timeout) => {
                    format!("{idle}; its event time goes on by the clock in {}", spoken(timeout - self.silence))
                }
            };
        }
        let trail_ms = newest - watermark;
        if trail_ms > TRAIL_MAX_MS {
            let trail = spoken(Duration::from_millis(trail_ms.unsigned_abs()));
            return format!("slow producer: all is read, and its events are {trail} older than the stream's newest");
        }
        ON_TIME.to_owned()
    }
}

/// Which partition of each stream holds event time back and why, how many windows wait for it, and since when; as it was `age` ago.
#[must_use]
pub fn explain(standings: &[Standing], age: Duration) -> String {
    let mut streams: BTreeMap<&str, Vec<&Standing>> = BTreeMap::new();
    for standing in standings {
        streams.entry(&standing.stream).or_default().push(standing);
    }
    let mut text = String::new();
    // Writing to a String does not fail.
    if age >= AGE_MAX {
        let _ = writeln!(text, "as of {} ago: the processor is busy, waits for its broker, or has ended", spoken(age));
    }
    if streams.is_empty() {
        text.push_str("no partition is assigned\n");
    }
    for (stream, mut partitions) in streams {
        // A partition where no window waits holds nothing back.
        partitions.sort_by_key(|at| (at.open_windows == 0, at.watermark.unwrap_or(i64::MAX), at.partition));
        let newest = partitions.iter().filter_map(|at| at.watermark).max();
        let holds = |at: &&&Standing| at.open_windows > 0 && at.reason(newest.unwrap_or(0)) != ON_TIME;
        let _ = match (partitions.iter().find(holds), newest) {
            (Some(Standing { partition, watermark, .. }), Some(newest)) => {
                let trail = spoken(Duration::from_millis((newest - watermark.unwrap_or(newest)).unsigned_abs()));
                writeln!(text, "{stream}: partition {partition} holds event time back, {trail} behind the newest")
            }
            (None, Some(newest)) => {
                writeln!(text, "{stream}: event time has come to {}, nothing holds it back", time(newest))
            }
            (_, None) => writeln!(text, "{stream}: no event yet"),
        };
        for at in partitions {
            let watermark = at.watermark.map_or("-".to_owned(), time);
            let wait = if at.open_windows == 1 { "waits" } else { "wait" };
            let windows = format!("{} {wait}", counted(at.open_windows, "window"));
            let since = format!("unmoved for {}", spoken(at.still));
            let reason = at.reason(newest.unwrap_or(0));
            let _ =
                writeln!(text, "  partition {:<3} {watermark:24}  {windows:>20}  {since:22}  {reason}", at.partition);
        }
    }
    text
}

/// `1 window`, `2 windows`.
fn counted(number: u64, one: &str) -> String {
    format!("{number} {one}{}", if number == 1 { "" } else { "s" })
}

fn time(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms)
        .map_or_else(|_| ms.to_string(), |time| time.strftime("%Y-%m-%d %H:%M:%S%.3fZ").to_string())
}

/// Two units at most: `4m 12s`.
fn spoken(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let units = [(86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")];
    let mut words = Vec::new();
    let mut left = seconds;
    for (length, unit) in units {
        if left >= length && words.len() < 2 {
            words.push(format!("{}{unit}", left / length));
            left %= length;
        }
    }
    if words.is_empty() { "0s".to_owned() } else { words.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(partition: i32, watermark: Option<i64>) -> Standing {
        let idle_timeout = Some(Duration::from_secs(300));
        Standing { stream: "calls".into(), partition, watermark, open_windows: 7, idle_timeout, ..Standing::default() }
    }

    #[test]
    fn the_partition_that_holds_time_back_comes_first_with_its_reason() {
        let noon = 1_736_164_800_000;
        let seconds = Duration::from_secs;
        let held = || at(1, Some(noon - 3_600_000));
        let cases = [
            (Standing { lag: 12, ..held() }, "lag: 12 records still to read"),
            (
                Standing { lag: 1, silence: seconds(60), ..held() },
                "lag: 1 record still to read, and no event for 1m; a producer may have left a transaction open",
            ),
            (
                Standing { silence: seconds(252), ..held() },
                "idle: no event for 4m 12s; its event time goes on by the clock in 48s",
            ),
            (
                Standing { silence: seconds(301), ..held() },
                "idle: no event for 5m 1s; its event time goes on by the clock",
            ),
            (
                Standing { silence: seconds(2), idle_timeout: Some(seconds(1)), ..held() },
                "idle: no event for 2s; its event time goes on by the clock",
            ),
            (
                Standing { silence: seconds(60), idle_timeout: None, ..held() },
                "idle: no event for 1m; idle_timeout is off, its windows wait for the next one",
            ),
            (held(), "slow producer: all is read, and its events are 1h older than the stream's newest"),
        ];
        for (held, reason) in cases {
            let text = explain(&[at(0, Some(noon)), held, at(2, None)], Duration::ZERO);
            let lines: Vec<&str> = text.lines().collect();
            assert_eq!(lines[0], "calls: partition 1 holds event time back, 1h behind the newest");
            assert!(lines[1].starts_with("  partition 1   2025-01-06 11:00:00.000"), "{text}");
            assert!(lines[1].ends_with(reason), "{text}");
            assert!(lines[2].ends_with("on time") && lines[3].ends_with("empty: no event yet"), "{text}");
        }
    }

    #[test]
    fn where_no_window_waits_nothing_is_held_back() {
        let noon = 1_736_164_800_000;
        let check = |standings: &[Standing], first: &str| {
            let text = explain(standings, Duration::ZERO);
            assert_eq!(text.lines().next(), Some(first), "{text}");
            text
        };
        check(&[], "no partition is assigned");
        check(&[Standing { open_windows: 0, ..at(0, None) }], "calls: no event yet");
        let on_time = "calls: event time has come to 2025-01-06 12:00:00.000Z, nothing holds it back";
        check(&[at(0, Some(noon))], on_time);
        // The only one, or the newest, may be what its windows wait for.
        let waits = Standing { lag: 3, ..at(0, Some(noon)) };
        let text = check(&[waits], "calls: partition 0 holds event time back, 0s behind the newest");
        assert!(text.ends_with("lag: 3 records still to read\n"), "{text}");
        check(&[at(0, Some(noon)), at(1, Some(noon - 3_000))], on_time);
        let silence = Duration::from_secs(600);
        let closed = Standing { open_windows: 0, silence, ..at(0, Some(noon - 3_600_000)) };
        let text = check(&[closed, Standing { open_windows: 1, ..at(1, Some(noon)) }], on_time);
        assert!(text.ends_with("idle: no event for 10m; nothing waits for it\n"), "{text}");
        assert!(text.contains(" 1 window waits ") && text.contains(" 0 windows wait "), "{text}");
        let old = explain(&[at(0, Some(noon))], Duration::from_secs(61));
        assert!(old.starts_with("as of 1m 1s ago: the processor is busy"), "{old}");
    }

    #[test]
    fn spans_are_spoken_in_two_units() {
        for (seconds, expected) in [(0, "0s"), (59, "59s"), (252, "4m 12s"), (3_661, "1h 1m"), (90_061, "1d 1h")] {
            assert_eq!(spoken(Duration::from_secs(seconds)), expected);
        }
    }
}
