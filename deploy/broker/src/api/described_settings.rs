//! A topic's settings as they are shown: the value in force, where it comes from, and what it would be without.
//!
//! Source: `DescribeConfigsResponse.ConfigSource` and `ConfigHelper` of Apache Kafka.

use crate::topics::settings::Overrides;
use crate::topics::settings::table::{SETTINGS, Setting};

/// Kafka gives these no default: other settings of its broker, in hours or of a scheduler, stand behind them.
const WITHOUT_DEFAULT: [&str; 4] = ["log.flush.interval.ms", "log.retention.ms", "log.roll.jitter.ms", "log.roll.ms"];

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// It was set for the topic.
    Topic,
    /// It was set for the broker when it was started.
    Broker,
    /// Nobody set it.
    Default,
}

impl Source {
    /// Its number in the protocol.
    pub(crate) fn code(self) -> i8 {
        match self {
            Self::Topic => 1,
            Self::Broker => 4,
            Self::Default => 5,
        }
    }
}

/// One setting of a topic.
#[derive(Debug)]
pub(crate) struct Described {
    pub(crate) setting: &'static Setting,
    pub(crate) value: String,
    pub(crate) source: Source,
    /// The values that it has, by the places that give one: the first is in force.
    pub(crate) synonyms: Vec<(&'static str, String, Source)>,
}

/// All settings of a topic, in the order of their names, given what the broker and the topic set.
pub(crate) fn all(broker: &Overrides, topic: &Overrides) -> Vec<Described> {
    let is_shown = |setting: &&Setting| !setting.is_internal() || topic.contains_key(setting.name);
    SETTINGS.iter().filter(is_shown).map(|setting| describe(setting, broker, topic)).collect()
}

fn describe(setting: &'static Setting, broker: &Overrides, topic: &Overrides) -> Described {
    let of_topic = topic.get(setting.name).map(|text| (setting.name, shown(setting, text), Source::Topic));
    let of_broker = broker.get(setting.name).map(String::as_str).or(setting.own_default);
    let broker_name = setting.broker_name.unwrap_or(setting.name);
    let of_broker = of_broker.map(|text| (broker_name, shown(setting, text), Source::Broker));
    let default = (broker_name, shown(setting, setting.default), Source::Default);
    let (_, value, source) = of_topic.clone().or_else(|| of_broker.clone()).unwrap_or_else(|| default.clone());
    let has_default = setting.broker_name.is_some_and(|name| !WITHOUT_DEFAULT.contains(&name));
    let default = has_default.then_some(default);
    Described { setting, value, source, synonyms: [of_topic, of_broker, default].into_iter().flatten().collect() }
}

/// A value as it was understood.
fn shown(setting: &Setting, text: &str) -> String {
    setting.parse(text).map_or_else(|_| text.to_owned(), |value| value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, broker: &[(&str, &str)], topic: &[(&str, &str)], expected: &str) {
        let overrides =
            |of: &[(&str, &str)]| of.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let described = all(&overrides(broker), &overrides(topic));
        let described = described.iter().find(|described| described.setting.name == name);
        let printed = described.map_or_else(String::new, |described| {
            let synonyms = described.synonyms.iter().map(|(name, value, source)| format!(" {name}={value} {source:?}"));
            format!("{} {:?}:{}", described.value, described.source, synonyms.collect::<String>())
        });
        assert_eq!(printed, expected, "{name}");
    }

    #[test]
    fn values_stand_above_each_other_as_in_kafka() {
        let set = ("cleanup.policy", " delete , compact ");
        check("cleanup.policy", &[], &[], "delete Default: log.cleanup.policy=delete Default");
        check(
            "cleanup.policy",
            &[],
            &[set],
            "delete,compact Topic: cleanup.policy=delete,compact Topic log.cleanup.policy=delete Default",
        );
        check(
            "cleanup.policy",
            &[("cleanup.policy", "compact")],
            &[],
            "compact Broker: log.cleanup.policy=compact Broker log.cleanup.policy=delete Default",
        );
        // This broker's own default is as if it were set at its start.
        check(
            "segment.bytes",
            &[],
            &[],
            "67108864 Broker: log.segment.bytes=67108864 Broker log.segment.bytes=1073741824 Default",
        );
        check("remote.storage.enable", &[], &[], "false Default:");
        check("retention.ms", &[], &[], "604800000 Default:");
        check("retention.ms", &[], &[("retention.ms", "5")], "5 Topic: retention.ms=5 Topic");
        check("internal.segment.bytes", &[], &[], "");
        check(
            "internal.segment.bytes",
            &[],
            &[("internal.segment.bytes", "10")],
            "10 Topic: internal.segment.bytes=10 Topic",
        );
    }
}
