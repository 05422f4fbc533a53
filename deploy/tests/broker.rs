//! `tidewatch broker` through the real binary: what it serves it keeps, how it ends, and what a person reads when it cannot start
//! or cannot write.

#![allow(clippy::unwrap_used)] // The helpers are tests too.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use rdkafka::config::ClientConfig;
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::message::Message as _;
use rdkafka::producer::{FutureProducer, FutureRecord, Producer as _};
use tempfile::TempDir;
use tidewatch_test_brokers::BrokerProcess;
use tidewatch_topic_io::{Admin, KafkaConfig, Outgoing, PartitionReader, StartAt, TopicSpec, Writer};

/// Ends a test that has failed; nothing that succeeds waits for it.
const PATIENCE: Duration = Duration::from_secs(60);

fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_tidewatch"))
}

/// A test's folder: the broker's data and what it says.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn data(&self) -> PathBuf {
        self.0.path().join("data")
    }

    fn log(&self) -> PathBuf {
        self.0.path().join("log")
    }

    fn start(&self, more: &[&str]) -> BrokerProcess {
        self.start_by(program(), more)
    }

    fn start_by(&self, program: &Path, more: &[&str]) -> BrokerProcess {
        let data = self.data().display().to_string();
        let args = [&["--data", data.as_str(), "--port", "0"], more].concat();
        BrokerProcess::start(program, &args, &self.log()).unwrap_or_else(|status| panic!("{status}: {}", self.said()))
    }

    /// What the broker said on standard error.
    fn said(&self) -> String {
        fs::read_to_string(self.log()).unwrap_or_default()
    }

    /// Starts it on this folder, which has to fail in one line that has these parts.
    fn check_refused(&self, port: &str, parts: &[&str]) {
        check_refused(&["broker", "--data", &self.data().display().to_string(), "--port", port], 1, parts);
    }
}

fn run(args: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    Command::new(program()).current_dir(folder.path()).args(args).env("NO_COLOR", "1").output().unwrap()
}

fn check_refused(args: &[&str], code: i32, parts: &[&str]) {
    let output = run(args);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
    let errors: Vec<&str> = said.lines().filter(|line| line.starts_with("error: ")).collect();
    assert!(errors.len() == 1 && said.trim_end().ends_with(errors[0]), "one line, the last: {said}");
    for part in parts {
        assert!(errors[0].contains(part), "{part} in: {said}");
    }
    assert!(output.stdout.is_empty() && !said.contains("panicked"), "{said}");
}

fn kafka(broker: &BrokerProcess) -> KafkaConfig {
    KafkaConfig::at(broker.bootstrap_servers())
}

fn write(broker: &BrokerProcess, topic: &str, values: std::ops::Range<usize>) {
    Admin::connect(&kafka(broker)).unwrap().ensure_topics(&[TopicSpec::new(topic, 1)]).unwrap();
    let mut writer = Writer::new(&kafka(broker)).unwrap();
    for value in values {
        writer.send(Outgoing::new(topic, b"k", value.to_string().as_bytes())).unwrap();
        // A batch of its own each, so that damage hits one.
        writer.flush(PATIENCE).unwrap();
    }
}

fn read(kafka: &KafkaConfig, topic: &str) -> Vec<String> {
    let mut reader = PartitionReader::new(kafka, true).unwrap();
    reader.assign(&[(topic, 0, StartAt::Beginning)]).unwrap();
    let mut values = Vec::new();
    while !reader.is_at_end() {
        let batch = reader.read(1_000, Duration::from_millis(100)).unwrap();
        values.extend(batch.iter().map(|m| String::from_utf8(m.value().unwrap().to_vec()).unwrap()));
    }
    values
}

fn texts(values: std::ops::Range<usize>) -> Vec<String> {
    values.map(|value| value.to_string()).collect()
}

#[test]
fn what_it_was_given_is_there_after_every_kind_of_end() {
    let place = Place::new();
    let mut written = 0;
    for signal in ["TERM", "INT", "KILL", "TERM"] {
        let broker = place.start(&[]);
        assert_eq!(broker.bootstrap_servers().split(':').next(), Some("127.0.0.1"));
        write(&broker, "kept", written..written + 5);
        written += 5;
        assert_eq!(read(&kafka(&broker), "kept"), texts(0..written));
        let status = broker.finish(signal);
        assert_eq!(status.code(), (signal != "KILL").then_some(0), "{signal}: {}", place.said());
    }
    assert!(!place.said().contains("ERROR"), "{}", place.said());
}

