//! A real Apache Kafka 4 without Docker, for tests and for trying: one KRaft node in a JVM on free loopback ports.
//!
//! Invariant: the JVM never outlives the process that started it, however that one ends. It runs under a small shell
//! watchdog (`watchdog.sh`) that reads a pipe held by this process and kills the JVM when the pipe closes.
//! Sources: Kafka's KRaft quick start; `pom.xml` is the list of jars.

mod error;
mod jars;
mod process;
mod properties;

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use tempfile::TempDir;

pub use error::StartError;
pub use jars::version;

use process::Jvm;

/// What it takes to run Kafka's own clients and tools.
#[derive(Clone, Debug)]
pub struct JavaTools {
    /// The `java` to run, 17 or newer.
    pub java: PathBuf,
    /// What to give it as class path: all of Kafka's jars.
    pub class_path: String,
}

impl JavaTools {
    /// Fetches the jars if they are not there, as a start does.
    ///
    /// # Errors
    /// No Java 17, no Maven, no network for the first fetch.
    pub fn find() -> Result<Self, StartError> {
        let java = jars::java()?;
        let class_path = jars::class_path(&jars::ensure(true)?);
        Ok(Self { java, class_path })
    }
}

/// How to start a broker. The default is a throw-away one.
#[derive(Clone, Debug, Default)]
pub struct StartOptions {
    /// Where the broker keeps its log segments and its own log (`kafka.log`). `None`: a temporary folder, removed at the end.
    pub data_dir: Option<PathBuf>,
    /// Say nothing on standard error, not even before the jars are fetched.
    pub quiet: bool,
    /// Lines of `server.properties` that come after, and so override, ours.
    pub properties: Vec<(String, String)>,
    /// Options of the JVM that come after, and so override, ours, which are small and calm.
    pub jvm_options: Vec<String>,
}

/// A running broker; dropping it kills the JVM and, if the data folder was temporary, removes it.
#[derive(Debug)]
pub struct KafkaServer {
    bootstrap_servers: String,
    data_dir: PathBuf,
    launch: process::Launch,
    jvm: Mutex<Option<Jvm>>,
    _temporary: Option<TempDir>,
}

/// Another process may take a port between our look and the JVM's bind; so often is it tried again.
const PORT_ATTEMPTS: usize = 3;

impl KafkaServer {
    /// Fetches the jars if they are not there, formats the data folder if it is new, starts the broker and waits until it
    /// answers: 3 to 4 seconds on a small machine.
    ///
    /// # Errors
    /// No Java 17, no Maven, no network for the first fetch, an unusable data folder, or a JVM that does not come up.
    pub fn start(options: StartOptions) -> Result<Self, StartError> {
        let java = jars::java()?;
        let jars = jars::ensure(!options.quiet)?;
        let (data_dir, temporary) = match &options.data_dir {
            Some(dir) => (dir.clone(), None),
            None => {
                let dir = tempfile::Builder::new().prefix("tidewatch-kafka-").tempdir();
                let dir = dir.map_err(|source| StartError::System { action: "create a temporary folder", source })?;
                (dir.path().to_path_buf(), Some(dir))
            }
        };
        std::fs::create_dir_all(&data_dir).map_err(error::file("create the folder", &data_dir))?;
        let mut attempt = 1;
        loop {
            let [broker_port, controller_port] = free_ports()?;
            properties::write(&data_dir, broker_port, controller_port, &options.properties)?;
            let launch = process::Launch {
                java: java.clone(),
                jars: jars.clone(),
                data_dir: data_dir.clone(),
                broker_port,
                remove_data: temporary.is_some(),
                jvm_options: options.jvm_options.clone(),
            };
            launch.format()?;
            match launch.start() {
                Ok(jvm) => {
                    return Ok(Self {
                        bootstrap_servers: format!("127.0.0.1:{broker_port}"),
                        data_dir,
                        launch,
                        jvm: Mutex::new(Some(jvm)),
                        _temporary: temporary,
                    });
                }
                Err(StartError::NotReady { tail, .. })
                    if tail.contains("Address already in use") && attempt < PORT_ATTEMPTS =>
                {
                    attempt += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The one broker of this process, started at the first call: a test binary's tests share it, each with topics of its own.
    ///
    /// # Panics
    /// If it cannot be started; the message is the [`StartError`].
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<KafkaServer> = OnceLock::new();
        // A static is never dropped: the watchdog sees the end of the process and cleans up.
        SHARED.get_or_init(|| Self::start(StartOptions::default()).unwrap_or_else(|error| panic!("{error}")))
    }

    /// What clients connect to: `127.0.0.1:PORT`, the same after a [`restart`](Self::restart).
    pub fn bootstrap_servers(&self) -> &str {
        &self.bootstrap_servers
    }

    /// The folder of the data and of the broker's log file `kafka.log`.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Kills the JVM as a crash would (SIGKILL) and returns when it is gone. The data stay.
    pub fn kill(&self) {
        if let Some(jvm) = self.jvm().take() {
            jvm.kill();
        }
    }

    /// Asks the broker to shut down in order (SIGTERM), and kills it if it takes longer than ten seconds. The data stay.
    pub fn stop(&self) {
        if let Some(jvm) = self.jvm().take() {
            jvm.stop();
        }
    }

    /// Starts the broker again on the same port and data; a running one is killed first.
    ///
    /// # Errors
    /// As [`start`](Self::start), without the fetch.
    pub fn restart(&self) -> Result<(), StartError> {
        let mut jvm = self.jvm();
        if let Some(running) = jvm.take() {
            running.kill();
        }
        *jvm = Some(self.launch.start()?);
        Ok(())
    }

    /// The process id of the JVM's watchdog, which is also the id of their process group.
    pub fn watchdog_id(&self) -> Option<u32> {
        self.jvm().as_ref().map(Jvm::id)
    }

    fn jvm(&self) -> MutexGuard<'_, Option<Jvm>> {
        self.jvm.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Two ports that are free now: both are bound before either is let go, so they differ.
fn free_ports() -> Result<[u16; 2], StartError> {
    let bind =
        || TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| Ok((listener.local_addr()?.port(), listener)));
    let failed = |source| StartError::System { action: "find a free loopback port", source };
    let (first, _first) = bind().map_err(failed)?;
    let (second, _second) = bind().map_err(failed)?;
    Ok([first, second])
}
