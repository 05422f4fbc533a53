//! `demo`: a broker, the three roles on a scenario whose faults are known, and the comparison of what they found with the truth.
//!
//! Everything of a run lies in one folder, the embedded broker's records included, and, on a Kafka that is not ours, in topics and
//! groups of its own: nothing is overwritten, and what a run says is about that run alone.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use cpu_time::ProcessTime;
use tidewatch_broker::Broker;
use tidewatch_kafka::{KafkaServer, StartOptions};
use tidewatch_processor::ProcessorConfig;
use tidewatch_producer::schedule::Pace;
use tidewatch_schemas::Record;
use tidewatch_schemas::catalogue::Topics;
use tidewatch_schemas::record::{Alert, Disorder};
use tidewatch_sink::config::OutputLocation;
use tidewatch_sink::{Stop, StopSignal, TopicKind};
use tidewatch_topic_io::{Admin, KafkaConfig, PartitionReader, StartAt};

use crate::cli::DemoArgs;
use crate::disorder;
use crate::embedded;
use crate::roles::{self, Outcome, Produce, Progresses, ReadyBy, Roles};
use crate::score;
use crate::settings::{Loaded, ProducerSettings, Settings, SettingsError};
use crate::shutdown::Shutdown;
use crate::summary::{Cpu, Report};

/// Where runs go, one numbered folder each.
const RUNS_FOLDER: &str = "tidewatch-demo";
/// The scenario that need not be named.
const SCENARIO: &str = "demo";
/// The embedded broker's folder in a run's.
const BROKER_FOLDER: &str = "broker";
/// Events per second of the clock when nothing else is asked for: well within what two cores manage, so that the latencies are
/// those of a pipeline that keeps up.
const RATE: f64 = 40_000.0;
/// Records of one read when alerts are compared with the truth.
const BATCH_MAX: usize = 1_000;
/// How long that may wait for a record.
const WAIT: Duration = Duration::from_millis(500);

/// Runs the demo.
///
/// # Errors
/// One line: no Kafka, no folder to write to, a role that failed, or a ledger that does not add up.
pub(crate) fn run(args: &DemoArgs, mut loaded: Loaded, colour: bool, shutdown: &Shutdown) -> anyhow::Result<()> {
    let scenario = loaded.settings.scenario()?;
    let pace = match loaded.settings.pace()? {
        Pace::Unlimited => Pace::Rate(RATE),
        pace => pace,
    };
    loaded.settings.validate()?;
    let is_given = loaded.layers.origin_is_set(&["kafka", "bootstrap_servers"]);
    if is_given && args.apache_kafka {
        let origin = loaded.layers.origin(&["kafka".to_owned(), "bootstrap_servers".to_owned()]);
        let problem =
            format!("{origin}: kafka.bootstrap_servers names a Kafka, and --apache-kafka starts one; leave one out");
        return Err(SettingsError::Invalid(problem).into());
    }
    let folder = run_folder(args.output.as_deref())?;
    crate::telemetry::log(&loaded.settings.telemetry, Some(&folder.join("tidewatch.log")), colour)?;
    if scenario.has_disorder() {
        let schemas = folder.join("schemas");
        loaded.watch_disorder(&schemas).with_context(|| format!("cannot write to {}", schemas.display()))?;
    }
    let settings = &mut loaded.settings;
    settings.sink.output = folder.join("results").display().to_string();
    let on = On::start(args, is_given, settings, &folder)?;
    let settings = &loaded.settings;
    Admin::connect(&settings.kafka)?.ensure_topics(&settings.topic_specs())?;
    let config = folder.join("tidewatch.toml");
    write_config(&config, settings, on.records(&folder).as_deref())?;
    let what = format!("{}: {}", scenario.name, scenario.description);
    say(&format!("Publishing, processing and storing in {}\n{what}\n", folder.display()));

    let roles = Roles {
        produce: Some(Produce { scenario: scenario.clone(), pace }),
        process: Some(processor_config(settings)?),
        sink: Some(settings.delivery()?),
        drain: true,
        ..Roles::default()
    };
    let progresses = std::sync::Arc::new(Progresses::default());
    crate::endpoint(settings, ReadyBy::Start, &progresses)?;
    let cpu = ProcessTime::now();
    let broker_before = embedded::cpu();
    let ran = roles::run(roles, settings, &progresses, shutdown);
    let outcome =
        ran.with_context(|| format!("the demo ended early, see {}", folder.join("tidewatch.log").display()))?;
    let cpu = Cpu::split(cpu.elapsed(), on.is_embedded().then(|| (broker_before, embedded::cpu())));
    let is_kept = on.is_embedded() || is_given || args.keep;
    let mut report = report(outcome, settings, &scenario, cpu)?;
    let brokers = is_given.then_some(settings.kafka.bootstrap_servers.as_str());
    let has_alerts = report.delivered.topics.get(&TopicKind::Alerts).is_some_and(|alerts| alerts.rows > 0);
    report.next = next_commands(&folder, is_kept, &settings.producer, brokers, has_alerts);
    writeln!(anstream::stdout(), "\n{}", report.render())?;
    if args.keep && !is_given {
        say(&format!("The broker stays at {} until Ctrl-C", settings.kafka.bootstrap_servers));
        while !shutdown.is_asked_for() {
            std::thread::sleep(Duration::from_millis(100));
        }
    }
    match report.problem() {
        Some(problem) => anyhow::bail!(problem),
        None => Ok(()),
    }
}

