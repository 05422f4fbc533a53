//! Recorded series: CSV files of a time, one value or several, and maybe a label, of any cadence and in any order.

use std::collections::HashMap;
use std::path::Path;

use anyhow::Context as _;
use tidewatch_processor_core::is_valid_event_time;

/// Times below this are numbers of hours, not seconds since 1970: a file that counts its rows.
const COUNTED_MAX: f64 = 1e8;
/// Times from these on are in ms and in µs since 1970; below, in seconds.
const MS_MIN: f64 = 1e11;
const MICROS_MIN: f64 = 1e14;
/// The cadence of a series of which nothing is known: fewer than two times.
const STEP_MS: i64 = 60_000;
/// What columns may be called.
const TIMES: [&str; 6] = ["timestamp", "timestamps", "time", "date", "datetime", "ds"];
const LABELS: [&str; 3] = ["label", "is_anomaly", "anomaly"];

/// Which columns of a file are values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Values<'a> {
    /// The one that is called `value`, else the second; the third is the label if none is called so.
    One,
    /// All but the time and what is called a label.
    All,
    /// The one of this name, and no label.
    Named(&'a str),
}

/// A row of a file.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Row {
    /// ms since 1970.
    pub(crate) time_ms: i64,
    /// As the file has it.
    pub(crate) is_anomalous: bool,
}

/// A series of one value or several, its rows as they are in the file.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    /// What its values are called.
    pub(crate) columns: Vec<String>,
    pub(crate) rows: Vec<Row>,
    /// Row by row.
    values: Vec<f64>,
    /// Its rows say whether they are anomalous.
    pub(crate) has_labels: bool,
}

impl Series {
    pub(crate) fn new(columns: Vec<String>, has_labels: bool) -> Self {
        Self { columns, rows: Vec::new(), values: Vec::new(), has_labels }
    }

    /// Reads a file: a header, then a time and values, and maybe a label, in columns of these names, or in this order.
    pub(crate) fn read(file: &Path, wanted: Values<'_>) -> anyhow::Result<Self> {
        let mut all = Self::read_by(file, wanted, None)?;
        Ok(all.swap_remove(0).1)
    }

    /// Reads a file of several series, of which a column names the one that a row is of: each with its name, in their order there.
    pub(crate) fn read_by(file: &Path, wanted: Values<'_>, by: Option<&str>) -> anyhow::Result<Vec<(String, Self)>> {
        let mut reader = csv::Reader::from_path(file).with_context(|| format!("cannot read {}", file.display()))?;
        let header = reader.headers().with_context(|| format!("{}: no header", file.display()))?.clone();
        let columns = Columns::of(&header, wanted).with_context(|| file.display().to_string())?;
        let by = by.map(|by| column(&header, by)).transpose().with_context(|| file.display().to_string())?;
        let names: Vec<String> = columns.values.iter().map(|&at| name(&header, at)).collect();
        let (mut all, mut places) = (Vec::new(), HashMap::new());
        for record in reader.records() {
            let record = record.with_context(|| file.display().to_string())?;
            let line = record.position().map_or(0, csv::Position::line);
            let at = |column: usize| format!("{}:{line}, column `{}`", file.display(), name(&header, column));
            let cell = |column: usize| record.get(column).unwrap_or_default().trim();
            let of = by.map_or_else(|| stem(file), |by| cell(by).to_owned());
            let place = *places.entry(of.clone()).or_insert_with(|| {
                all.push((of, Self::new(names.clone(), columns.label.is_some())));
                all.len() - 1
            });
            let series = &mut all[place].1;
            let time_ms = time_ms(cell(columns.time)).with_context(|| at(columns.time))?;
            for &column in &columns.values {
                series.values.push(value_of(cell(column)).with_context(|| at(column))?);
            }
            let label = |column| label_of(cell(column), columns.label_is_named).with_context(|| at(column));
            let label = columns.label.map(label);
            series.rows.push(Row { time_ms, is_anomalous: label.transpose()?.unwrap_or(false) });
        }
        anyhow::ensure!(!all.is_empty(), "{}: no rows", file.display());
        Ok(all)
    }

    #[cfg(test)]
    pub(crate) fn push(&mut self, row: Row, values: &[f64]) {
        assert_eq!(values.len(), self.columns.len());
        self.rows.push(row);
        self.values.extend(values);
    }

    /// The values of a row; not a number where the file has none.
    pub(crate) fn values(&self, row: usize) -> &[f64] {
        &self.values[row * self.columns.len()..][..self.columns.len()]
    }

