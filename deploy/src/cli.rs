//! The command line. Flags that set a setting are its last layer; [`Cli::flags`] lists them.

use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
use tidewatch_schemas::dead_letter::Reason;

use crate::settings::{FlagValue, LogFormat};

/// Watches telemetry on Kafka and writes back, exactly once, what it saw.
#[derive(Debug, Parser)]
#[command(
    name = "tidewatch",
    version,
    max_term_width = 110,
    propagate_version = true,
    after_help = "Examples:
  tidewatch                                      the demo: a broker, a million events, a summary
  tidewatch broker                               a broker to try things on, for the commands below and any Kafka client
  tidewatch up --brokers kafka:9092              producer, processor and sink on a Kafka of yours
  tidewatch config show                          the settings in force, and where each came from

Exit codes: 0 done, 1 failed, 75 no progress though there is input (start it again), 78 settings or flags have to \
change, 130 ended at once by a second Ctrl-C."
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Flags that every command takes.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Of every command")]
pub(crate) struct Global {
    /// Settings file [default: tidewatch.toml in the working folder, if there is one]
    #[arg(long, global = true, value_name = "FILE", env = "TIDEWATCH_CONFIG", hide_env_values = true)]
    pub config: Option<PathBuf>,
    /// Kafka's bootstrap servers, host:port separated by commas; or folder:DIR, a data folder of `tidewatch broker`
    #[arg(long, global = true, value_name = "HOST:PORT")]
    pub brokers: Option<String>,
    /// Log level or directives: error, warn, info, debug, trace, "info,tidewatch_sink=debug"
    #[arg(long, global = true, value_name = "LEVEL", env = "RUST_LOG", hide_env_values = true)]
    pub log: Option<String>,
    /// How log lines are written
    #[arg(long, global = true, value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
    /// Colours: on a terminal unless NO_COLOR is set, always, or never
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub color: Colour,
}

/// When output is coloured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Colour {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// What to do.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the whole pipeline on synthetic telemetry and compare its alerts with the truth (the default)
    #[command(after_help = "Examples:
  tidewatch demo                                 on the embedded broker, whose data stay in the run's folder
  tidewatch demo --seed 7 --keep                 other faults; the broker stays for any Kafka client until Ctrl-C
  tidewatch demo --brokers localhost:9092        on a Kafka of yours, in topics of its own
  tidewatch demo --apache-kafka                  fetches and starts an Apache Kafka (needs Java 17 and Maven)
  tidewatch demo --scenario my.toml --rate 20000 a scenario of yours, 20,000 events a second")]
    Demo(DemoArgs),
    /// Publish synthetic telemetry with labelled faults
    #[command(after_help = "Examples:
  tidewatch produce --scenario steady --rate 50000
  tidewatch produce --scenario demo --speed 3600 an hour of event time a second")]
    Produce(ProduceArgs),
    /// Watch the declared streams and write what is seen back to Kafka
    #[command(
        long_about = "Watch the declared streams and write what is seen back to Kafka

A topic that holds a history already can be learnt from first: with bootstrap = \"earliest\" in its [[stream]] it is read from its \
                      beginning, and no alert is told that opened in what it held when it was first seen.",
        after_help = "Examples:
  tidewatch process --config shop.toml           streams as declared there
  tidewatch process --drain                      end when all input is processed
  tidewatch process --explain-watermark          which partition holds windows open, and why
  curl http://127.0.0.1:9464/watermarks          the same of one that is running"
    )]
    Process(ProcessArgs),
    /// Store results as Parquet and JSON lines
    #[command(after_help = "Examples:
  tidewatch sink --output /data/tidewatch
  tidewatch sink --drain                         end when all results are stored")]
    Sink(SinkArgs),
    /// Hold the alerts against the truth, and publish what was found of the injected faults
    #[command(
        long_about = "Hold the alerts against the truth, and publish what was found of the injected faults.

