//! Recorded series: CSV files of a time, a value and maybe a label, of any cadence and in any order.

use std::path::Path;

use anyhow::Context as _;

/// Times below this are numbers of hours, not seconds since 1970: a file that counts its rows.
const COUNTED_MAX: f64 = 1e8;
/// Times from these on are in ms and in µs since 1970; below, in seconds.
const MS_MIN: f64 = 1e11;
const MICROS_MIN: f64 = 1e14;
/// The cadence of a series of which nothing is known: fewer than two times.
const STEP_MS: i64 = 60_000;

/// A row of a file.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Row {
    /// ms since 1970.
    pub(crate) time_ms: i64,
    /// Not a number where the file has none.
    pub(crate) value: f64,
    /// As the file has it.
    pub(crate) is_anomalous: bool,
}

/// A series, its rows as they are in the file.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    pub(crate) rows: Vec<Row>,
    /// Its rows say whether they are anomalous.
    pub(crate) has_labels: bool,
}

impl Series {
    /// Reads a file: a header, then `timestamp,value` or `timestamp,value,label` in columns of these names, or in this order.
    pub(crate) fn read(file: &Path) -> anyhow::Result<Self> {
        let mut reader = csv::Reader::from_path(file).with_context(|| format!("cannot read {}", file.display()))?;
        let header = reader.headers().with_context(|| format!("{}: no header", file.display()))?.clone();
        let column = |names: &[&str], at: usize| {
            let named = header.iter().position(|name| names.contains(&name.trim().to_ascii_lowercase().as_str()));
            named.or((at < header.len()).then_some(at))
        };
        let time = column(&["timestamp", "timestamps", "time", "date", "datetime"], 0);
        let value = column(&["value"], 1);
        let (Some(time), Some(value)) = (time, value) else {
            anyhow::bail!("{}: one column; a time and a value are wanted", file.display());
        };
        let label = column(&["label", "is_anomaly", "anomaly"], 2).filter(|label| *label != time && *label != value);
        let mut rows = Vec::new();
        for (number, record) in (2..).zip(reader.records()) {
            let at = || format!("{}:{number}", file.display());
            let record = record.with_context(at)?;
            let time_ms = time_ms(record.get(time).unwrap_or_default()).with_context(at)?;
            let value = value_of(record.get(value).unwrap_or_default().trim()).with_context(at)?;
            let is_anomalous = label.and_then(|label| record.get(label)).is_some_and(|label| is_yes(label.trim()));
            rows.push(Row { time_ms, value, is_anomalous });
        }
        anyhow::ensure!(!rows.is_empty(), "{}: no rows", file.display());
        Ok(Self { rows, has_labels: label.is_some() })
    }

    /// The numbers of the rows by time; of the same time, as they are in the file.
    pub(crate) fn in_order(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.rows.len()).collect();
        order.sort_by_key(|&at| self.rows[at].time_ms);
        order
    }

    /// The time from row to row: the median of those that are not 0.
    pub(crate) fn step_ms(&self) -> i64 {
        let order = self.in_order();
        let step = |pair: &[usize]| self.rows[pair[1]].time_ms - self.rows[pair[0]].time_ms;
        let mut steps: Vec<i64> = order.windows(2).map(step).filter(|step| *step > 0).collect();
        steps.sort_unstable();
        steps.get(steps.len() / 2).copied().unwrap_or(STEP_MS)
    }
}

fn is_yes(label: &str) -> bool {
    label.parse::<f64>().map_or_else(|_| label.eq_ignore_ascii_case("true"), |number| number != 0.0)
}

fn value_of(text: &str) -> anyhow::Result<f64> {
    if text.is_empty() {
        return Ok(f64::NAN);
    }
    text.parse().with_context(|| format!("`{text}` is no number"))
}

/// A time as text, in ms since 1970: RFC 3339 or the like, or a number in seconds, ms or µs since 1970; a small one counts hours.
pub(crate) fn time_ms(text: &str) -> anyhow::Result<i64> {
    let text = text.trim();
    if let Ok(number) = text.parse::<f64>() {
        anyhow::ensure!(number.is_finite() && number >= 0.0, "`{text}` is no time since 1970");
        let ms = match number {
            _ if number < COUNTED_MAX => 3_600_000.0,
            _ if number < MS_MIN => 1_000.0,
            _ if number < MICROS_MIN => 1.0,
            _ => 0.001,
        };
        return Ok((number * ms) as i64);
    }
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Ok(time.as_millisecond());
    }
    let time: jiff::civil::DateTime = text.parse().map_err(|_| {
        anyhow::anyhow!("`{text}` is no time; write 2026-01-06T09:00:00Z, 2026-01-06 09:00:00, or a number since 1970")
    })?;
    Ok(time.to_zoned(jiff::tz::TimeZone::UTC)?.timestamp().as_millisecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_every_usual_form() {
        for (text, expected) in [
            ("2026-01-06T09:00:00Z", 1_767_690_000_000),
            ("2026-01-06 09:00:00", 1_767_690_000_000),
            ("2026-01-06T10:00:00+01:00", 1_767_690_000_000),
            ("1767690000", 1_767_690_000_000),
            ("1767690000000", 1_767_690_000_000),
            ("1767690000000000", 1_767_690_000_000),
            ("7", 7 * 3_600_000),
        ] {
            assert_eq!(time_ms(text).unwrap(), expected, "{text}");
        }
        for text in ["", "soon", "-5", "NaN"] {
            assert!(time_ms(text).is_err(), "{text}");
        }
    }

    #[test]
    fn files_in_any_order_with_gaps_and_without_labels() {
        let folder = tempfile::tempdir().unwrap();
        let read = |text: &str| {
            let file = folder.path().join("series.csv");
            std::fs::write(&file, text).unwrap();
            Series::read(&file)
        };
        let series = read("value,timestamp\n3,1767690600\n1,1767690000\n,1767690300\n").unwrap();
        assert_eq!(series.in_order(), [1, 2, 0]);
        assert_eq!(series.step_ms(), 300_000);
        assert!(series.rows[2].value.is_nan());
        assert!(!series.has_labels);
        let labelled = read("timestamp,value,is_anomaly\n1,2,0\n2,2,1\n3,2,True\n").unwrap();
        assert_eq!(labelled.rows.iter().map(|row| row.is_anomalous).collect::<Vec<_>>(), [false, true, true]);
        for (text, words) in [
            ("timestamp\n1\n", "one column"),
            ("timestamp,value\n", "no rows"),
            ("timestamp,value\n1,x\n", "series.csv:2: `x` is no number"),
            ("timestamp,value\n1,2\nsoon,2\n", "series.csv:3: `soon` is no time"),
        ] {
            let error = format!("{:#}", read(text).unwrap_err());
            assert!(error.contains(words), "{error}");
        }
    }
}