    #[cfg(test)]
    pub(crate) fn values_mut(&mut self, row: usize) -> &mut [f64] {
        let columns = self.columns.len();
        &mut self.values[row * columns..][..columns]
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

/// Where a file has what.
struct Columns {
    time: usize,
    values: Vec<usize>,
    label: Option<usize>,
    /// Whether it is called so, and not just the third.
    label_is_named: bool,
}

impl Columns {
    fn of(header: &csv::StringRecord, wanted: Values<'_>) -> anyhow::Result<Self> {
        let named =
            |names: &[&str]| header.iter().position(|name| names.contains(&name.trim().to_ascii_lowercase().as_str()));
        let or_at = |named: Option<usize>, at: usize| named.or((at < header.len()).then_some(at));
        let time = named(&TIMES).unwrap_or(0);
        let first = header.get(time).unwrap_or_default();
        anyhow::ensure!(
            time_ms(first).is_err(),
            "the first line begins with data, `{first}`; write a header, such as timestamp,value,label"
        );
        let label = named(&LABELS).filter(|label| *label != time);
        let label_is_named = label.is_some();
        let (values, label) = match wanted {
            Values::One => {
                let value = or_at(named(&["value"]), 1).filter(|value| *value != time);
                let label = or_at(label, 2).filter(|label| *label != time && Some(*label) != value);
                (value.into_iter().collect(), label)
            }
            Values::Named(value) => (vec![column(header, value)?], None),
            Values::All => ((0..header.len()).filter(|&at| at != time && Some(at) != label).collect(), label),
        };
        let columns = Self { time, values, label, label_is_named };
        anyhow::ensure!(
            !columns.values.is_empty(),
            "no column of values; a time, numbers and maybe a label are wanted, such as timestamp,value,label"
        );
        Ok(columns)
    }
}

/// The place of a column of this name.
fn column(header: &csv::StringRecord, wanted: &str) -> anyhow::Result<usize> {
    anyhow::ensure!(!header.is_empty(), "no header; write one, such as timestamp,value");
    let place = header.iter().position(|name| name.trim() == wanted);
    place.with_context(|| format!("no column `{wanted}`, but {}", header.iter().collect::<Vec<_>>().join(", ")))
}

/// What a file is called, without its folder and its extension.
pub(crate) fn stem(file: &Path) -> String {
    file.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

fn name(header: &csv::StringRecord, at: usize) -> String {
    match header.get(at).unwrap_or_default().trim() {
        "" => format!("column {}", at + 1),
        name => name.to_owned(),
    }
}

/// A column that is called a label has to be one. Where the third is taken for it, it may be anything.
fn label_of(text: &str, is_named: bool) -> anyhow::Result<bool> {
    let number = text.parse::<f64>().ok();
    let label = match number {
        Some(1.0) => Some(true),
        Some(0.0) => Some(false),
        None if text.eq_ignore_ascii_case("true") => Some(true),
        None if text.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    };
    let label = label.or((!is_named).then_some(number.is_some()));
    label.with_context(|| format!("`{text}` is no label; write 1 of an anomaly and 0 of all else"))
}

fn value_of(text: &str) -> anyhow::Result<f64> {
    if text.is_empty() {
        return Ok(f64::NAN);
    }
    text.parse().map_err(|_| {
        anyhow::anyhow!("`{text}` is no number; leave the cell empty where there is none, or take the column out")
    })
}

/// A time as text, in ms since 1970: RFC 3339 or the like, or a number in seconds, ms or µs since 1970; a small one counts hours.
pub(crate) fn time_ms(text: &str) -> anyhow::Result<i64> {
    let time_ms = any_time_ms(text.trim())?;
    anyhow::ensure!(is_valid_event_time(time_ms), "`{text}` is before 1970 or after 2199, where no event time is");
    Ok(time_ms)
}

fn any_time_ms(text: &str) -> anyhow::Result<i64> {
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
            Series::read(&file, Values::One)
        };
        let series = read("value,timestamp\n3,1767690600\n1,1767690000\n,1767690300\n").unwrap();
        assert_eq!(series.in_order(), [1, 2, 0]);
        assert_eq!(series.step_ms(), 300_000);
        assert!(series.values(2)[0].is_nan());
        assert_eq!(series.columns, ["value"]);
        assert!(!series.has_labels);
        let labelled = read("timestamp,value,is_anomaly\n1,2,0\n2,2,1\n3,2,True\n").unwrap();
        assert_eq!(labelled.rows.iter().map(|row| row.is_anomalous).collect::<Vec<_>>(), [false, true, true]);
        for (text, words) in [
            ("", "no column of values"),
            ("timestamp\n1\n", "no column of values"),
            ("timestamp,value\n", "no rows"),
            ("1767690000,7\n", "series.csv: the first line begins with data, `1767690000`; write a header"),
            ("timestamp,value\n1,x\n", "series.csv:2, column `value`: `x` is no number"),
            ("timestamp,value\n1,2\nsoon,2\n", "series.csv:3, column `timestamp`: `soon` is no time"),
            ("timestamp,value\n1949-01-01 00:00:00,2\n", "is before 1970"),
        ] {
            let error = format!("{:#}", read(text).unwrap_err());
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn files_of_several_values() {
        let folder = tempfile::tempdir().unwrap();
        let read = |text: &str| {
            let file = folder.path().join("machine.csv");
            std::fs::write(&file, text).unwrap();
            Series::read(&file, Values::All)
        };
        let series = read("cpu,time,label,,mem\n1,1767690300,0,NaN,3\n4,1767690000,1,5,\n").unwrap();
        assert_eq!(series.columns, ["cpu", "column 4", "mem"]);
        assert_eq!(series.rows.iter().map(|row| row.is_anomalous).collect::<Vec<_>>(), [false, true]);
        assert_eq!((series.values(0)[0], series.values(1)[1]), (1.0, 5.0));
        assert!(series.values(0)[1].is_nan() && series.values(1)[2].is_nan());
        assert!(!read("timestamp,a,b,c\n1,2,3,4\n").unwrap().has_labels);
        for (text, words) in [
            ("timestamp,label\n1,0\n", "machine.csv: no column of values"),
            ("timestamp,a,b\n1,2,3\n2,3,up\n", "machine.csv:3, column `b`: `up` is no number; leave the cell empty"),
            ("timestamp,a,label\n1,2,2\n", "machine.csv:2, column `label`: `2` is no label; write 1"),
            ("timestamp,a,label\n1,2,\n", "machine.csv:2, column `label`: `` is no label"),
            ("timestamp,a,b\n1,2\n", "machine.csv: CSV error: record 1 (line: 2"),
        ] {
            let error = format!("{:#}", read(text).unwrap_err());
            assert!(error.contains(words), "{error}");
        }
    }
}