Precision, recall, F1, delay from onset and false alarms per entity and week, by kind, detector, severity, region and tenant: as records \
                      on the score topic, on /metrics where telemetry.listen says so, and as a table at the end. It reads the \
                      topics of truth, alerts and metrics from their beginnings and joins no group; the processor never reads the \
                      truth.

A fault is found if an alert of its entity opens or is updated in a window that overlaps it, or begins within score.delay_max of its \
                      onset; one alert finds one fault. Alerts that overlap no fault of their entity and no such time are false. A \
                      fault that was not found is missed once event time has come past it, and pending until then.",
        after_help = "Examples:
  tidewatch score                                follows the topics until Ctrl-C
  tidewatch score --drain                        the score of all that there is
  tidewatch score --drain --config tidewatch-demo/1/tidewatch.toml   of a demo
  tidewatch tap score --filter dimension=total   what was published"
    )]
    Score(ScoreArgs),
    /// Run producer, processor and sink until Ctrl-C, creating topics that are missing
    #[command(after_help = "Examples:
  tidewatch up --brokers localhost:9092 --scenario demo --speed 60
  curl http://127.0.0.1:9464/metrics             while it runs")]
    Up(UpArgs),
    /// Run the embedded broker alone: a Kafka for development, without Java
    #[command(
        long_about = "Run the embedded broker alone: a Kafka for development, without Java.

It speaks the Kafka protocol to any client, transactions and consumer groups included, and keeps its records over restarts. It is \
                      for development: one node, no replication, no authentication, no encryption. For production run Apache Kafka.

A killed broker loses nothing that it has acknowledged. After a power loss the last --flush-interval may be missing.",
        after_help = "Examples:
  tidewatch broker                               on 127.0.0.1:9092, where all commands look for one
  tidewatch broker --data /data/dev --port 9093
  tidewatch broker --memory --port 0             nothing is kept; on a free port
  tidewatch broker --data tidewatch-demo/1/broker   the records of a demo
  tidewatch broker --data /data/dev --repair     after damage: says what it cuts"
    )]
    Broker(BrokerArgs),
    /// Create the topics, or list what is there
    #[command(after_help = "Examples:
  tidewatch topics create --brokers localhost:9092
  tidewatch topics list")]
    Topics {
        /// Which
        #[command(subcommand)]
        action: TopicsAction,
    },
    /// Show, check or explain the settings
    #[command(after_help = "Examples:
  tidewatch config show                          what is in force, secrets left out
  tidewatch config check --config shop.toml      names the first problem, exit code 78
  tidewatch config reference > tidewatch.toml    every setting with unit, default and effect")]
    Config {
        /// Which
        #[command(subcommand)]
        action: ConfigAction,
    },
    /// Publish a recorded CSV file as JSON messages
    #[command(after_help = "Examples:
  tidewatch replay cpu.csv --topic cpu --entity host=web-1
  tidewatch replay calls.csv --topic calls --time-column at --value duration --value bytes --entity service,instance --speed 60
  tidewatch replay cpu.csv --topic cpu --entity host=web-1 --speed realtime --strict")]
    Replay(ReplayArgs),
    /// Print a topic's records as JSON lines
    #[command(after_help = "Examples:
  tidewatch tap alerts --filter state=opened --filter severity=critical
  tidewatch tap tidewatch.metrics.v1 --follow | jq .entity
  tidewatch tap metrics --filter labels.service=checkout --limit 3")]
    Tap(TapArgs),
    /// Say what became of every input record, and what of the results is stored
    #[command(
        long_about = "Say what became of every input record, and what of the results is stored.

For each input partition: read = scored + late + dead-lettered + duplicate + filtered, since the processor's group began, as it \
                      committed it in the transactions of its work; and what of the results Delivery has in its files. For a \
                      pipeline that runs or one that has ended; it joins no group and changes nothing.

To go: offsets from its last transaction to the input's end, none if no record is among them: the end of a transaction takes one too.

