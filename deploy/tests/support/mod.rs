//! What tests of the real binary on a broker share: a folder with settings, topics of the test's own, and results as a
//! consumer of committed records sees them.

#![allow(clippy::unwrap_used)] // The helpers are tests too.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tidewatch_topic_io::{Admin, KafkaConfig, Message, PartitionReader, StartAt, TopicSpec};

/// The result topics, as `[topics]` spells them, without the state.
pub(crate) const RESULTS: [&str; 5] = ["metrics", "forecasts", "alerts", "late", "dead_letters"];

/// How long a question to the broker may wait; nothing is concluded from it.
pub(crate) const PATIENCE: Duration = Duration::from_millis(200);

/// A test's own corner of a shared broker: its folder, and topics that begin with its name.
pub(crate) struct Corner {
    pub(crate) name: &'static str,
    pub(crate) folder: TempDir,
    pub(crate) kafka: KafkaConfig,
    pub(crate) admin: Admin,
}

impl Corner {
    pub(crate) fn new(bootstrap_servers: &str, name: &'static str) -> Self {
        let kafka = KafkaConfig::at(bootstrap_servers);
        let admin = Admin::connect(&kafka).unwrap();
        Self { name, folder: tempfile::tempdir().unwrap(), kafka, admin }
    }

    /// A topic of a run of this test.
    pub(crate) fn topic(&self, run: &str, what: &str) -> String {
        format!("{}.{run}.{what}", self.name)
    }

    /// Creates topics that are not there.
    pub(crate) fn create(&self, topics: &[String], partitions: i32) {
        let specs: Vec<TopicSpec> = topics.iter().map(|topic| TopicSpec::new(topic, partitions)).collect();
        self.admin.ensure_topics(&specs).unwrap();
    }

    /// Creates the result, state and ledger topics of a run and gives the settings that name them, and a group of the run's own.
    pub(crate) fn outputs(&self, run: &str, partitions: i32) -> String {
        let whats: Vec<&str> = RESULTS.into_iter().chain(["state", "ledger"]).collect();
        let topics: Vec<String> = whats.iter().map(|what| self.topic(run, what)).collect();
        self.create(&topics, partitions);
        let lines: Vec<String> =
            whats.iter().zip(&topics).map(|(what, topic)| format!("{what} = \"{topic}\"")).collect();
        format!("processor.group_id = \"{}.{run}\"\n[topics]\n{}\n", self.name, lines.join("\n"))
    }

    /// Runs the program to its end: its exit code, what it printed, and what it said.
    pub(crate) fn ask(&self, settings: &str, args: &[&str]) -> (Option<i32>, String, String) {
        let output = self.command(settings, args).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    }

    /// Starts the program with this settings file; what it says is kept for [`Running::log`].
    pub(crate) fn start(&self, settings: &str, args: &[&str]) -> Running {
        self.spawn(self.command(settings, args))
    }

    /// Starts a [`command`](Self::command) of this corner.
    pub(crate) fn spawn(&self, mut command: Command) -> Running {
        let [log, printed] = [(); 2].map(|()| tempfile::NamedTempFile::new_in(self.folder.path()).unwrap());
        command.stdout(File::create(printed.path()).unwrap()).stderr(File::create(log.path()).unwrap());
        Running { child: command.spawn().unwrap(), log, printed }
    }

