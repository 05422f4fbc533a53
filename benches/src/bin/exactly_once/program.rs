//! The program as a child process: what it says, and what it costs. CPU times are what Linux counts (`/proc/PID/stat`, proc(5)), in
//! hundredths of a second.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};

use crate::stand::{Run, Stand};

/// Linux counts processor time in hundredths of a second, whatever its clock (`USER_HZ`).
const TICK: Duration = Duration::from_millis(10);
/// Between two looks at what it said.
const LOOK_EVERY: Duration = Duration::from_millis(1);
/// How long it may take to say or do something.
const PATIENCE: Duration = Duration::from_secs(600);

/// `tidewatch`, built as this program was.
pub(crate) struct Program {
    path: PathBuf,
    started: std::cell::Cell<u32>,
}

/// The program at work. It does not outlive this.
pub(crate) struct Running {
    child: Child,
    log: PathBuf,
}

/// A line of its log.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) at: SystemTime,
    pub(crate) text: String,
}

impl Program {
    /// The one beside this.
    pub(crate) fn find() -> anyhow::Result<Self> {
        let this = std::env::current_exe()?;
        let path = this.parent().context("a program has a folder")?.join("tidewatch");
        let profile = if cfg!(debug_assertions) { "" } else { "--release " };
        anyhow::ensure!(path.is_file(), "there is no {}: run `cargo build {profile}-p tidewatch`", path.display());
        Ok(Self { path, started: std::cell::Cell::new(0) })
    }

    /// Has it make the topics of a run that are not there, as it is shipped.
    pub(crate) fn create_topics(&self, stand: &Stand, run: &Run) -> anyhow::Result<()> {
        self.start(stand, run, &["topics", "create"])?.finish().map(drop)
    }

    /// Starts it for a run, with files of its own in the stand's folder.
    pub(crate) fn start(&self, stand: &Stand, run: &Run, args: &[&str]) -> anyhow::Result<Running> {
        let number = self.started.replace(self.started.get() + 1);
        let file = |kind: &str| stand.folder().join(format!("{}-{number}.{kind}", run.name));
        let (settings, log) = (file("toml"), file("log"));
        std::fs::write(&settings, run.text()?)?;
        let mut command = Command::new(&self.path);
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("TIDEWATCH_") || name == "RUST_LOG") {
            command.env_remove(name);
        }
        command.current_dir(stand.folder()).args(args).arg("--config").arg(&settings);
        command.args(["--brokers", &stand.kafka.bootstrap_servers]).env("NO_COLOR", "1");
        // Its port is the same for every process of the machine.
        command.env("TIDEWATCH_TELEMETRY__LISTEN", "off");
        let output = File::create(&log)?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        Ok(Running { child: command.spawn().context("cannot start tidewatch")?, log })
    }
}

impl Running {
    /// CPU time of all its threads so far, those that have ended included.
    pub(crate) fn cpu(&self) -> anyhow::Result<Duration> {
        Ok(cpu_times(&self.child.id().to_string())?.own)
    }

    /// All lines of its log so far that are dated.
    pub(crate) fn lines(&self) -> Vec<Line> {
        let text = read_text(&self.log);
        let dated = |line: &str| {
            let (at, text) = line.split_once(' ')?;
            Some(Line { at: humantime::parse_rfc3339(at).ok()?, text: text.trim_start().to_owned() })
        };
        text.lines().filter_map(dated).collect()
    }

    /// Waits for the first line that contains this.
    ///
    /// # Errors
    /// If it ends before, or does not say so for long.
    pub(crate) fn wait_for(&mut self, what: &str) -> anyhow::Result<Line> {
        let began = Instant::now();
        loop {
            // Looked at first: what it said before its end counts.
            let status = self.child.try_wait()?;
            if let Some(line) = self.lines().into_iter().find(|line| line.text.contains(what)) {
                return Ok(line);
            }
            anyhow::ensure!(
                status.is_none() && began.elapsed() < PATIENCE,
                "tidewatch did not say `{what}`: {}",
                read_text(&self.log)
            );
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Waits for its end, which must be a good one; gives the CPU time that it took in all.
    pub(crate) fn finish(mut self) -> anyhow::Result<Duration> {
        let before = cpu_times("self")?.children;
        let began = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            anyhow::ensure!(began.elapsed() < PATIENCE, "tidewatch does not end: {}", read_text(&self.log));
            std::thread::sleep(LOOK_EVERY);
        };
        self.check(status)?;
        Ok(cpu_times("self")?.children - before)
    }

    fn check(&self, status: ExitStatus) -> anyhow::Result<()> {
        anyhow::ensure!(status.success(), "tidewatch ended with {status}: {}", read_text(&self.log));
        Ok(())
    }

    /// Asks it to end, and waits for that.
    pub(crate) fn terminate(self) -> anyhow::Result<()> {
        let id = Pid::from_raw(self.child.id().cast_signed()).context("a process has a number")?;
        kill_process(id, Signal::TERM).context("cannot send SIGTERM")?;
        self.finish().map(drop)
    }

    /// SIGKILL.
    pub(crate) fn kill(mut self) -> anyhow::Result<()> {
        let status = self.child.try_wait()?;
        anyhow::ensure!(status.is_none(), "tidewatch ended by itself: {}", read_text(&self.log));
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Who is gone already needs no killing.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Line {
    /// The number of a field: `took_ms` of `restored took_ms=12`.
    pub(crate) fn field(&self, name: &str) -> anyhow::Result<u64> {
        let value = self.text.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        let value = value.and_then(|value| value.parse().ok());
        value.with_context(|| format!("no number `{name}` in `{}`", self.text))
    }
}

/// What a process has used.
struct CpuTimes {
    own: Duration,
    /// Of child processes that have been waited for.
    children: Duration,
}

/// Of a process by its number, or `self`.
fn cpu_times(process: &str) -> anyhow::Result<CpuTimes> {
    let file = format!("/proc/{process}/stat");
    let text = std::fs::read_to_string(&file).with_context(|| format!("cannot read {file}: this runs on Linux"))?;
    // The second field, the name, may hold anything but is the last in parentheses; user and system time are the 14th and the 15th,
    // those of children follow.
    let fields = text.rsplit_once(')').map(|(_, fields)| fields.split_whitespace().skip(11).take(4));
    let ticks: Vec<u32> = fields.into_iter().flatten().map(str::parse).collect::<Result<_, _>>()?;
    let [user, system, user_of_children, system_of_children] = ticks[..] else {
        anyhow::bail!("{file} has no CPU times: {text}");
    };
    Ok(CpuTimes { own: TICK * (user + system), children: TICK * (user_of_children + system_of_children) })
}

fn read_text(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}
