//! The table of settings against Kafka 4.1's (printed from its `LogConfig`), the messages against its answers.

use super::table::{Effect, Kind, SETTINGS, Setting};
use super::{InvalidSetting, Overrides, TopicSettings};

/// `name | type's code | default | the broker's name`, as Kafka 4.1.0 prints them.
const KAFKA: &str = "\
cleanup.policy | 7 | delete | log.cleanup.policy
compression.gzip.level | 3 | -1 | compression.gzip.level
compression.lz4.level | 3 | 9 | compression.lz4.level
compression.type | 2 | producer | compression.type
compression.zstd.level | 3 | 3 | compression.zstd.level
delete.retention.ms | 5 | 86400000 | log.cleaner.delete.retention.ms
file.delete.delay.ms | 5 | 60000 | log.segment.delete.delay.ms
flush.messages | 5 | 9223372036854775807 | log.flush.interval.messages
flush.ms | 5 | 9223372036854775807 | log.flush.interval.ms
follower.replication.throttled.replicas | 7 |  | -
index.interval.bytes | 3 | 4096 | log.index.interval.bytes
internal.segment.bytes | 3 |  | -
leader.replication.throttled.replicas | 7 |  | -
local.retention.bytes | 5 | -2 | log.local.retention.bytes
local.retention.ms | 5 | -2 | log.local.retention.ms
max.compaction.lag.ms | 5 | 9223372036854775807 | log.cleaner.max.compaction.lag.ms
max.message.bytes | 3 | 1048588 | message.max.bytes
message.timestamp.after.max.ms | 5 | 3600000 | log.message.timestamp.after.max.ms
message.timestamp.before.max.ms | 5 | 9223372036854775807 | log.message.timestamp.before.max.ms
message.timestamp.type | 2 | CreateTime | log.message.timestamp.type
min.cleanable.dirty.ratio | 6 | 0.5 | log.cleaner.min.cleanable.ratio
min.compaction.lag.ms | 5 | 0 | log.cleaner.min.compaction.lag.ms
min.insync.replicas | 3 | 1 | min.insync.replicas
preallocate | 1 | false | log.preallocate
remote.log.copy.disable | 1 | false | -
remote.log.delete.on.disable | 1 | false | -
remote.storage.enable | 1 | false | -
retention.bytes | 5 | -1 | log.retention.bytes
retention.ms | 5 | 604800000 | log.retention.ms
segment.bytes | 3 | 1073741824 | log.segment.bytes
segment.index.bytes | 3 | 10485760 | log.index.size.max.bytes
segment.jitter.ms | 5 | 0 | log.roll.jitter.ms
segment.ms | 5 | 604800000 | log.roll.ms
unclean.leader.election.enable | 1 | false | unclean.leader.election.enable
";