Exit code 1, with one line that says where: a record that nothing explains, offsets in no transaction or in two, more stored than \
                      was written; files that Delivery stored and that are gone or cut short, files beside them that it did not \
                      store. Where old files are removed on purpose, or `sink.output` was another one before, --allow-removed takes \
                      those that are gone for well: they are still told, but no one can tell them from those that were lost.

A record of this group on the ledger topic that cannot be read is an error until a good one or a tombstone comes under its key.",
        after_help = "Examples:
  tidewatch ledger                               the balance by stream and partition
  tidewatch ledger --json | jq .total            as one JSON object
  tidewatch ledger --allow-removed               where old files of results are removed on purpose
  tidewatch ledger --config tidewatch-demo/1/tidewatch.toml   of a demo"
    )]
    Ledger(LedgerArgs),
    /// List, show or put back records that could not be read
    #[command(
        long_about = "List, show or put back records that could not be read.

A dead letter is the original record on the dead-letter topic, with headers that say what was wrong (the names of KIP-1034). It can be \
                      put back on its topic and partition, repaired or as it was: after a change of the settings, for example.",
        after_help = "Examples:
  tidewatch dead-letters list --reason missing-field --since 2h
  tidewatch dead-letters show 0:17               everything about one, as text or as a hexdump
  tidewatch dead-letters replay --stream calls   puts them back; doing it twice does nothing
  tidewatch dead-letters list --json > letters.jsonl   edit the values, then: replay --file letters.jsonl"
    )]
    DeadLetters {
        /// Which
        #[command(subcommand)]
        action: DeadLettersAction,
    },
    /// Print completions for a shell
    #[command(after_help = "Examples:
  tidewatch completions bash > ~/.local/share/bash-completion/completions/tidewatch
  tidewatch completions zsh > ~/.zfunc/_tidewatch")]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// What is published.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct ScenarioArgs {
    /// A shipped scenario (demo, disorder, drift, smoke, steady) or a scenario file
    #[arg(long, value_name = "NAME|FILE")]
    pub scenario: Option<String>,
    /// Which variant of it; the same seed gives the same bytes
    #[arg(long, value_name = "N")]
    pub seed: Option<u32>,
    /// How many events, over the same span of event time [default: the scenario's]
    #[arg(long, value_name = "N")]
    pub events: Option<u64>,
    /// Events per second [default: as fast as possible; demo: 40000]
    #[arg(long, value_name = "PER_SECOND", conflicts_with = "speed")]
    pub rate: Option<f64>,
    /// Times as fast as event time, instead of a rate
    #[arg(long, value_name = "TIMES")]
    pub speed: Option<f64>,
}

/// Of `demo`.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct DemoArgs {
    #[command(flatten)]
    pub scenario: ScenarioArgs,
    /// Folder of this run [default: tidewatch-demo/1, 2, 3, ...]
    #[arg(long, value_name = "DIR")]
    pub output: Option<PathBuf>,
    /// Leave the broker running after the summary, until Ctrl-C
    #[arg(long)]
    pub keep: bool,
    /// Fetch an Apache Kafka and run on that, instead of the embedded broker; needs Java 17 and Maven
    #[arg(long)]
    pub apache_kafka: bool,
}

/// Of `broker`.
#[derive(Args, Clone, Debug)]
pub(crate) struct BrokerArgs {
    /// Folder of the records, made if it is missing [default: tidewatch-broker]
    #[arg(long, value_name = "DIR", conflicts_with = "memory")]
    pub data: Option<String>,
    /// Keep the records in memory, gone with the broker
    #[arg(long)]
    pub memory: bool,
    /// Port to listen on, 0 for a free one [default: 9092]
    #[arg(long, value_name = "N")]
    pub port: Option<u16>,
    /// Address to listen on; nobody is asked who they are [default: 127.0.0.1]
    #[arg(long, value_name = "ADDR")]
    pub host: Option<String>,
    /// Host that clients are told to connect to [default: the address listened on]
    #[arg(long, value_name = "HOST")]
    pub advertise: Option<String>,
    /// Longest time from a write to its fsync, what a power loss may cost; 0s: synced before it is answered [default: 1s]
    #[arg(long, value_name = "SPAN")]
    pub flush_interval: Option<String>,
    /// Cut a damaged log at its first bad byte, and say what is cut, instead of refusing to start
    #[arg(long, conflicts_with = "memory")]
    pub repair: bool,
}

