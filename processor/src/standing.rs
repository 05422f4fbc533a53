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
    /// How long no record has come.
    pub silence: Duration,
    /// How long the watermark has not moved.
    pub still: Duration,
    /// After which silence event time goes on by the clock.
    pub idle_timeout: Option<Duration>,
}

/// Silence that is worth a word.
const SILENCE_MIN: Duration = Duration::from_secs(10);
/// How far a partition's event time may trail the stream's without being called slow, in ms.
const TRAIL_MAX_MS: i64 = 10_000;

impl Standing {
    /// Why its event time is where it is; `newest` is the greatest watermark of the stream's partitions.
    fn reason(&self, newest: i64) -> String {
        let Some(watermark) = self.watermark else {
            return if self.lag > 0 { self.behind() } else { "empty: no event yet".to_owned() };
        };
        if self.lag > 0 {
            return self.behind();
        }
        if self.silence >= SILENCE_MIN {
            let silence = spoken(self.silence);
            return match self.idle_timeout {
                None => {
                    format!("idle: no record for {silence}; idle_timeout is off, its windows wait for the next one")
                }
                Some(timeout) if self.silence >= timeout => {
                    format!("idle: no record for {silence}; its event time goes on by the clock")
                }
                Some(timeout) => {
                    format!(
                        "idle: no record for {silence}; event time goes on by the clock in {}",
                        spoken(timeout - self.silence)
                    )
                }
            };
        }
        let trail_ms = newest - watermark;
        if trail_ms > TRAIL_MAX_MS {
            let trail = spoken(Duration::from_millis(trail_ms.unsigned_abs()));
            return format!("slow producer: all is read, and its events are {trail} older than the stream's newest");
        }
        "on time".to_owned()
    }

    fn behind(&self) -> String {
        format!("lag: {} records still to read", self.lag)
    }
}

/// Which partition of each stream holds event time back and why, how many windows wait for it, and since when.
#[must_use]
pub fn explain(standings: &[Standing]) -> String {
    let mut streams: BTreeMap<&str, Vec<&Standing>> = BTreeMap::new();
    for standing in standings {
        streams.entry(&standing.stream).or_default().push(standing);
    }
    let mut text = String::new();
    for (stream, mut partitions) in streams {
        // Those without an event hold nothing back: no window of theirs waits.
        partitions.sort_by_key(|at| (at.watermark.unwrap_or(i64::MAX), at.partition));
        let newest = partitions.iter().filter_map(|at| at.watermark).max().unwrap_or(0);
        // Writing to a String does not fail.
        let _ = match partitions[0].watermark {
            None => writeln!(text, "{stream}: no event yet"),
            Some(oldest) if oldest == newest => writeln!(text, "{stream}: event time is {} everywhere", time(oldest)),
            Some(oldest) => {
                let trail = spoken(Duration::from_millis((newest - oldest).unsigned_abs()));
                let partition = partitions[0].partition;
                writeln!(text, "{stream}: partition {partition} holds event time back, {trail} behind the newest")
            }
        };
        for at in partitions {
            let watermark = at.watermark.map_or("-".to_owned(), time);
            let windows = format!("{} windows wait", at.open_windows);
            let since = format!("unmoved for {}", spoken(at.still));
            let reason = at.reason(newest);
            let _ =
                writeln!(text, "  partition {:<3} {watermark:23}  {windows:>20}  {since:22}  {reason}", at.partition);
        }
    }
    if text.is_empty() { "no partition is assigned\n".to_owned() } else { text }
}

fn time(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms)
        .map_or_else(|_| ms.to_string(), |time| time.strftime("%Y-%m-%d %H:%M:%S%.3f").to_string())
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
        let cases = [
            (Standing { lag: 12, ..at(1, Some(noon - 3_600_000)) }, "lag: 12 records still to read"),
            (
                Standing { silence: seconds(252), ..at(1, Some(noon - 3_600_000)) },
                "idle: no record for 4m 12s; event time goes on by the clock in 48s",
            ),
            (
                Standing { silence: seconds(301), ..at(1, Some(noon - 3_600_000)) },
                "idle: no record for 5m 1s; its event time goes on by the clock",
            ),
            (
                Standing { silence: seconds(60), idle_timeout: None, ..at(1, Some(noon - 3_600_000)) },
                "idle: no record for 1m; idle_timeout is off, its windows wait for the next one",
            ),
            (
                at(1, Some(noon - 3_600_000)),
                "slow producer: all is read, and its events are 1h older than the stream's newest",
            ),
        ];
        for (held, reason) in cases {
            let text = explain(&[at(0, Some(noon)), held, at(2, None)]);
            let lines: Vec<&str> = text.lines().collect();
            assert_eq!(lines[0], "calls: partition 1 holds event time back, 1h behind the newest");
            assert!(lines[1].starts_with("  partition 1   2025-01-06 11:00:00.000"), "{text}");
            assert!(lines[1].ends_with(reason), "{text}");
            assert!(lines[2].ends_with("on time") && lines[3].ends_with("empty: no event yet"), "{text}");
        }
        assert_eq!(explain(&[]), "no partition is assigned\n");
        assert!(explain(&[at(0, Some(noon))]).starts_with("calls: event time is 2025-01-06 12:00:00.000 everywhere\n"));
    }

    #[test]
    fn spans_are_spoken_in_two_units() {
        for (seconds, expected) in [(0, "0s"), (59, "59s"), (252, "4m 12s"), (3_661, "1h 1m"), (90_061, "1d 1h")] {
            assert_eq!(spoken(Duration::from_secs(seconds)), expected);
        }
    }
}
