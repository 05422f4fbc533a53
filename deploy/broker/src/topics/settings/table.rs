//! Every topic setting of Kafka 4.1: its type, its bounds, its default, and whether it has an effect here.
//!
//! Source: Kafka's `TopicConfig` and `LogConfig`. A setting without effect is checked, kept and shown like any other; the
//! reason why nothing hangs on it here is its [`Effect::None`].

use super::InvalidSetting;

/// One setting of a topic.
#[derive(Debug)]
pub(crate) struct Setting {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// Kafka's default.
    pub(crate) default: &'static str,
    /// This broker's, where it is another one.
    pub(crate) own_default: Option<&'static str>,
    /// The broker's setting of the same meaning.
    pub(crate) broker_name: Option<&'static str>,
    pub(crate) effect: Effect,
    documentation: &'static str,
}

/// Whether a setting does anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// It is honoured.
    Honoured,
    /// Nothing hangs on it here, because: this.
    None(&'static str),
}

/// The values that a setting takes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Boolean,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// 32 bits.
    Int {
        min: i32,
        max: i32,
    },
    /// 64 bits.
    Long {
        min: i64,
    },
    /// From 0 to 1.
    Ratio,
    /// -1 or 1 to 9.
    GzipLevel,
    /// A list of these words; may be empty.
    List(&'static [&'static str]),
    /// `*` or a list of `partition:broker`.
    Replicas,
}

/// A value that was read and is within its bounds.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Boolean(bool),
    Text(String),
    Number(i64),
    Ratio(f64),
    List(Vec<String>),
}

impl std::fmt::Display for Value {
    /// As Kafka shows it: the value that was understood, not the text that was given.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Boolean(value) => write!(f, "{value}"),
            Self::Text(value) => f.write_str(value),
            Self::Number(value) => write!(f, "{value}"),
            Self::Ratio(value) => write!(f, "{value:?}"),
            Self::List(values) => f.write_str(&values.join(",")),
        }
    }
}

impl Setting {
    /// The setting of this name.
    pub(crate) fn find(name: &str) -> Option<&'static Self> {
        SETTINGS.iter().find(|setting| setting.name == name)
    }

    /// The default that is in force here.
    pub(crate) fn default_here(&self) -> &'static str {
        self.own_default.unwrap_or(self.default)
    }

    /// What it is, and why it has no effect here if it has none.
    pub(crate) fn documentation(&self) -> String {
        match self.effect {
            Effect::Honoured => self.documentation.to_owned(),
            Effect::None(reason) => format!("{} Without effect here: {reason}.", self.documentation),
        }
    }

    /// Whether Kafka shows it only where it was set: a setting for tests.
    pub(crate) fn is_internal(&self) -> bool {
        self.name.starts_with("internal.")
    }

    /// Reads a value; white space around it does not count.
    pub(crate) fn parse(&self, text: &str) -> Result<Value, InvalidSetting> {
        let text = text.trim();
        self.kind.parse(self.name, text).map_err(|(shown, problem)| InvalidSetting::Value {
            name: self.name,
            value: shown.unwrap_or_else(|| text.to_owned()),
            problem,
        })
    }
}

/// What is wrong with a value, and the part of it that is, if not all.
type Problem = (Option<String>, String);

impl Kind {
    /// The type's number in `DescribeConfigs`.
    pub(crate) fn code(self) -> i8 {
        match self {
            Self::Boolean => 1,
            Self::Choice(_) => 2,
            Self::Int { .. } | Self::GzipLevel => 3,
            Self::Long { .. } => 5,
            Self::Ratio => 6,
            Self::List(_) | Self::Replicas => 7,
        }
    }

    fn parse(self, name: &str, text: &str) -> Result<Value, Problem> {
        match self {
            Self::Boolean if text.eq_ignore_ascii_case("true") => Ok(Value::Boolean(true)),
            Self::Boolean if text.eq_ignore_ascii_case("false") => Ok(Value::Boolean(false)),
            Self::Boolean => Err((None, "Expected value to be either true or false".to_owned())),
            Self::Choice(words) => one_of(words, text).map(Value::Text),
            Self::Int { min, max } => within(int(text)?, min.into(), max.into()),
            Self::Long { min } => {
                let value = text.parse().map_err(|_| (None, "Not a number of type LONG".to_owned()))?;
                within(value, min, i64::MAX)
            }
            Self::Ratio => ratio(text),
            Self::GzipLevel => match int(text)? {
                value @ (-1 | 1..=9) => Ok(Value::Number(value)),
                _ => Err((None, "Value must be between 1 and 9 or equal to -1".to_owned())),
            },
            Self::List(words) => {
                list(text).into_iter().map(|word| one_of(words, &word)).collect::<Result<_, _>>().map(Value::List)
            }
            Self::Replicas => replicas(name, list(text)),
        }
    }
}

