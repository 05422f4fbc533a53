//! `topics create` and `topics list`.

use std::collections::BTreeMap;
use std::io::Write;

use tidewatch_topic_io::{Admin, TopicInfo};

use crate::settings::Settings;

/// Creates what is missing, and says so.
///
/// # Errors
/// A topic with another number of partitions, no right, or no answer.
pub(crate) fn create(settings: &Settings) -> anyhow::Result<()> {
    let specs = settings.topic_specs();
    let created = Admin::connect(&settings.kafka)?.ensure_topics(&specs)?;
    let mut out = std::io::stdout().lock();
    for spec in &specs {
        let what = if created.contains(&spec.name) { "created" } else { "exists" };
        writeln!(out, "{what:8} {}  {} partitions", spec.name, spec.partitions)?;
    }
    Ok(())
}

/// Lists the cluster's topics, ours with their roles.
///
/// # Errors
/// No answer.
pub(crate) fn list(settings: &Settings) -> anyhow::Result<()> {
    let topics = Admin::connect(&settings.kafka)?.list()?;
    let mut out = std::io::stdout().lock();
    write!(out, "{}", table(&topics, &roles(settings)))?;
    Ok(())
}

/// What our topics are, by name.
fn roles(settings: &Settings) -> BTreeMap<&str, String> {
    let names = settings.topics.with_schemas();
    let mut roles: BTreeMap<&str, String> =
        names.iter().map(|&(name, schema)| (name, schema.name().to_owned())).collect();
    for stream in &settings.streams {
        roles.insert(&stream.topic, format!("input of stream {}", stream.name));
    }
    roles
}

fn table(topics: &[TopicInfo], roles: &BTreeMap<&str, String>) -> String {
    let width = topics.iter().map(|topic| topic.name.len()).chain([5]).max().unwrap_or(5);
    let mut text = format!("{:width$}  partitions  replication  what it is\n", "topic");
    for topic in topics {
        let role = roles.get(topic.name.as_str()).map_or("-", String::as_str);
        text.push_str(&format!("{:width$}  {:>10}  {:>11}  {role}\n", topic.name, topic.partitions, topic.replication));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_says_what_ours_are() {
        let topic = |name: &str| TopicInfo { name: name.to_owned(), partitions: 4, replication: 1 };
        let text = table(&[topic("a.b"), topic("other")], &BTreeMap::from([("a.b", "alert".to_owned())]));
        assert_eq!(
            text,
            "topic  partitions  replication  what it is\na.b             4            1  alert\nother           4            1  -\n"
        );
    }
}
