//! What is measured: a broker as a process of its own, started, ended, and looked at through `/proc`.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tempfile::TempDir;
use tidewatch_kafka::{KafkaServer, StartOptions};
use tidewatch_test_brokers::BrokerProcess;

/// A broker under measurement.
pub(crate) enum Subject {
    /// `tidewatch broker` on a folder.
    Embedded { program: PathBuf, folder: TempDir, process: Option<BrokerProcess> },
    /// Apache Kafka.
    Apache(KafkaServer),
}

/// How a broker ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// In order.
    Clean,
    /// By SIGKILL.
    Killed,
}

/// Linux counts processor time in hundredths of a second, whatever its clock (`USER_HZ`).
const TICK: Duration = Duration::from_millis(10);
/// How long a broker may take to answer before it is given up.
const ANSWER_WITHIN: Duration = Duration::from_secs(120);
/// ApiVersions, version 0, correlation id 7, no client id: what every client asks first.
const API_VERSIONS: [u8; 14] = [0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 7, 0xff, 0xff];

/// Builds the program that is measured, as this one was built.
pub(crate) fn build() -> anyhow::Result<PathBuf> {
    let this = std::env::current_exe()?;
    let folder = this.parent().context("a program has a folder")?;
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--locked", "--quiet", "-p", "tidewatch"]).current_dir(env!("CARGO_MANIFEST_DIR"));
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    let built = cargo.status().context("cannot run cargo")?;
    anyhow::ensure!(built.success(), "cannot build tidewatch");
    Ok(folder.join("tidewatch"))
}

impl Subject {
    pub(crate) fn embedded(program: &Path) -> anyhow::Result<Self> {
        let mut subject = Self::Embedded { program: program.to_owned(), folder: tempfile::tempdir()?, process: None };
        subject.start()?;
        Ok(subject)
    }

    /// With the options of `kafka-server-start.sh` and the threads of Kafka's own `server.properties`, not the small ones of tests.
    pub(crate) fn apache() -> anyhow::Result<Self> {
        const JVM: [&str; 7] = [
            "-Xms1G",
            "-Xmx1G",
            "-XX:-UseSerialGC",
            "-XX:+UseG1GC",
            "-XX:MaxGCPauseMillis=20",
            "-XX:InitiatingHeapOccupancyPercent=35",
            "-XX:+ExplicitGCInvokesConcurrent",
        ];
        const PROPERTIES: [(&str, &str); 3] =
            [("num.network.threads", "3"), ("num.io.threads", "8"), ("log.cleaner.dedupe.buffer.size", "134217728")];
        let properties = PROPERTIES.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        let jvm_options = JVM.map(str::to_owned).to_vec();
        Ok(Self::Apache(KafkaServer::start(StartOptions { properties, jvm_options, ..StartOptions::default() })?))
    }

    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Embedded { .. } => "embedded",
            Self::Apache(_) => "kafka",
        }
    }

    pub(crate) fn bootstrap_servers(&self) -> &str {
        match self {
            Self::Embedded { process, .. } => process.as_ref().map_or("", BrokerProcess::bootstrap_servers),
            Self::Apache(server) => server.bootstrap_servers(),
        }
    }

    /// Starts it and waits for its first answer.
    pub(crate) fn start(&mut self) -> anyhow::Result<()> {
        match self {
            Self::Embedded { program, folder, process } => {
                let (data, log) = (folder.path().join("data").display().to_string(), folder.path().join("log"));
                let started = BrokerProcess::start(program, &["--data", &data, "--port", "0"], &log);
                let said = || std::fs::read_to_string(&log).unwrap_or_default();
                *process = Some(started.map_err(|status| anyhow::anyhow!("{status}: {}", said()))?);
            }
            Self::Apache(server) => server.restart()?,
        }
        answer(self.bootstrap_servers())
    }

    /// Ends it.
    pub(crate) fn end(&mut self, end: End) -> anyhow::Result<()> {
        match self {
            Self::Embedded { process, .. } => {
                let process = process.take().context("it runs")?;
                match end {
                    End::Clean => anyhow::ensure!(process.finish("TERM").success(), "a clean end"),
                    End::Killed => process.kill(),
                }
            }
            Self::Apache(server) if end == End::Clean => server.stop(),
            Self::Apache(server) => server.kill(),
        }
        Ok(())
    }

    /// Ends it and makes its folder an empty one. Kafka's is one that is formatted and has nothing in it: the format is a step of
    /// its own, which is not measured.
    pub(crate) fn empty(&mut self) -> anyhow::Result<()> {
        match self {
            Self::Embedded { folder, .. } => {
                let data = folder.path().join("data");
                self.end(End::Clean)?;
                std::fs::remove_dir_all(data)?;
            }
            Self::Apache(_) => {
                *self = Self::apache()?;
                self.end(End::Clean)?;
            }
        }
        Ok(())
    }

    fn id(&self) -> anyhow::Result<u32> {
        match self {
            Self::Embedded { process, .. } => Ok(process.as_ref().context("it runs")?.id()),
            Self::Apache(server) => jvm_of(server.watchdog_id().context("it runs")?),
        }
    }

    /// Processor time that it has used, user and system.
    pub(crate) fn cpu(&self) -> anyhow::Result<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.id()?))?;
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or("").split(' ').collect();
        let ticks = |place: usize| -> anyhow::Result<u32> { Ok(fields.get(place).context("a stat")?.parse()?) };
        Ok(TICK * (ticks(11)? + ticks(12)?))
    }

    /// A size of `/proc/PID/status`, in MB.
    pub(crate) fn memory(&self, name: &str) -> anyhow::Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id()?))?;
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let kib: f64 = line.and_then(|line| line.split_whitespace().next()).context("a size")?.parse()?;
        Ok(kib * 1_024.0 / 1e6)
    }
}

/// The JVM is the watchdog's child.
fn jvm_of(watchdog: u32) -> anyhow::Result<u32> {
    for process in std::fs::read_dir("/proc")?.flatten() {
        let Some(id) = process.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let Ok(stat) = std::fs::read_to_string(process.path().join("stat")) else { continue };
        let parent = stat.rsplit(") ").next().and_then(|fields| fields.split(' ').nth(1)?.parse().ok());
        if parent == Some(watchdog) && stat.contains("(java)") {
            return Ok(id);
        }
    }
    anyhow::bail!("no JVM under process {watchdog}")
}

/// Asks what every client asks first, until it is answered.
fn answer(address: &str) -> anyhow::Result<()> {
    let began = Instant::now();
    loop {
        let asked = TcpStream::connect(address).and_then(|mut connection| {
            connection.set_read_timeout(Some(ANSWER_WITHIN))?;
            connection.write_all(&API_VERSIONS)?;
            let mut head = [0; 8];
            connection.read_exact(&mut head)?;
            Ok(head[4..] == API_VERSIONS[8..12])
        });
        match asked {
            Ok(true) => return Ok(()),
            asked => anyhow::ensure!(began.elapsed() < ANSWER_WITHIN, "no answer at {address}: {asked:?}"),
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}
