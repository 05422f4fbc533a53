//! What can go wrong on the way to a running broker. Invariant: one line per error, and it says what to do.

use std::io;
use std::path::PathBuf;

/// Why no broker could be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No `java` on the path, or one that is too old for Kafka 4.
    #[error(
        "java 17 or newer is needed to run Apache Kafka, found {found}: install it (for example openjdk-17-jre-headless), set JAVA_HOME, or give --brokers"
    )]
    Java {
        /// What was found instead.
        found: String,
    },
    /// No `mvn` on the path, and the jars are not there yet.
    #[error(
        "maven is needed once to fetch Apache Kafka {version}: install mvn, set TIDEWATCH_KAFKA_DIR to a folder of Kafka's jars, or give --brokers"
    )]
    Maven {
        /// The version that was wanted.
        version: String,
    },
    /// Maven ran and failed: no network, or a proxy in the way.
    #[error("maven could not fetch Apache Kafka {version} (give --brokers to use a broker of yours): {reason}")]
    Fetch {
        /// The version that was wanted.
        version: String,
        /// Maven's first error line.
        reason: String,
    },
    /// The storage folder could not be formatted.
    #[error("kafka could not format its data folder {data_dir}: {tail}")]
    Format {
        /// The data folder.
        data_dir: PathBuf,
        /// The end of what the tool printed.
        tail: String,
    },
    /// The JVM ended, or did not answer in time.
    #[error("kafka {what} (its log is {log}): {tail}")]
    NotReady {
        /// What happened: it ended, or the deadline passed.
        what: String,
        /// The log file.
        log: PathBuf,
        /// The log's last lines.
        tail: String,
    },
    /// A file or folder could not be used.
    #[error("cannot {action} {path}")]
    File {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// No free loopback port, or no process could be started.
    #[error("cannot {action}")]
    System {
        /// What was tried.
        action: &'static str,
        /// Why not.
        source: io::Error,
    },
}

/// Names the action and the path of a file error.
pub(crate) fn file(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> StartError {
    let path = path.into();
    move |source| StartError::File { action, path, source }
}
