//! `tidewatch broker` as a process of its own, to be killed. Invariant: it does not outlive its [`BrokerProcess`].

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

/// The program at work.
#[derive(Debug)]
pub struct BrokerProcess {
    child: Child,
    bootstrap_servers: String,
}

impl BrokerProcess {
    /// Starts `program broker` with these arguments and waits for the line that says that it is ready. What it says on standard
    /// error goes into `log`.
    ///
    /// # Errors
    /// How it ended, if it ended before it was ready.
    ///
    /// # Panics
    /// If the system refuses a process or the file.
    pub fn start(program: &Path, args: &[&str], log: &Path) -> Result<Self, ExitStatus> {
        let mut child = Self::spawn(program, args, log);
        let mut line = String::new();
        if let Some(stdout) = child.stdout.take() {
            BufReader::new(stdout)
                .read_line(&mut line)
                .unwrap_or_else(|error| panic!("cannot read its output: {error}"));
        }
        let Some(address) =
            line.split_once(" at ").and_then(|(_, rest)| rest.split_once(',')).map(|(address, _)| address)
        else {
            let _ = child.kill();
            return Err(child.wait().unwrap_or_else(|error| panic!("cannot wait for it: {error}")));
        };
        Ok(Self { child, bootstrap_servers: address.to_owned() })
    }

    /// The same without waiting for anything.
    ///
    /// # Panics
    /// As [`start`](Self::start).
    pub fn spawn(program: &Path, args: &[&str], log: &Path) -> Child {
        let log = File::options().create(true).append(true).open(log);
        let log = log.unwrap_or_else(|error| panic!("cannot open the log: {error}"));
        let mut command = Command::new(program);
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("TIDEWATCH_") || name == "RUST_LOG") {
            command.env_remove(name);
        }
        // No settings but these arguments: the working folder may have a file of settings.
        command.arg("broker").args(["--config", "/dev/null"]).args(args).env("NO_COLOR", "1");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        command.spawn().unwrap_or_else(|error| panic!("cannot start {}: {error}", program.display()))
    }

    /// What clients connect to.
    pub fn bootstrap_servers(&self) -> &str {
        &self.bootstrap_servers
    }

    /// Its port.
    pub fn port(&self) -> &str {
        self.bootstrap_servers.rsplit_once(':').map_or("", |(_, port)| port)
    }

    /// The process's id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL; returns when it is gone.
    pub fn kill(mut self) {
        self.end();
    }

    /// Sends a signal, as `kill` names it, and waits for the end.
    ///
    /// # Panics
    /// If there is no such signal.
    pub fn finish(mut self, signal: &str) -> ExitStatus {
        self.signal(signal);
        self.child.wait().unwrap_or_else(|error| panic!("cannot wait for it: {error}"))
    }

    /// Sends a signal.
    ///
    /// # Panics
    /// If there is no such signal.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(sent.is_ok_and(|status| status.success()), "kill -{name}");
    }

    fn end(&mut self) {
        // Who is gone already needs no killing.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for BrokerProcess {
    fn drop(&mut self) {
        self.end();
    }
}