fn overrides(of: &[(&str, &str)]) -> Overrides {
    of.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn the_table_is_kafkas() {
    let mut printed = String::new();
    for setting in SETTINGS {
        let broker_name = setting.broker_name.unwrap_or("-");
        printed += &format!("{} | {} | {} | {broker_name}\n", setting.name, setting.kind.code(), setting.default);
    }
    assert_eq!(printed, KAFKA);
    assert!(SETTINGS.is_sorted_by_key(|setting| setting.name));
    assert!(SETTINGS.iter().all(|setting| setting.documentation().ends_with('.')));
}

#[test]
fn the_defaults_of_the_table_are_those_of_the_settings() {
    let defaults = SETTINGS.iter().filter(|setting| !setting.is_internal());
    let written = defaults.map(|setting| (setting.name.to_owned(), setting.default_here().to_owned())).collect();
    assert_eq!(TopicSettings::default().with(&written).unwrap(), TopicSettings::default());
    assert_eq!(TopicSettings::default().with(&Overrides::new()).unwrap(), TopicSettings::default());
}

#[test]
fn what_is_said_to_be_honoured_changes_something_and_the_rest_does_not() {
    for setting in SETTINGS {
        let other = match setting.kind {
            Kind::Boolean => "true",
            Kind::Choice(words) => words.iter().find(|word| **word != setting.default).unwrap(),
            Kind::Int { .. } | Kind::Long { .. } => "2000000",
            Kind::Ratio => "0.25",
            Kind::GzipLevel => "7",
            Kind::List(_) => "compact",
            Kind::Replicas => "0:1",
        };
        let other = if setting.name == "compression.lz4.level" { "2" } else { other };
        let other = if setting.name == "compression.zstd.level" { "2" } else { other };
        // A change shows in the settings, or is refused.
        let has_effect =
            TopicSettings::default().with(&overrides(&[(setting.name, other)])) != Ok(TopicSettings::default());
        assert_eq!(has_effect, setting.effect == Effect::Honoured, "{}", setting.name);
    }
}

#[test]
fn values_are_read_and_shown_as_kafka_does() {
    for (name, text, shown) in [
        ("retention.ms", " 5 ", "5"),
        ("retention.ms", "+5", "5"),
        ("retention.ms", "-1", "-1"),
        ("retention.bytes", "-9223372036854775808", "-9223372036854775808"),
        ("preallocate", "TRUE", "true"),
        ("cleanup.policy", " delete , compact ", "delete,compact"),
        ("cleanup.policy", "", ""),
        ("cleanup.policy", "compact,compact", "compact,compact"),
        ("min.cleanable.dirty.ratio", "1", "1.0"),
        ("min.cleanable.dirty.ratio", "0.25", "0.25"),
        ("compression.gzip.level", "-1", "-1"),
        ("message.timestamp.type", "LogAppendTime", "LogAppendTime"),
        ("leader.replication.throttled.replicas", "*", "*"),
        ("leader.replication.throttled.replicas", "0:1, 1:1", "0:1,1:1"),
    ] {
        let value = Setting::find(name).unwrap().parse(text).unwrap();
        assert_eq!(value.to_string(), shown, "{name}={text}");
    }
}

#[test]
fn bad_settings_are_refused_in_kafkas_words() {
    let check = |of: &[(&str, &str)], message: &str| {
        assert_eq!(TopicSettings::default().with(&overrides(of)).unwrap_err().to_string(), message);
    };
    let value = |name: &str, value: &str, problem: &str| {
        check(&[(name, value)], &format!("Invalid value {value} for configuration {name}: {problem}"));
    };
    check(&[("nope", "1")], "Unknown topic config name: nope");
    check(&[("message.downconversion.enable", "true")], "Unknown topic config name: message.downconversion.enable");
    check(&[("retention.ms", "x"), ("zzz", "1")], "Unknown topic config name: zzz");
    value("retention.ms", "abc", "Not a number of type LONG");
    value("retention.ms", "", "Not a number of type LONG");
    value("retention.ms", "-2", "Value must be at least -1");
    value("retention.ms", "9223372036854775808", "Not a number of type LONG");
    value("segment.bytes", "1000", "Value must be at least 1048576");
    value("segment.bytes", "4294967296", "Not a number of type INT");
    value("compression.gzip.level", "0", "Value must be between 1 and 9 or equal to -1");
    value("compression.lz4.level", "18", "Value must be no more than 17");
    value("min.insync.replicas", "0", "Value must be at least 1");
    value("preallocate", "yes", "Expected value to be either true or false");
    value("min.cleanable.dirty.ratio", "1.5", "Value must be no more than 1");
    value("min.cleanable.dirty.ratio", "x", "Not a number of type DOUBLE");
    value("min.cleanable.dirty.ratio", "NaN", "Not a number of type DOUBLE");
    value("cleanup.policy", "foo", "String must be one of: compact, delete");
    value("message.timestamp.type", "create", "String must be one of: CreateTime, LogAppendTime");
    value("compression.type", "foo", "String must be one of: uncompressed, zstd, lz4, snappy, gzip, producer");
    check(
        &[("cleanup.policy", "delete,foo")],
        "Invalid value foo for configuration cleanup.policy: String must be one of: compact, delete",
    );
    check(
        &[("leader.replication.throttled.replicas", "x")],
        "Invalid value [x] for configuration leader.replication.throttled.replicas: \
         leader.replication.throttled.replicas must be the literal '*' or a list of replicas in the following format: \
         [partitionId]:[brokerId],[partitionId]:[brokerId],...",
    );
    check(
        &[("min.compaction.lag.ms", "5"), ("max.compaction.lag.ms", "2")],
        "conflict topic config setting min.compaction.lag.ms (5) > max.compaction.lag.ms (2)",
    );
    assert_eq!(
        TopicSettings::default().with(&overrides(&[("remote.storage.enable", "true")])),
        Err(InvalidSetting::TieredStorage)
    );
}

#[test]
fn the_setting_for_tests_stands_above_the_other() {
    let of = overrides(&[("segment.bytes", "2097152"), ("internal.segment.bytes", "100")]);
    let settings = TopicSettings::default().with(&of).unwrap();
    assert_eq!(settings.segment_bytes, 100);
    // What a topic sets stands above what the broker sets for all.
    assert_eq!(settings.with(&overrides(&[("segment.bytes", "2097152")])).unwrap().segment_bytes, 2_097_152);
}