/// What a demo runs on; it ends with this.
enum On {
    /// A Kafka of the user's.
    Given { _folder: Option<Broker> },
    /// The embedded broker, whose records stay in the run's folder.
    Embedded { _broker: Broker },
    /// An Apache Kafka that was started here.
    Apache { _server: KafkaServer },
}

impl On {
    /// Starts what is to be started and points the settings at it.
    fn start(args: &DemoArgs, is_given: bool, settings: &mut Settings, folder: &Path) -> anyhow::Result<Self> {
        if is_given {
            // Two demos may begin in the same second.
            let run = format!("demo-{}-{}", jiff::Timestamp::now().as_second(), std::process::id());
            say(&format!("Using the Kafka at {}, topics {run}.*", settings.kafka.bootstrap_servers));
            keep_apart(settings, &run);
            return Ok(Self::Given { _folder: embedded::serve_folder(settings, true)? });
        }
        if args.apache_kafka {
            let version = tidewatch_kafka::version();
            say(&format!("Starting an Apache Kafka {version} (the first time Maven fetches it, some 50 MB)"));
            let server = KafkaServer::start(StartOptions { quiet: true, ..StartOptions::default() })?;
            settings.kafka = KafkaConfig::at(server.bootstrap_servers());
            return Ok(Self::Apache { _server: server });
        }
        let began = Instant::now();
        let broker = embedded::start(&settings.broker, &folder.join(BROKER_FOLDER))?;
        settings.kafka = embedded::at(&settings.kafka, &broker.bootstrap_servers());
        say(&format!("The embedded broker is ready after {} ms", began.elapsed().as_millis()));
        Ok(Self::Embedded { _broker: broker })
    }

    const fn is_embedded(&self) -> bool {
        matches!(self, Self::Embedded { .. })
    }

    /// Where the embedded broker's records are: the whole path, so that the run's settings are good from anywhere.
    fn records(&self, folder: &Path) -> Option<PathBuf> {
        let records = folder.join(BROKER_FOLDER);
        self.is_embedded().then(|| records.canonicalize().unwrap_or(records))
    }
}

/// What the processor of these settings runs on.
pub(crate) fn processor_config(settings: &Settings) -> anyhow::Result<ProcessorConfig> {
    Ok(ProcessorConfig {
        kafka: settings.kafka.clone(),
        streams: settings.streams()?,
        topics: settings.topics.clone(),
        settings: settings.processor.clone(),
    })
}

/// What the program is doing goes to standard error, results to standard output.
fn say(text: &str) {
    // Nobody can be told that standard error is closed.
    let _ = writeln!(anstream::stderr(), "{text}");
}

/// The folder of this run, made and seen to be writable.
fn run_folder(asked_for: Option<&Path>) -> anyhow::Result<PathBuf> {
    let folder = match asked_for {
        Some(folder) => folder.to_path_buf(),
        None => Path::new(RUNS_FOLDER).join(next_number(Path::new(RUNS_FOLDER)).to_string()),
    };
    let failed = || format!("cannot write to {} (choose another folder with --output)", folder.display());
    std::fs::create_dir_all(&folder).with_context(failed)?;
    let results = folder.join("results");
    anyhow::ensure!(
        !results.exists(),
        "{} holds the results of a run already, choose another folder with --output",
        folder.display()
    );
    std::fs::create_dir(&results).with_context(failed)?;
    Ok(folder)
}