/// Of `produce`.
#[derive(Args, Clone, Debug)]
pub(crate) struct ProduceArgs {
    #[command(flatten)]
    pub scenario: ScenarioArgs,
}

/// Of `process`.
#[derive(Args, Clone, Debug)]
pub(crate) struct ProcessArgs {
    /// End when everything that there is has been processed, instead of at Ctrl-C
    #[arg(long)]
    pub drain: bool,
    /// Say every five seconds how far event time has come in each partition, what holds it back, and how many windows wait
    #[arg(long)]
    pub explain_watermark: bool,
}

/// Of `sink`.
#[derive(Args, Clone, Debug)]
pub(crate) struct SinkArgs {
    /// Folder or file:// URL that receives the files
    #[arg(long, value_name = "DIR|URL")]
    pub output: Option<String>,
    /// End when everything that there is has been stored, instead of at Ctrl-C
    #[arg(long)]
    pub drain: bool,
}

/// Of `score`.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct ScoreArgs {
    /// End when everything that there is has been read, instead of at Ctrl-C
    #[arg(long)]
    pub drain: bool,
}

/// Of `up`.
#[derive(Args, Clone, Debug)]
pub(crate) struct UpArgs {
    #[command(flatten)]
    pub scenario: ScenarioArgs,
    /// Folder or file:// URL that receives the files
    #[arg(long, value_name = "DIR|URL")]
    pub output: Option<String>,
}

/// Of `topics`.
#[derive(Clone, Copy, Debug, Subcommand)]
pub(crate) enum TopicsAction {
    /// Create those that are missing; existing ones must have the partitions of `topic_creation.partitions`
    Create,
    /// List all topics of the cluster; ours are marked with what they are
    List,
}

/// Of `config`.
#[derive(Clone, Copy, Debug, Subcommand)]
pub(crate) enum ConfigAction {
    /// The settings in force and where each came from; secrets are left out
    Show,
    /// Check all settings without connecting
    Check,
    /// Every setting with unit, default and effect, as a file to start from
    Reference,
}

/// Of `replay`.
#[derive(Args, Clone, Debug)]
pub(crate) struct ReplayArgs {
    /// A CSV file with a header line
    pub file: PathBuf,
    /// The topic; it is created if it is missing
    #[arg(long)]
    pub topic: String,
    /// Column of the time [default: the first of timestamp, time, ts, date, datetime, event_time]
    #[arg(long, value_name = "COLUMN")]
    pub time_column: Option<String>,
    /// Column of a number, may be repeated [default: value, or all other columns]
    #[arg(long = "value", value_name = "COLUMN")]
    pub values: Vec<String>,
    /// Whose telemetry: columns separated by commas, or field=value for one entity
    #[arg(long, value_name = "COLUMNS|FIELD=VALUE")]
    pub entity: String,
    /// "realtime", "max", or times the recorded pace
    #[arg(long, default_value = "max")]
    pub speed: String,
    /// End at the first broken row instead of skipping and counting it
    #[arg(long)]
    pub strict: bool,
}