#[test]
fn in_memory_nothing_is_left() {
    let place = Place::new();
    for _ in 0..2 {
        let broker = BrokerProcess::start(program(), &["--memory", "--port", "0"], &place.log()).unwrap();
        write(&broker, "gone", 0..3);
        assert_eq!(read(&kafka(&broker), "gone"), texts(0..3), "nothing of the last one");
        assert_eq!(broker.finish("TERM").code(), Some(0));
    }
    assert_eq!(fs::read_dir(place.0.path()).unwrap().count(), 1, "only what it said");
}

#[test]
fn commands_that_are_given_the_folder_serve_it_or_ask_who_serves_it() {
    let place = Place::new();
    let broker = place.start(&[]);
    write(&broker, "numbers", 0..3);
    let folder = format!("folder:{}", place.data().display());
    let tap = || {
        let output = run(&["tap", "numbers", "--brokers", &folder]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().lines().count()
    };
    assert_eq!(tap(), 3, "from the broker that serves it");
    broker.finish("TERM");
    assert_eq!(tap(), 3, "served for this command");
    let nowhere = format!("folder:{}", place.0.path().join("nowhere").display());
    check_refused(&["tap", "numbers", "--brokers", &nowhere], 1, &["kafka.bootstrap_servers", "there is no folder"]);
    assert!(!place.0.path().join("nowhere").exists(), "looking makes nothing");
}

#[test]
fn what_stands_in_the_way_of_a_start_is_one_line() {
    let place = Place::new();
    let broker = place.start(&[]);
    let data = place.data().display().to_string();
    place.check_refused("0", &[&data, "is in use by another broker", broker.bootstrap_servers()]);
    let port = broker.port();
    check_refused(&["broker", "--memory", "--port", port], 1, &[&format!("127.0.0.1:{port}"), "choose another port"]);
    broker.finish("TERM");

    let format = place.data().join("format");
    let was = fs::read_to_string(&format).unwrap();
    fs::write(&format, was.replacen('1', "99", 1)).unwrap();
    place.check_refused("0", &[&format.display().to_string(), "has format 99", "newer version"]);
    fs::write(&format, was).unwrap();

    check_refused(&["broker", "--data", "/dev/null/data"], 1, &["cannot make /dev/null/data"]);
    check_refused(&["broker", "--host", "nowhere"], 78, &["broker.host = \"nowhere\""]);
    check_refused(
        &["broker", "--flush-interval", "soon"],
        78,
        &["--flush-interval", "`broker.flush_interval`", "soon"],
    );
    let settings = place.0.path().join("settings.toml");
    fs::write(&settings, "[broker.topic_defaults]\n\"retention.mss\" = \"5\"\n").unwrap();
    let settings = settings.display().to_string();
    check_refused(&["broker", "--memory", "--port", "0", "--config", &settings], 78, &["retention.mss"]);
    let occupied = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = occupied.local_addr().unwrap().port().to_string();
    place.check_refused(&port, &["cannot listen on", &port]);
    drop(place.start(&[])); // and nothing of all that has hurt the folder
}

#[test]
fn it_listens_to_strangers_only_if_told_to_and_says_what_that_means() {
    let place = Place::new();
    let broker = place.start(&["--host", "0.0.0.0"]);
    let said = place.said();
    let warnings: Vec<&str> = said.lines().filter(|line| line.contains("WARN")).collect();
    for part in ["no authentication", "--advertise"] {
        assert!(warnings.iter().any(|warning| warning.contains(part)), "{part} in: {said}");
    }
    assert!(
        broker.bootstrap_servers().starts_with("127.0.0.1:"),
        "what clients are told: {}",
        broker.bootstrap_servers()
    );
    write(&broker, "reached", 0..1);
}

#[test]
fn help_says_what_it_is_for() {
    let help = String::from_utf8(run(&["broker", "--help"]).stdout).unwrap();
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in
        ["for development", "one node", "no replication", "no authentication", "For production run Apache Kafka"]
    {
        assert!(help.contains(part), "{part} in: {help}");
    }
}

/// The one segment of a topic.
fn segment(place: &Place, topic: &str) -> PathBuf {
    let mut found = Vec::new();
    let mut folders = vec![place.data()];
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "log") && path.to_string_lossy().contains(topic) {
                found.push(path);
            }
        }
    }
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