fn next_number(runs: &Path) -> u32 {
    let names = std::fs::read_dir(runs).into_iter().flatten().flatten();
    let numbers = names.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    numbers.max().map_or(1, |last| last.saturating_add(1))
}

/// On a Kafka that is not ours: topics, groups and transactional id of this run alone.
fn keep_apart(settings: &mut Settings, run: &str) {
    let before = settings.topics.clone();
    let apart = |name: &str| format!("{run}.{name}");
    let Topics {
        service_calls,
        infrastructure,
        beacons,
        checks,
        metrics,
        forecasts,
        alerts,
        late,
        dead_letters,
        state,
        ledger,
        truth,
        score,
    } = &mut settings.topics;
    let inputs = [service_calls, infrastructure, beacons, checks, truth];
    let outputs = [metrics, forecasts, alerts, late, dead_letters, state, ledger, score];
    for name in inputs.into_iter().chain(outputs) {
        *name = apart(name);
    }
    for stream in &mut settings.streams {
        let is_ours =
            tidewatch_schemas::catalogue::STREAMS.iter().any(|ours| before.input(ours) == Some(&stream.topic));
        if is_ours {
            stream.topic = apart(&stream.topic);
        }
    }
    settings.processor.group_id = apart(&settings.processor.group_id);
    settings.sink.group_id = apart(&settings.sink.group_id);
}