/// Of `dead-letters`.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum DeadLettersAction {
    /// One line per dead letter, and how many there are of each reason
    #[command(after_help = "Examples:
  tidewatch dead-letters list --stream calls --limit 20
  tidewatch dead-letters list --since 2026-01-06T09:00:00Z
  tidewatch dead-letters list --json | jq -r .error")]
    List {
        #[command(flatten)]
        filter: LetterFilter,
        /// End after so many
        #[arg(long, value_name = "N")]
        limit: Option<u64>,
        /// JSON lines with everything, as `replay --file` reads them; what is no text is in base64
        #[arg(long)]
        json: bool,
    },
    /// Everything about one: where it was, what was wrong, its headers, key and value
    #[command(after_help = "Examples:
  tidewatch dead-letters show 0:17
  tidewatch dead-letters show 0:17 --full | less")]
    Show {
        /// Partition and offset on the dead-letter topic, as `list` prints them
        #[arg(value_name = "PARTITION:OFFSET")]
        letter: crate::dead_letters::Place,
        /// All of a long key, value or header; else the first kilobyte
        #[arg(long)]
        full: bool,
    },
    /// Put records back on the topic and partition that they came from
    #[command(
        long_about = "Put records back on the topic and partition that they came from.

Each gets the header tidewatch-replayed-from: dead-letter-topic-partition@offset. Records and the note of what was put back are one \
                      transaction, so that nothing is put back twice, also if this is interrupted and begun again; the note is \
                      kept as offsets of the consumer group DEAD-LETTER-TOPIC.replay, for all processors of the topic. The records \
                      are read as new ones: those whose windows have closed go to the late topic.

A record that fails again is another letter. It is left out, or it would fail for ever: repair it (--file), or, after a change of the \
                      settings, put it back as it is (--failed-again).",
        after_help = "Examples:
  tidewatch dead-letters replay --dry-run        says what it would do
  tidewatch dead-letters replay --reason undecodable --stream calls
  tidewatch dead-letters list --json > letters.jsonl
  tidewatch dead-letters replay --file letters.jsonl   after key, value or headers were edited there"
    )]
    Replay(LetterReplayArgs),
}

/// Which dead letters.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct LetterFilter {
    /// Only those of this stream
    #[arg(long, value_name = "NAME")]
    pub stream: Option<String>,
    /// Only those with this reason
    #[arg(long, value_name = "REASON", value_parser = PossibleValuesParser::new(Reason::ALL.map(Reason::as_str)))]
    pub reason: Option<String>,
    /// Only those whose record's timestamp is not before this: a time (RFC 3339), or how long ago (2h)
    #[arg(long, value_name = "TIME|SPAN")]
    pub since: Option<crate::dead_letters::Since>,
}

/// Of `dead-letters replay`.
#[derive(Args, Clone, Debug)]
pub(crate) struct LetterReplayArgs {
    #[command(flatten)]
    pub filter: LetterFilter,
    /// The records of this file instead of those on the topic: edited lines of `list --json`
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Also those whose records had been put back before and failed again, each once
    #[arg(long)]
    pub failed_again: bool,
    /// All once more, also those that were put back before
    #[arg(long)]
    pub again: bool,
    /// Say what would be put back, and write nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// Of `tap`.
#[derive(Args, Clone, Debug)]
pub(crate) struct TapArgs {
    /// The topic's name, or alerts, metrics, forecasts, late, dead_letters, ledger, truth, score, checks, ...
    pub topic: String,
    /// Go on with what is written from now on, until Ctrl-C
    #[arg(long, short)]
    pub follow: bool,
    /// End after so many records
    #[arg(long, value_name = "N")]
    pub limit: Option<u64>,
    /// Only records whose field has this value; dots reach into nested fields; may be repeated, then all must hold
    #[arg(long = "filter", value_name = "FIELD=VALUE")]
    pub filters: Vec<crate::tap::Filter>,
}

/// Of `ledger`.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct LedgerArgs {
    /// As one JSON object, for programs
    #[arg(long)]
    pub json: bool,
    /// Results that were stored and are gone from the output are told and no error
    #[arg(long)]
    pub allow_removed: bool,
}

