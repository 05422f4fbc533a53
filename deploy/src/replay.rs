//! `replay`: a recorded CSV file to a topic.

use std::io::Write as _;

use anyhow::Context as _;
use tidewatch_producer::progress::Progress;
use tidewatch_producer::replay::{EntitySource, ReplayJob, ReplaySummary, replay};
use tidewatch_producer::schedule::Pace;
use tidewatch_topic_io::{Admin, TopicSpec};

use crate::cli::ReplayArgs;
use crate::live::{bytes, count, grouped};
use crate::settings::{Settings, SettingsError};
use crate::shutdown::Shutdown;

/// Publishes the file and says what became of its rows.
///
/// # Errors
/// A file that cannot be read, a broken row with `--strict`, or what Kafka refuses.
pub(crate) fn run(args: &ReplayArgs, settings: &Settings, shutdown: &Shutdown) -> anyhow::Result<()> {
    let (entity, pace) = (entity(&args.entity)?, pace(&args.speed)?);
    // Before a topic is made for it.
    std::fs::File::open(&args.file).with_context(|| format!("cannot read {}", args.file.display()))?;
    let admin = Admin::connect(&settings.kafka)?;
    let is_there = admin.list()?.iter().any(|topic| topic.name == args.topic);
    if !is_there {
        let TopicSpec { properties, .. } = TopicSpec::new(&args.topic, 1);
        let creation = &settings.topic_creation;
        let spec = TopicSpec {
            replication: creation.replication,
            properties,
            ..TopicSpec::new(&args.topic, creation.partitions)
        };
        admin.ensure_topics(&[spec])?;
    }
    let job = ReplayJob {
        file: args.file.clone(),
        topic: args.topic.clone(),
        partitions: admin.partitions(&args.topic)?,
        time_column: args.time_column.clone(),
        value_columns: args.values.clone(),
        entity,
        pace,
        strict: args.strict,
        kafka: &settings.kafka,
    };
    let summary = replay(&job, &Progress::new(), shutdown.flag())?;
    write!(std::io::stdout().lock(), "{}", told(&job, &summary))?;
    anyhow::ensure!(summary.failed == 0, "{} were not taken by Kafka", count(summary.failed, "row"));
    Ok(())
}

fn entity(text: &str) -> Result<EntitySource, SettingsError> {
    let wrong = || {
        SettingsError::Invalid(format!(
            "--entity {text}: write columns separated by commas, or field=value for one entity"
        ))
    };
    if let Some((field, value)) = text.split_once('=') {
        let source = EntitySource::Literal { field: field.to_owned(), value: value.to_owned() };
        return if field.is_empty() || value.is_empty() { Err(wrong()) } else { Ok(source) };
    }
    let columns: Vec<String> = text.split(',').map(|column| column.trim().to_owned()).collect();
    if columns.iter().any(String::is_empty) { Err(wrong()) } else { Ok(EntitySource::Columns(columns)) }
}

fn pace(text: &str) -> Result<Pace, SettingsError> {
    let pace = match text {
        "max" => Pace::Unlimited,
        "realtime" => Pace::Speed(1.0),
        times => {
            let wrong = |_| {
                SettingsError::Invalid(format!(
                    "--speed {text}: write realtime, max, or a number of times the recorded pace"
                ))
            };
            Pace::Speed(times.trim_end_matches('x').parse().map_err(wrong)?)
        }
    };
    match pace.problem() {
        Some(problem) => Err(SettingsError::Invalid(format!("--speed {text}: {problem}"))),
        None => Ok(pace),
    }
}

fn told(job: &ReplayJob<'_>, summary: &ReplaySummary) -> String {
    let rows = count(summary.published, "row");
    let mut text = format!("{rows} of {} sent to {} ({})", job.file.display(), job.topic, bytes(summary.bytes));
    if let Some((first, last)) = summary.event_times {
        let time =
            |ms| jiff::Timestamp::from_millisecond(ms).map_or_else(|_| format!("{ms} ms"), |time| time.to_string());
        text.push_str(&format!(", event time {} to {}", time(first), time(last)));
    }
    text.push('\n');
    for row in &summary.broken {
        text.push_str(&format!("skipped {}:{}: {}\n", job.file.display(), row.line, row.problem));
    }
    let more = summary.rows_broken.saturating_sub(summary.broken.len() as u64);
    if more > 0 {
        text.push_str(&format!("skipped {} more\n", grouped(more)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entity_and_speed_are_read_or_refused() {
        let columns = EntitySource::Columns(vec!["a".into(), "b".into()]);
        assert_eq!(entity("a, b").unwrap(), columns);
        assert_eq!(
            entity("host=web=1").unwrap(),
            EntitySource::Literal { field: "host".into(), value: "web=1".into() }
        );
        for wrong in ["", "a,", "=x", "x="] {
            assert!(entity(wrong).unwrap_err().to_string().contains("write columns"), "{wrong}");
        }
        assert!(matches!(pace("max"), Ok(Pace::Unlimited)));
        assert!(matches!(pace("realtime"), Ok(Pace::Speed(speed)) if speed == 1.0));
        assert!(matches!(pace("60x"), Ok(Pace::Speed(speed)) if speed == 60.0));
        for wrong in ["fast", "0", "-1", "nan"] {
            assert!(pace(wrong).unwrap_err().to_string().starts_with("--speed"), "{wrong}");
        }
    }
}
