//! The JVM as a child process under the watchdog: format, start, wait until it answers, end.
//!
//! Invariant: a [`Jvm`] that is dropped has no process left. The watchdog is the leader of a process group of its own, so a
//! Ctrl-C on the terminal ends the program that uses the broker first.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::{StartError, file};
use crate::jars;

const WATCHDOG: &str = include_str!("watchdog.sh");
/// All our brokers are islands: one fixed cluster id (16 bytes, URL-safe base64) does for all of them.
const CLUSTER_ID: &str = "dGlkZXdhdGNoLWxvY2FsLQ";
/// Small and calm: a test machine has two cores and other work to do.
const JVM_OPTIONS: [&str; 7] = [
    "-Xms256m",
    "-Xmx512m",
    "-XX:+UseSerialGC",
    "-XX:CICompilerCount=2",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.log.kafka.server=info",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
];
const READY_LINE: &str = "Kafka Server started";
const READY_DEADLINE: Duration = Duration::from_secs(90);
const STOP_DEADLINE: Duration = Duration::from_secs(10);
const POLL_INTERVAL: Duration = Duration::from_millis(25);

/// Everything that a start, and a restart, needs to know.
#[derive(Debug)]
pub(crate) struct Launch {
    pub(crate) java: PathBuf,
    pub(crate) jars: PathBuf,
    pub(crate) data_dir: PathBuf,
    pub(crate) broker_port: u16,
    /// Whether the watchdog removes the folder when the holder is gone.
    pub(crate) remove_data: bool,
    pub(crate) jvm_options: Vec<String>,
}

impl Launch {
    /// Writes the cluster id into a new data folder; leaves a formatted one as it is.
    pub(crate) fn format(&self) -> Result<(), StartError> {
        if self.data_dir.join("data/meta.properties").exists() {
            return Ok(());
        }
        let output = Command::new(&self.java)
            .args(["-Xmx128m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"])
            .args(["-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp"])
            .arg(self.class_path())
            .args(["kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c"])
            .arg(self.data_dir.join("server.properties"))
            .stdin(Stdio::null())
            .output()
            .map_err(|source| StartError::System { action: "run java", source })?;
        if output.status.success() {
            return Ok(());
        }
        let printed = [output.stdout, output.stderr].concat();
        Err(StartError::Format {
            data_dir: self.data_dir.clone(),
            tail: last_lines(&String::from_utf8_lossy(&printed)),
        })
    }

    /// Starts the JVM and waits until it said that it is ready and its port answers.
    pub(crate) fn start(&self) -> Result<Jvm, StartError> {
        let log_path = self.data_dir.join("kafka.log");
        let log = File::options().create(true).append(true).open(&log_path).map_err(file("open", &log_path))?;
        let log_start = log.metadata().map_err(file("open", &log_path))?.len();
        let mut jvm = self.spawn(&log_path)?;
        let deadline = Instant::now() + READY_DEADLINE;
        let address = SocketAddr::from(([127, 0, 0, 1], self.broker_port));
        loop {
            let printed = read_from(&log_path, log_start);
            if printed.contains(READY_LINE) && TcpStream::connect_timeout(&address, POLL_INTERVAL).is_ok() {
                return Ok(jvm);
            }
            let what = match jvm.child.try_wait() {
                Ok(None) if Instant::now() < deadline => None,
                Ok(None) => Some(format!("did not answer within {} s", READY_DEADLINE.as_secs())),
                Ok(Some(status)) => Some(format!("ended at its start with {status}")),
                Err(source) => {
                    return Err(StartError::System { action: "watch the JVM", source });
                }
            };
            if let Some(what) = what {
                let tail = last_lines(&read_from(&log_path, log_start));
                return Err(StartError::NotReady { what, log: log_path, tail });
            }
            thread::sleep(POLL_INTERVAL); // waiting for another process: there is nothing to be woken by
        }
    }

    fn spawn(&self, log_path: &Path) -> Result<Jvm, StartError> {
        let child = Command::new("/bin/sh")
            .args(["-c", WATCHDOG, "tidewatch-kafka"])
            .arg(log_path)
            .arg(if self.remove_data { self.data_dir.as_os_str() } else { "".as_ref() })
            .arg(&self.java)
            .args(JVM_OPTIONS)
            .args(&self.jvm_options)
            .arg("-cp")
            .arg(self.class_path())
            .arg("kafka.Kafka")
            .arg(self.data_dir.join("server.properties"))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn();
        let child = child.map_err(|source| StartError::System { action: "start /bin/sh", source })?;
        Ok(Jvm { child })
    }

    fn class_path(&self) -> String {
        jars::class_path(&self.jars)
    }
}

/// The running JVM and its watchdog.
#[derive(Debug)]
pub(crate) struct Jvm {
    child: Child,
}

impl Jvm {
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn kill(mut self) {
        self.ask("kill");
        let _ = self.child.wait();
    }

    pub(crate) fn stop(mut self) {
        self.ask("stop");
        let deadline = Instant::now() + STOP_DEADLINE;
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() >= deadline {
                return; // dropped: the closed pipe turns the request into a SIGKILL
            }
            thread::sleep(POLL_INTERVAL);
        }
    }

    /// A watchdog that is gone has nothing left to end: a failed write is an answer too.
    fn ask(&mut self, word: &str) {
        if let Some(pipe) = &mut self.child.stdin {
            let _ = pipe.write_all(format!("{word}\n").as_bytes());
        }
    }
}

impl Drop for Jvm {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

fn read_from(path: &Path, start: u64) -> String {
    let mut bytes = Vec::new();
    if let Ok(mut log) = fs::File::open(path) {
        let _ = log.seek(SeekFrom::Start(start)).and_then(|_| log.read_to_end(&mut bytes));
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The lines that matter of what a JVM printed, on one line: the last few that are not stack frames.
fn last_lines(printed: &str) -> String {
    let lines: Vec<&str> = printed.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with("at ")).collect();
    if lines.is_empty() {
        return "it printed nothing".to_owned();
    }
    lines[lines.len().saturating_sub(6)..].join(" | ")
}