impl Cli {
    /// The settings that flags set.
    pub(crate) fn flags(&self) -> Vec<FlagValue> {
        let mut flags = Vec::new();
        let mut add = |keys: &'static [&'static str], value: Option<toml::Value>, flag| {
            flags.extend(value.map(|value| (keys, value, flag)));
        };
        let text = |text: &Option<String>| text.clone().map(toml::Value::from);
        add(&["kafka", "bootstrap_servers"], text(&self.global.brokers), "--brokers");
        add(&["telemetry", "log"], text(&self.global.log), "--log");
        let format = self.global.log_format.map(|format| if format == LogFormat::Json { "json" } else { "text" });
        add(&["telemetry", "log_format"], format.map(toml::Value::from), "--log-format");
        let (scenario, output) = match &self.command {
            Some(Command::Demo(args)) => (Some(&args.scenario), None),
            Some(Command::Produce(args)) => (Some(&args.scenario), None),
            Some(Command::Up(args)) => (Some(&args.scenario), args.output.clone()),
            Some(Command::Sink(args)) => (None, args.output.clone()),
            _ => (None, None),
        };
        if let Some(Command::Broker(args)) = &self.command {
            add(&["broker", "data"], text(&args.data), "--data");
            add(&["broker", "port"], args.port.map(|port| i64::from(port).into()), "--port");
            add(&["broker", "host"], text(&args.host), "--host");
            add(&["broker", "advertised_host"], text(&args.advertise), "--advertise");
            add(&["broker", "flush_interval"], text(&args.flush_interval), "--flush-interval");
        }
        add(&["sink", "output"], output.map(toml::Value::from), "--output");
        if let Some(args) = scenario {
            add(&["producer", "scenario"], text(&args.scenario), "--scenario");
            add(&["producer", "seed"], args.seed.map(|seed| i64::from(seed).into()), "--seed");
            let events = args.events.map(|events| i64::try_from(events).unwrap_or(i64::MAX).into());
            add(&["producer", "events"], events, "--events");
            add(&["producer", "rate"], args.rate.map(toml::Value::from), "--rate");
            add(&["producer", "speed"], args.speed.map(toml::Value::from), "--speed");
        }
        flags
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn every_reason_can_be_chosen() {
        let parsed = |reason| Cli::try_parse_from(["tidewatch", "dead-letters", "list", "--reason", reason]);
        assert!(Reason::ALL.iter().all(|reason| parsed(reason.as_str()).is_ok()));
        let refused = parsed("nosuch").unwrap_err().to_string();
        assert!(refused.contains("[possible values: null-value, undecodable, "), "{refused}");
    }

    #[test]
    fn the_definition_is_sound_and_every_help_has_examples() {
        let mut command = Cli::command();
        command.clone().debug_assert();
        for sub in command.get_subcommands_mut() {
            let help = sub.render_long_help().to_string();
            assert!(help.contains("Examples:\n  tidewatch "), "{help}");
        }
    }

    #[test]
    fn flags_become_settings() {
        let cli = Cli::parse_from(["tidewatch", "demo", "--brokers", "b:1", "--seed", "7", "--rate", "20000"]);
        let flags = cli.flags();
        let found: Vec<&str> = flags.iter().map(|&(_, _, flag)| flag).filter(|flag| *flag != "--log").collect();
        assert_eq!(found, ["--brokers", "--seed", "--rate"]);
        let cli = Cli::parse_from(["tidewatch", "broker", "--data", "d", "--port", "0", "--flush-interval", "0s"]);
        let found: Vec<&str> = cli.flags().iter().map(|&(_, _, flag)| flag).filter(|flag| *flag != "--log").collect();
        assert_eq!(found, ["--data", "--port", "--flush-interval"]);
        for wrong in ["broker --memory --data d", "broker --memory --repair"] {
            let words = ["tidewatch"].into_iter().chain(wrong.split(' '));
            assert!(Cli::try_parse_from(words).is_err(), "{wrong}");
        }
        assert!(Cli::try_parse_from(["tidewatch", "demo", "--rate", "1", "--speed", "2"]).is_err());
    }
}
