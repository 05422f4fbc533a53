//! The broker that is killed: `tidewatch broker` on a folder, or an Apache Kafka. It comes back at the same address.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;
use tidewatch_kafka::{KafkaServer, StartOptions};
use tidewatch_test_brokers::BrokerProcess;

pub(crate) enum Victim {
    Embedded { folder: TempDir, port: String, process: Option<BrokerProcess> },
    Apache(KafkaServer),
}

fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_tidewatch"))
}

impl Victim {
    pub(crate) fn embedded() -> Self {
        let mut victim = Self::Embedded { folder: tempfile::tempdir().unwrap(), port: "0".to_owned(), process: None };
        victim.start();
        if let Self::Embedded { port, process: Some(process), .. } = &mut victim {
            port.clone_from(&process.port().to_owned());
        }
        victim
    }

    pub(crate) fn apache() -> Self {
        Self::Apache(KafkaServer::start(StartOptions::default()).unwrap())
    }

    pub(crate) fn bootstrap_servers(&self) -> String {
        match self {
            Self::Embedded { port, .. } => format!("127.0.0.1:{port}"),
            Self::Apache(server) => server.bootstrap_servers().to_owned(),
        }
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        match self {
            Self::Embedded { process, .. } => process.take().unwrap().kill(),
            Self::Apache(server) => server.kill(),
        }
    }

    /// Starts it, which has to succeed whatever the kill left.
    pub(crate) fn start(&mut self) {
        match self {
            Self::Embedded { folder, port, process } => {
                let (data, log) = places(folder);
                let started = BrokerProcess::start(program(), &["--data", &data, "--port", port], &log);
                let said = || std::fs::read_to_string(&log).unwrap_or_default();
                *process = Some(started.unwrap_or_else(|status| panic!("{status}: {}", said())));
            }
            Self::Apache(server) => server.restart().unwrap(),
        }
    }

    /// Starts it and kills it so much later, wherever it is then. (A JVM does not get anywhere in such a time.)
    pub(crate) fn kill_at_start(&mut self, wait: Duration) {
        if let Self::Embedded { folder, port, .. } = self {
            let (data, log) = places(folder);
            let mut starting = BrokerProcess::spawn(program(), &["--data", &data, "--port", port], &log);
            std::thread::sleep(wait);
            starting.kill().unwrap();
            starting.wait().unwrap();
        }
    }

    /// A clean end and a start.
    pub(crate) fn restart(&mut self) {
        match self {
            Self::Embedded { process, .. } => {
                let status = process.take().unwrap().finish("TERM");
                assert_eq!(status.code(), Some(0), "a clean end");
            }
            Self::Apache(server) => server.stop(),
        }
        self.start();
    }
}

fn places(folder: &TempDir) -> (String, PathBuf) {
    (folder.path().join("data").display().to_string(), folder.path().join("log"))
}