#[test]
fn a_log_that_is_damaged_in_the_middle_is_refused_and_cut_only_when_told_to() {
    let place = Place::new();
    let broker = place.start(&[]);
    write(&broker, "damaged", 0..10);
    write(&broker, "whole", 0..10);
    broker.finish("TERM");

    let segment = segment(&place, "damaged");
    let mut bytes = fs::read(&segment).unwrap();
    let batch = bytes.len() / 10;
    bytes[6 * batch + batch - 1] ^= 1; // the last byte of the seventh of ten equal batches
    fs::write(&segment, &bytes).unwrap();
    let place_of_damage = format!("at byte {}", 6 * batch);
    let lost = format!("cut {} bytes", bytes.len() - 6 * batch);
    place.check_refused("0", &[&segment.display().to_string(), &place_of_damage, "--repair", &lost]);
    assert!(fs::read(&segment).unwrap() == bytes, "a refusal changes nothing");

    let broker = place.start(&["--repair"]);
    let said = place.said();
    let told =
        said.lines().any(|line| line.contains("cut a corrupt log") && line.contains(&*segment.to_string_lossy()));
    assert!(told, "{said}");
    assert_eq!(read(&kafka(&broker), "damaged"), texts(0..6));
    assert_eq!(read(&kafka(&broker), "whole"), texts(0..10));
    write(&broker, "damaged", 6..8);
    broker.finish("TERM");
    let broker = place.start(&[]);
    assert_eq!(read(&kafka(&broker), "damaged"), texts(0..8));
}

#[test]
fn a_torn_end_is_cut_without_asking() {
    let place = Place::new();
    let broker = place.start(&[]);
    write(&broker, "torn", 0..10);
    broker.finish("KILL");
    let segment = segment(&place, "torn");
    let size = fs::metadata(&segment).unwrap().len();
    fs::File::options().write(true).open(&segment).unwrap().set_len(size - 5).unwrap();
    let broker = place.start(&[]);
    assert_eq!(read(&kafka(&broker), "torn"), texts(0..9));
    write(&broker, "torn", 9..11);
    assert_eq!(read(&kafka(&broker), "torn"), texts(0..11));
}

/// The program under a limit of its shell.
fn confined(place: &Place, limit: &str) -> PathBuf {
    let script = place.0.path().join("confined");
    let text = format!("#!/bin/sh\n{limit}\nexec '{}' \"$@\"\n", program().display());
    fs::write(&script, text).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    script
}

/// Sends records one by one until one is refused. Gives how many were taken, and why the next was not.
fn fill(broker: &BrokerProcess, topic: &str) -> (usize, Code) {
    let mut config = ClientConfig::new();
    // The first error is told, not tried again.
    config.set("bootstrap.servers", broker.bootstrap_servers()).set("retries", "0").set("compression.type", "none");
    let producer: FutureProducer = config.create().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let filling = "x".repeat(100_000);
    for number in 0..100 {
        let value = format!("{number}:{filling}");
        let sent = producer.send(FutureRecord::<(), _>::to(topic).payload(&value), PATIENCE);
        if let Err((error, record)) = runtime.block_on(sent) {
            assert_eq!(record.payload(), Some(value.as_bytes()));
            producer.flush(PATIENCE).unwrap();
            return (number, error.rdkafka_error_code().unwrap());
        }
    }
    panic!("ten megabytes fit into one");
}

