//! From rows of a CSV file to messages: which columns count, and what a row says.
//!
//! Invariant: a row gives the same key and bytes whenever it is read; a row that cannot be read says why and changes nothing.

use super::timestamp;
use super::{EntitySource, ReplayError, ReplayJob};
use csv::{ByteRecord, StringRecord};
use tidewatch_schemas::entity;

/// Event times from 1970-01-01 up to, excluding, 2200-01-01.
const TIME_MS_MAX: i64 = 7_258_118_400_000;
/// The names under which a time column is looked for if none is named.
const TIME_COLUMNS: [&str; 6] = ["timestamp", "time", "ts", "date", "datetime", "event_time"];
/// The field of the time in a message.
const TIME_FIELD: &str = "timestamp";

/// Where everything is in a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Columns {
    width: usize,
    time: usize,
    values: Vec<(usize, String)>,
    entity: EntityColumns,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum EntityColumns {
    Columns(Vec<(usize, String)>),
    Literal { field: String, value: String },
}

/// A row as a message; buffers are reused from row to row.
#[derive(Debug, Default)]
pub(super) struct Row {
    pub(super) event_time: i64,
    pub(super) key: String,
    pub(super) json: Vec<u8>,
}

impl Columns {
    pub(super) fn choose(header: &StringRecord, job: &ReplayJob<'_>) -> Result<Self, ReplayError> {
        let names: Vec<&str> = header.iter().map(str::trim).collect();
        let missing = |what: &'static str, column: &str| ReplayError::MissingColumn {
            file: job.file.clone(),
            what,
            column: column.to_owned(),
            present: names.join(", "),
        };
        let find = |what: &'static str, column: &str| {
            names.iter().position(|name| *name == column).ok_or_else(|| missing(what, column))
        };
        let time = match &job.time_column {
            Some(column) => find("time", column)?,
            None => TIME_COLUMNS
                .iter()
                .find_map(|known| names.iter().position(|name| name.eq_ignore_ascii_case(known)))
                .ok_or_else(|| missing("time", TIME_FIELD))?,
        };
        let entity = match &job.entity {
            EntitySource::Literal { field, value } => {
                EntityColumns::Literal { field: field.clone(), value: value.clone() }
            }
            EntitySource::Columns(columns) => {
                let found: Result<Vec<_>, _> =
                    columns.iter().map(|column| Ok((find("entity", column)?, column.clone()))).collect();
                EntityColumns::Columns(found?)
            }
        };
        let taken = |at: usize| match &entity {
            EntityColumns::Columns(columns) => at == time || columns.iter().any(|(column, _)| *column == at),
            EntityColumns::Literal { .. } => at == time,
        };
        let values: Vec<(usize, String)> = if !job.value_columns.is_empty() {
            let found: Result<Vec<_>, _> =
                job.value_columns.iter().map(|column| Ok((find("value", column)?, column.clone()))).collect();
            found?
        } else if let Some(at) = names.iter().position(|name| *name == "value") {
            vec![(at, "value".to_owned())]
        } else {
            let others = names.iter().enumerate().filter(|(at, _)| !taken(*at));
            others.map(|(at, name)| (at, (*name).to_owned())).collect()
        };
        if values.is_empty() {
            return Err(missing("value", "value"));
        }
        Ok(Self { width: names.len(), time, values, entity })
    }

    /// Fills `row`, or says what is wrong with the record.
    pub(super) fn read(&self, record: &ByteRecord, row: &mut Row) -> Result<(), String> {
        if record.len() != self.width {
            return Err(format!("has {} columns instead of {}", record.len(), self.width));
        }
        let text = |at: usize| {
            std::str::from_utf8(&record[at]).map(str::trim).map_err(|_| format!("column {} is not UTF-8", at + 1))
        };
        let time = text(self.time)?;
        row.event_time = timestamp::parse(time).ok_or_else(|| format!("\"{time}\" is not a timestamp"))?;
        if !(0..TIME_MS_MAX).contains(&row.event_time) {
            return Err(format!("time \"{time}\" is not between 1970 and 2200"));
        }
        row.json.clear();
        row.json.push(b'{');
        row.key.clear();
        match &self.entity {
            EntityColumns::Literal { field, value } => {
                member(&mut row.json, field, &json_text(value));
                entity::join_into(&[value], &mut row.key);
            }
            EntityColumns::Columns(columns) => {
                let mut parts = Vec::with_capacity(columns.len());
                for (at, name) in columns {
                    let value = text(*at)?;
                    if value.is_empty() {
                        return Err(format!("entity column \"{name}\" is empty"));
                    }
                    member(&mut row.json, name, &json_text(value));
                    parts.push(value);
                }
                entity::join_into(&parts, &mut row.key);
            }
        }
        member(&mut row.json, TIME_FIELD, &row.event_time.to_string());
        let mut found = 0;
        for (at, name) in &self.values {
            let value = text(*at)?;
            // An empty field is a measure that the row does not have.
            if value.is_empty() {
                continue;
            }
            let number: f64 = value.parse().map_err(|_| format!("\"{value}\" in column \"{name}\" is not a number"))?;
            if !number.is_finite() {
                return Err(format!("\"{value}\" in column \"{name}\" is not a finite number"));
            }
            member(&mut row.json, name, &serde_json::Value::from(number).to_string());
            found += 1;
        }
        row.json.push(b'}');
        if found == 0 { Err("has no value".to_owned()) } else { Ok(()) }
    }
}

fn json_text(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn member(json: &mut Vec<u8>, name: &str, value: &str) {
    if json.len() > 1 {
        json.push(b',');
    }
    json.extend_from_slice(json_text(name).as_bytes());
    json.push(b':');
    json.extend_from_slice(value.as_bytes());
}