/// The connection, the topics, the groups and the files of this run, for the commands that look at it later. Secrets are not copied.
fn write_config(path: &Path, settings: &Settings, records: Option<&Path>) -> anyhow::Result<()> {
    let section = |key: &str, value: String| toml::Table::from_iter([(key.to_owned(), value.into())]);
    let mut whole = toml::Table::new();
    let (head, address) = match records {
        Some(records) => {
            let records = records.display().to_string();
            let address = format!("{}{records}", embedded::FOLDER);
            whole.insert("broker".to_owned(), section("data", records).into());
            ("Where this run's records are: a command with these settings serves them for as long as it runs.", address)
        }
        None => {
            let address = settings.kafka.bootstrap_servers.clone();
            ("Where this run's records are. Security settings are not copied.", address)
        }
    };
    whole.insert("kafka".to_owned(), section("bootstrap_servers", address).into());
    whole.insert("topics".to_owned(), toml::Value::try_from(&settings.topics)?);
    whole.insert("processor".to_owned(), section("group_id", settings.processor.group_id.clone()).into());
    let results = Path::new(&settings.sink.output);
    let results = results.canonicalize().unwrap_or_else(|_| results.to_path_buf());
    let mut sink = section("group_id", settings.sink.group_id.clone());
    sink.insert("output".to_owned(), results.display().to_string().into());
    whole.insert("sink".to_owned(), sink.into());
    let text = format!("# {head}\n{}", toml::to_string(&whole)?);
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

fn report(
    outcome: Outcome,
    settings: &Settings,
    scenario: &tidewatch_producer::scenario::Scenario,
    cpu: Cpu,
) -> anyhow::Result<Report> {
    let disorder: Vec<Disorder> = read_all(&settings.kafka, &settings.topics.truth)?;
    let balance = crate::ledger::read(settings, false)?;
    let mut alerts: Vec<Alert> = read_all(&settings.kafka, &settings.topics.alerts)?;
    alerts.sort_by(|a, b| (&a.alert_id, a.sequence, a.revision).cmp(&(&b.alert_id, b.sequence, b.revision)));
    let drain = StopSignal::new();
    drain.request(Stop::Drain);
    let judgement = score::run(&settings.scoring()?, &score::Progress::default(), &drain)?;
    let delivery = settings.delivery()?;
    let OutputLocation::Folder(folder) = delivery.output else { anyhow::bail!("a demo stores in a folder") };
    Ok(Report {
        scenario: scenario.name.clone(),
        seed: settings.producer.seed,
        event_time: Duration::from_millis(scenario.duration_ms.unsigned_abs()),
        published: outcome.published.as_ref().map_or(0, tidewatch_producer::publisher::PublishSummary::events),
        disorder: disorder::compare(&disorder, &balance.partitions),
        balance,
        elapsed: outcome.elapsed,
        cpu,
        judgement,
        fingerprint: fingerprint(&alerts),
        accuracies: outcome.processed.map(|processed| processed.accuracies).unwrap_or_default(),
        delivered: outcome.delivered.unwrap_or_default(),
        folder,
        is_interrupted: outcome.is_interrupted,
        next: Vec::new(),
    })
}

/// All records of this kind, in the order of partitions and offsets; the truth topic has two kinds.
fn read_all<R: Record>(kafka: &KafkaConfig, topic: &str) -> anyhow::Result<Vec<R>> {
    let partitions = Admin::connect(kafka)?.partitions(topic)?;
    let mut reader = PartitionReader::new(kafka, true)?;
    let all: Vec<_> = (0..partitions).map(|partition| (topic, partition, StartAt::Beginning)).collect();
    reader.assign(&all)?;
    let mut records = Vec::new();
    while !reader.is_at_end() {
        for message in reader.read(BATCH_MAX, WAIT)?.iter() {
            let place = (message.partition(), message.offset());
            let value = message.value().unwrap_or_default();
            let Some(record) = score::decode::<R>(value) else { continue };
            records.push(record.with_context(|| format!("{topic} partition {} offset {}", place.0, place.1))?);
        }
    }
    Ok(records)
}

/// FNV-1a over the records' bytes.
fn fingerprint(alerts: &[Alert]) -> u64 {
    let mut bytes = Vec::new();
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for alert in alerts {
        bytes.clear();
        alert.encode(&mut bytes);
        hash = bytes.iter().fold(hash, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    }
    hash
}

/// The program as it is called from here.
fn program() -> String {
    let called = std::env::args().next().unwrap_or_else(|| "tidewatch".to_owned());
    let here = std::env::current_dir().unwrap_or_default();
    Path::new(&called).strip_prefix(here).map_or(called.clone(), |short| short.display().to_string())
}

fn next_commands(
    folder: &Path,
    is_kept: bool,
    producer: &ProducerSettings,
    brokers: Option<&str>,
    has_alerts: bool,
) -> Vec<(String, String)> {
    let program = program();
    let shown = folder.display();
    let lines = tidewatch_sink::delivery::ALERT_LINES_FOLDER;
    let look = if !has_alerts {
        (format!("find {shown}/results -type f"), "what was stored")
    } else if is_kept {
        let command = format!("{program} tap alerts --config {shown}/tidewatch.toml --filter state=opened");
        (command, "the alerts as they opened, from their topic; also metrics, forecasts, late, dead_letters, truth")
    } else {
        let command =
            format!("find {shown}/results/{lines} -name '*.jsonl' | xargs grep -h '\"state\":\"opened\"' | head -n 5");
        (command, "the first alerts, as JSON lines")
    };
    let mut again = format!("{program} demo --seed {}", producer.seed.saturating_add(1));
    if producer.scenario != SCENARIO {
        again += &format!(" --scenario {}", producer.scenario);
    }
    if let Some(brokers) = brokers {
        again += &format!(" --brokers {brokers}");
    }
    let again = (again, "another variant of the same");
    let own = (format!("{program} broker"), "a broker to try topics of your own on; the README goes on from here");
    [look, again, own].map(|(command, effect)| (command, effect.to_owned())).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_numbered_and_nothing_is_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(next_number(folder.path()), 1);
        for name in ["2", "10", "notes"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        assert_eq!(next_number(folder.path()), 11);
        let run = folder.path().join("mine");
        run_folder(Some(&run)).unwrap();
        let again = run_folder(Some(&run)).unwrap_err().to_string();
        assert!(again.contains("holds the results of a run already"), "{again}");
    }

    #[test]
    fn on_a_foreign_kafka_everything_is_apart() {
        let mut settings =
            crate::settings::load(Some(Path::new("/dev/null")), std::iter::empty(), []).unwrap().settings;
        keep_apart(&mut settings, "demo-1");
        assert!(settings.topic_specs().iter().all(|spec| spec.name.starts_with("demo-1.tidewatch.")));
        assert_eq!(settings.processor.group_id, "demo-1.tidewatch");
        assert_eq!(settings.topic_specs().len(), 13);
    }
}