    /// The program with this settings file, in this corner's folder.
    pub(crate) fn command(&self, settings: &str, args: &[&str]) -> Command {
        let file = tempfile::Builder::new().suffix(".toml").tempfile_in(self.folder.path()).unwrap();
        std::fs::write(file.path(), settings).unwrap();
        let (_, settings) = file.keep().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidewatch"));
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("TIDEWATCH_") || name == "RUST_LOG") {
            command.env_remove(name);
        }
        command.current_dir(self.folder.path()).args(args).arg("--config").arg(settings);
        command.args(["--brokers", &self.kafka.bootstrap_servers]).env("NO_COLOR", "1");
        // Its port is the same for every process of the machine.
        command.env("TIDEWATCH_TELEMETRY__LISTEN", "off");
        command.stdin(Stdio::null());
        command
    }

    /// Starts the program with its pages at a port of its own, and gives that address.
    pub(crate) fn serve(&self, settings: &str, args: &[&str]) -> (Running, String) {
        let mut command = self.command(settings, args);
        command.env("TIDEWATCH_TELEMETRY__LISTEN", "127.0.0.1:0");
        let mut process = self.spawn(command);
        loop {
            let log = process.log();
            if let Some(address) = log.split("address=").nth(1).and_then(|rest| rest.split_once(char::is_whitespace)) {
                return (process, address.0.to_owned());
            }
            assert!(!process.has_ended(), "{log}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Runs the program to its end, which must be a good one.
    pub(crate) fn run(&self, settings: &str, args: &[&str]) {
        let (status, log) = self.start(settings, args).finish();
        assert!(status.success(), "{args:?}: {status}\n{log}");
    }

    /// What `tidewatch ledger --json` says; nothing may be wrong with it.
    pub(crate) fn ledger(&self, settings: &str) -> serde_json::Value {
        let (code, balance, said) = self.ask(settings, &["ledger", "--json"]);
        assert_eq!(code, Some(0), "{balance}{said}");
        serde_json::from_str(&balance).unwrap()
    }

    /// All committed records of a topic.
    pub(crate) fn read(&self, topic: &str) -> Vec<Row> {
        let mut reader = self.reader(topic);
        let mut rows = Vec::new();
        while !reader.is_at_end() {
            rows.extend(reader.read(10_000, PATIENCE).unwrap().iter().map(|message| Row::of(&message)));
        }
        rows
    }

    /// A reader of a topic's committed records from their beginning.
    pub(crate) fn reader(&self, topic: &str) -> PartitionReader {
        let mut reader = PartitionReader::new(&self.kafka, true).unwrap();
        let partitions = 0..self.admin.partitions(topic).unwrap();
        let all: Vec<_> = partitions.map(|partition| (topic, partition, StartAt::Beginning)).collect();
        reader.assign(&all).unwrap();
        reader
    }
}

/// The program at work. It does not outlive this.
pub(crate) struct Running {
    child: Child,
    log: tempfile::NamedTempFile,
    printed: tempfile::NamedTempFile,
}

impl Running {
    /// Sends a signal, as `kill` names it.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(sent.unwrap().success(), "kill -{name}");
    }

    pub(crate) fn log(&self) -> String {
        read_text(self.log.path())
    }

    /// What it has printed, beside its log.
    pub(crate) fn printed(&self) -> String {
        read_text(self.printed.path())
    }

    /// Waits until it has been stopped by a SIGSTOP that was sent.
    pub(crate) fn wait_until_stopped(&self) {
        let status = format!("/proc/{}/status", self.child.id());
        while !std::fs::read_to_string(&status).unwrap().contains("State:\tT") {
            std::thread::yield_now();
        }
    }

    /// Reads on until so many records are there, and one more than was seen before; it must be at work all the while.
    pub(crate) fn wait_for(&mut self, reader: &mut PartitionReader, seen: &mut usize, wanted: usize) {
        let wanted = wanted.max(*seen + 1);
        while *seen < wanted {
            assert!(!self.has_ended(), "ended by itself: {}", self.log());
            *seen += reader.read(10_000, PATIENCE).unwrap().len();
        }
    }

    /// The most memory that it has had at once, in KiB, as Linux counts it; nothing once it has ended.
    pub(crate) fn peak_kib(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.trim().trim_end_matches(" kB").parse().ok()
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// SIGKILL; returns when it is gone.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn finish(mut self) -> (ExitStatus, String) {
        let status = self.child.wait().unwrap();
        (status, self.log())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a page says, with the head of the answer.
pub(crate) fn page(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn read_text(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned()
}

/// A record as a consumer sees it, all but its offset: the end markers of transactions take offsets too.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) partition: i32,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Vec<(String, Option<Vec<u8>>)>,
    pub(crate) timestamp_ms: Option<i64>,
}

impl Row {
    /// The value of a header that is there with one.
    #[allow(dead_code)] // Not every test looks at headers.
    pub(crate) fn header(&self, name: &str) -> Option<Vec<u8>> {
        self.headers.iter().find(|(found, _)| found == name).and_then(|(_, value)| value.clone())
    }

    fn of(message: &Message<'_>) -> Self {
        let owned = |bytes: Option<&[u8]>| bytes.map(<[u8]>::to_vec);
        Self {
            partition: message.partition(),
            key: owned(message.key()),
            value: owned(message.value()),
            headers: message.headers().map(|(name, value)| (name.to_owned(), owned(value))).collect(),
            timestamp_ms: message.timestamp_ms(),
        }
    }
}

/// The records of each key, in their order. Records of different keys may have been written in any order.
pub(crate) fn by_key(rows: Vec<Row>) -> BTreeMap<(i32, Option<Vec<u8>>), Vec<Row>> {
    let mut keys = BTreeMap::<_, Vec<Row>>::new();
    for row in rows {
        keys.entry((row.partition, row.key.clone())).or_default().push(row);
    }
    keys
}

/// Asserts that two runs wrote the same: keys, values, headers and times, byte for byte, in the same order per key.
pub(crate) fn assert_same(what: &str, expected: Vec<Row>, found: Vec<Row>) {
    let (expected, found) = (by_key(expected), by_key(found));
    let text = |key: &(i32, Option<Vec<u8>>)| {
        format!("{what}[{}] {:?}", key.0, key.1.as_ref().map(|bytes| String::from_utf8_lossy(bytes)))
    };
    let names = |rows: &BTreeMap<_, _>| rows.keys().map(text).collect::<Vec<_>>();
    assert_eq!(names(&expected), names(&found));
    for (key, expected) in &expected {
        let found = &found[key];
        let differs = expected.iter().zip(found).position(|(expected, found)| expected != found);
        assert_eq!(differs, None, "the first record of {} that differs", text(key));
        assert_eq!(expected.len(), found.len(), "records of {}", text(key));
    }
}