fn int(text: &str) -> Result<i64, Problem> {
    text.parse::<i32>().map(i64::from).map_err(|_| (None, "Not a number of type INT".to_owned()))
}

fn within(value: i64, min: i64, max: i64) -> Result<Value, Problem> {
    // Kafka names the number it has read, not the text.
    if value < min {
        return Err((Some(value.to_string()), format!("Value must be at least {min}")));
    }
    if value > max {
        return Err((Some(value.to_string()), format!("Value must be no more than {max}")));
    }
    Ok(Value::Number(value))
}

fn ratio(text: &str) -> Result<Value, Problem> {
    let value = text.parse::<f64>().ok().filter(|value| value.is_finite());
    let value = value.ok_or((None, "Not a number of type DOUBLE".to_owned()))?;
    match value {
        value if value < 0.0 => Err((Some(format!("{value:?}")), "Value must be at least 0".to_owned())),
        value if value > 1.0 => Err((Some(format!("{value:?}")), "Value must be no more than 1".to_owned())),
        value => Ok(Value::Ratio(value)),
    }
}

fn one_of(words: &[&str], word: &str) -> Result<String, Problem> {
    match words.contains(&word) {
        true => Ok(word.to_owned()),
        false => Err((Some(word.to_owned()), format!("String must be one of: {}", words.join(", ")))),
    }
}

/// The parts of a list; an empty text has none.
fn list(text: &str) -> Vec<String> {
    match text {
        "" => Vec::new(),
        text => text.split(',').map(|part| part.trim().to_owned()).collect(),
    }
}

fn replicas(name: &str, parts: Vec<String>) -> Result<Value, Problem> {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_pair = |part: &String| part.split_once(':').is_some_and(|(a, b)| is_number(a) && is_number(b));
    if parts == ["*"] || parts.iter().all(is_pair) {
        return Ok(Value::List(parts));
    }
    let shown = format!("[{}]", parts.join(", "));
    let form = "[partitionId]:[brokerId],[partitionId]:[brokerId],...";
    Err((Some(shown), format!("{name} must be the literal '*' or a list of replicas in the following format: {form}")))
}

const NO_REPLICAS: Effect = Effect::None("there is one node and no replica");
const NO_TIERS: Effect = Effect::None("there is no tiered storage");
const AS_SENT: Effect = Effect::None("batches are kept as the producer compressed them");