#[test]
fn a_full_disk_is_a_storage_error_and_what_is_there_stays_readable() {
    let place = Place::new();
    // No file beyond a megabyte: what a full disk or a quota looks like.
    let broker = place.start_by(&confined(&place, "trap '' XFSZ; ulimit -f 2048"), &[]);
    Admin::connect(&kafka(&broker)).unwrap().ensure_topics(&[TopicSpec::new("full", 1)]).unwrap();
    let (taken, refused) = fill(&broker, "full");
    assert_eq!(refused, Code::KafkaStorageError, "after {taken} records");
    assert!(taken >= 5, "{taken}");
    let numbers = |broker: &BrokerProcess| {
        let values = read(&kafka(broker), "full");
        values.iter().map(|value| value.split(':').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(numbers(&broker), texts(0..taken), "reading goes on");
    let (more, again) = fill(&broker, "full");
    assert_eq!((more, again), (0, Code::KafkaStorageError));
    write(&broker, "small", 0..3); // there is room for others
    assert_eq!(broker.finish("TERM").code(), Some(0), "{}", place.said());

    let broker = place.start(&[]);
    assert_eq!(numbers(&broker), texts(0..taken));
    write(&broker, "full", 0..1);
    assert_eq!(numbers(&broker).len(), taken + 1, "there is room again");
}

/// Sends a record to each of these partitions. Gives the error of the first that is refused.
fn write_to_each(broker: &BrokerProcess, topic: &str, partitions: std::ops::Range<i32>) -> Result<(), Code> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", broker.bootstrap_servers()).set("retries", "0");
    let producer: FutureProducer = config.create().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for partition in partitions {
        let sent = producer.send(FutureRecord::<(), _>::to(topic).partition(partition).payload("value"), PATIENCE);
        runtime.block_on(sent).map_err(|(error, _)| error.rdkafka_error_code().unwrap())?;
    }
    Ok(())
}

#[test]
fn fewer_open_files_than_partitions_and_segments_are_enough_to_start_and_to_read() {
    let place = Place::new();
    let broker = place.start(&[]);
    let mut long = TopicSpec::new("long", 1);
    long.properties.insert("internal.segment.bytes".to_owned(), "100".to_owned());
    Admin::connect(&kafka(&broker)).unwrap().ensure_topics(&[TopicSpec::new("wide", 200), long]).unwrap();
    write_to_each(&broker, "wide", 0..200).unwrap();
    write(&broker, "long", 0..200);
    broker.finish("KILL");

    // None is closed for being idle, however long this takes.
    let limit = "ulimit -n 64; export TIDEWATCH_BROKER__MAINTENANCE_INTERVAL=1h";
    let broker = place.start_by(&confined(&place, limit), &[]);
    let said = place.said();
    assert!(said.contains("the process may have 64 files open; 32 connections and 201 partitions"), "{said}");
    assert_eq!(read(&kafka(&broker), "long"), texts(0..200));
    write(&broker, "long", 200..205);
    write_to_each(&broker, "wide", 100..105).unwrap();
    // More than there can be open at once: told as what it is, and nothing else is touched.
    assert_eq!(write_to_each(&broker, "wide", 0..200), Err(Code::KafkaStorageError));
    assert_eq!(read(&kafka(&broker), "wide")[0], "value");
    assert_eq!(broker.finish("TERM").code(), Some(0), "{}", place.said());
    let broker = place.start(&[]);
    assert_eq!(read(&kafka(&broker), "long"), texts(0..205));
}

/// What a shell gives by default is not what the system allows.
#[test]
fn the_soft_limit_of_open_files_is_raised_to_the_hard_one() {
    let place = Place::new();
    let broker = place.start_by(&confined(&place, "ulimit -S -n 32"), &[]);
    Admin::connect(&kafka(&broker)).unwrap().ensure_topics(&[TopicSpec::new("wide", 100)]).unwrap();
    write_to_each(&broker, "wide", 0..100).unwrap();
}

#[test]
fn a_frame_that_is_none_ends_its_connection_and_nothing_else() {
    let place = Place::new();
    let broker = place.start(&[]);
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 64], &[0, 0, 0, 4, 0, 99, 0, 0]] {
        let mut connection = std::net::TcpStream::connect(broker.bootstrap_servers()).unwrap();
        connection.set_read_timeout(Some(PATIENCE)).unwrap();
        connection.write_all(garbage).unwrap();
        let mut answer = Vec::new();
        // Closed by the broker, with a reset if it had not read all.
        let ended = connection.read_to_end(&mut answer);
        assert!(ended.is_ok() || ended.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset));
        assert!(answer.is_empty(), "{garbage:?}: {answer:?}");
    }
    write(&broker, "still-there", 0..2);
    assert_eq!(read(&kafka(&broker), "still-there"), texts(0..2));
}