/// In the order of their names.
pub(crate) const SETTINGS: &[Setting] = &[
    Setting {
        name: "cleanup.policy",
        kind: Kind::List(&["compact", "delete"]),
        default: "delete",
        own_default: None,
        broker_name: Some("log.cleanup.policy"),
        effect: Effect::Honoured,
        documentation: "How old records go: 'delete' removes whole segments by age and size, 'compact' keeps the last record of each key; both may be set, none keeps everything.",
    },
    Setting {
        name: "compression.gzip.level",
        kind: Kind::GzipLevel,
        default: "-1",
        own_default: None,
        broker_name: Some("compression.gzip.level"),
        effect: AS_SENT,
        documentation: "The level of gzip where the broker compresses.",
    },
    Setting {
        name: "compression.lz4.level",
        kind: Kind::Int { min: 1, max: 17 },
        default: "9",
        own_default: None,
        broker_name: Some("compression.lz4.level"),
        effect: AS_SENT,
        documentation: "The level of lz4 where the broker compresses.",
    },
    Setting {
        name: "compression.type",
        kind: Kind::Choice(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"]),
        default: "producer",
        own_default: None,
        broker_name: Some("compression.type"),
        effect: AS_SENT,
        documentation: "The compression of the log. This broker keeps what the producer sent, as with 'producer'.",
    },
    Setting {
        name: "compression.zstd.level",
        kind: Kind::Int { min: -131_072, max: 22 },
        default: "3",
        own_default: None,
        broker_name: Some("compression.zstd.level"),
        effect: AS_SENT,
        documentation: "The level of zstd where the broker compresses.",
    },
    Setting {
        name: "delete.retention.ms",
        kind: Kind::Long { min: 0 },
        default: "86400000",
        own_default: None,
        broker_name: Some("log.cleaner.delete.retention.ms"),
        effect: Effect::Honoured,
        documentation: "How long tombstones and transaction markers of a compacted topic are kept, in milliseconds: the time in which a reader from the start sees all of them.",
    },
    Setting {
        name: "file.delete.delay.ms",
        kind: Kind::Long { min: 0 },
        default: "60000",
        own_default: None,
        broker_name: Some("log.segment.delete.delay.ms"),
        effect: Effect::None("files are deleted at once"),
        documentation: "The time between the removal of a segment and that of its file, in milliseconds.",
    },
    Setting {
        name: "flush.messages",
        kind: Kind::Long { min: 1 },
        default: "9223372036854775807",
        own_default: None,
        broker_name: Some("log.flush.interval.messages"),
        effect: Effect::None("the broker's flush interval holds for all topics"),
        documentation: "The number of records after which the log is synced to disk.",
    },
    Setting {
        name: "flush.ms",
        kind: Kind::Long { min: 0 },
        default: "9223372036854775807",
        own_default: None,
        broker_name: Some("log.flush.interval.ms"),
        effect: Effect::None("the broker's flush interval holds for all topics"),
        documentation: "The time after which the log is synced to disk, in milliseconds.",
    },
    Setting {
        name: "follower.replication.throttled.replicas",
        kind: Kind::Replicas,
        default: "",
        own_default: None,
        broker_name: None,
        effect: NO_REPLICAS,
        documentation: "The replicas whose replication is throttled on the follower's side.",
    },
    Setting {
        name: "index.interval.bytes",
        kind: Kind::Int { min: 0, max: i32::MAX },
        default: "4096",
        own_default: None,
        broker_name: Some("log.index.interval.bytes"),
        effect: Effect::None("the index is in memory and sized by the broker"),
        documentation: "The bytes of log between two entries of its offset index.",
    },
    Setting {
        name: "internal.segment.bytes",
        kind: Kind::Int { min: 1, max: i32::MAX },
        default: "",
        own_default: None,
        broker_name: None,
        effect: Effect::Honoured,
        documentation: "The size of a segment, for tests: stands above segment.bytes and has no lower bound.",
    },
    Setting {
        name: "leader.replication.throttled.replicas",
        kind: Kind::Replicas,
        default: "",
        own_default: None,
        broker_name: None,
        effect: NO_REPLICAS,
        documentation: "The replicas whose replication is throttled on the leader's side.",
    },
    Setting {
        name: "local.retention.bytes",
        kind: Kind::Long { min: -2 },
        default: "-2",
        own_default: None,
        broker_name: Some("log.local.retention.bytes"),
        effect: NO_TIERS,
        documentation: "The bytes that a partition of a tiered topic keeps on this node.",
    },
    Setting {
        name: "local.retention.ms",
        kind: Kind::Long { min: -2 },
        default: "-2",
        own_default: None,
        broker_name: Some("log.local.retention.ms"),
        effect: NO_TIERS,
        documentation: "How long a partition of a tiered topic keeps records on this node, in milliseconds.",
    },
    Setting {
        name: "max.compaction.lag.ms",
        kind: Kind::Long { min: 1 },
        default: "9223372036854775807",
        own_default: None,
        broker_name: Some("log.cleaner.max.compaction.lag.ms"),
        effect: Effect::Honoured,
        documentation: "The longest time that a record of a compacted topic stays out of compaction, in milliseconds.",
    },
    Setting {
        name: "max.message.bytes",
        kind: Kind::Int { min: 0, max: i32::MAX },
        default: "1048588",
        own_default: None,
        broker_name: Some("message.max.bytes"),
        effect: Effect::Honoured,
        documentation: "The largest record batch that is taken, in bytes, compressed if it comes so.",
    },
    Setting {
        name: "message.timestamp.after.max.ms",
        kind: Kind::Long { min: 0 },
        default: "3600000",
        own_default: None,
        broker_name: Some("log.message.timestamp.after.max.ms"),
        effect: Effect::Honoured,
        documentation: "How far a record's timestamp may be ahead of the broker's clock, in milliseconds. Not looked at with LogAppendTime.",
    },
    Setting {
        name: "message.timestamp.before.max.ms",
        kind: Kind::Long { min: 0 },
        default: "9223372036854775807",
        own_default: None,
        broker_name: Some("log.message.timestamp.before.max.ms"),
        effect: Effect::Honoured,
        documentation: "How far a record's timestamp may be behind the broker's clock, in milliseconds. Not looked at with LogAppendTime.",
    },
    Setting {
        name: "message.timestamp.type",
        kind: Kind::Choice(&["CreateTime", "LogAppendTime"]),
        default: "CreateTime",
        own_default: None,
        broker_name: Some("log.message.timestamp.type"),
        effect: Effect::Honoured,
        documentation: "Whether a record has the time that its producer gave it or that of its append.",
    },
    Setting {
        name: "min.cleanable.dirty.ratio",
        kind: Kind::Ratio,
        default: "0.5",
        own_default: None,
        broker_name: Some("log.cleaner.min.cleanable.ratio"),
        effect: Effect::Honoured,
        documentation: "The part of a compacted log that has to be new before it is compacted again.",
    },
    Setting {
        name: "min.compaction.lag.ms",
        kind: Kind::Long { min: 0 },
        default: "0",
        own_default: None,
        broker_name: Some("log.cleaner.min.compaction.lag.ms"),
        effect: Effect::Honoured,
        documentation: "The shortest time that a record of a compacted topic stays as it was written, in milliseconds.",
    },
    Setting {
        name: "min.insync.replicas",
        kind: Kind::Int { min: 1, max: i32::MAX },
        default: "1",
        own_default: None,
        broker_name: Some("min.insync.replicas"),
        effect: NO_REPLICAS,
        documentation: "The replicas that must have a record before a producer with acks=all is answered.",
    },
    Setting {
        name: "preallocate",
        kind: Kind::Boolean,
        default: "false",
        own_default: None,
        broker_name: Some("log.preallocate"),
        effect: Effect::None("segments grow as they are written"),
        documentation: "Whether the file of a new segment gets its full size at once.",
    },
    Setting {
        name: "remote.log.copy.disable",
        kind: Kind::Boolean,
        default: "false",
        own_default: None,
        broker_name: None,
        effect: NO_TIERS,
        documentation: "Whether a tiered topic copies no more segments.",
    },
    Setting {
        name: "remote.log.delete.on.disable",
        kind: Kind::Boolean,
        default: "false",
        own_default: None,
        broker_name: None,
        effect: NO_TIERS,
        documentation: "Whether a topic that is tiered no more loses what was copied.",
    },
    Setting {
        name: "remote.storage.enable",
        kind: Kind::Boolean,
        default: "false",
        own_default: None,
        broker_name: None,
        effect: Effect::Honoured,
        documentation: "Whether the topic is tiered. There is no tiered storage here: 'true' is refused.",
    },
    Setting {
        name: "retention.bytes",
        kind: Kind::Long { min: i64::MIN },
        default: "-1",
        own_default: None,
        broker_name: Some("log.retention.bytes"),
        effect: Effect::Honoured,
        documentation: "The bytes that a partition keeps under the policy 'delete', beyond which its oldest segments go. Negative: no bound.",
    },
    Setting {
        name: "retention.ms",
        kind: Kind::Long { min: -1 },
        default: "604800000",
        own_default: None,
        broker_name: Some("log.retention.ms"),
        effect: Effect::Honoured,
        documentation: "How long records are kept under the policy 'delete', in milliseconds, by the greatest timestamp of their segment. -1: for ever.",
    },
    Setting {
        name: "segment.bytes",
        kind: Kind::Int { min: 1 << 20, max: i32::MAX },
        default: "1073741824",
        own_default: Some("67108864"),
        broker_name: Some("log.segment.bytes"),
        effect: Effect::Honoured,
        documentation: "The size of a segment, in bytes. Retention and compaction work on whole segments that are no longer written.",
    },
    Setting {
        name: "segment.index.bytes",
        kind: Kind::Int { min: 4, max: i32::MAX },
        default: "10485760",
        own_default: None,
        broker_name: Some("log.index.size.max.bytes"),
        effect: Effect::None("the index is in memory and sized by the broker"),
        documentation: "The size of a segment's offset index, in bytes.",
    },
    Setting {
        name: "segment.jitter.ms",
        kind: Kind::Long { min: 0 },
        default: "0",
        own_default: None,
        broker_name: Some("log.roll.jitter.ms"),
        effect: Effect::None("one node's segments need not be spread"),
        documentation: "A random time by which a segment is rolled earlier, in milliseconds.",
    },
    Setting {
        name: "segment.ms",
        kind: Kind::Long { min: 1 },
        default: "604800000",
        own_default: None,
        broker_name: Some("log.roll.ms"),
        effect: Effect::Honoured,
        documentation: "The time after which a segment is no longer written, even if it is not full, in milliseconds.",
    },
    Setting {
        name: "unclean.leader.election.enable",
        kind: Kind::Boolean,
        default: "false",
        own_default: None,
        broker_name: Some("unclean.leader.election.enable"),
        effect: NO_REPLICAS,
        documentation: "Whether a replica that is behind may become the leader.",
    },
];
