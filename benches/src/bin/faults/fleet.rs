//! The processes of a run under supervision: one that ends is started again, as an operator's supervisor would, after a pause that
//! grows, and so often at most.
//!
//! Invariant: no process outlives its [`Fleet`]. Memory is what Linux counts (`/proc`).

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::process::{Pid, Signal};

use crate::settings::{self, Setup};

/// Pause before a process that ended is started again: at first, and at most after it has ended soon again and again.
const PAUSE: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(3);
/// A process that lives for longer has done something; the next pause is a short one.
const LONG_ENOUGH: Duration = Duration::from_secs(10);
/// A process that lives for so long listens for signals, also on a busy machine.
const BEGINS_WITHIN: Duration = Duration::from_secs(2);
/// A process that ends by itself so often is broken.
const RESTARTS_MAX: u32 = 40;
/// Between two looks at the memory.
const MEMORY_EVERY: Duration = Duration::from_millis(250);

/// What a process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// `tidewatch process`.
    Processor,
    /// `tidewatch sink`.
    Sink,
}

/// The number of a member in its fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MemberId(usize);

/// A process, over all its lives.
struct Member {
    name: String,
    role: Role,
    settings: PathBuf,
    log: PathBuf,
    /// What its next lives have in their environment beside what all have.
    environment: Vec<(String, String)>,
    child: Option<Child>,
    started: Instant,
    /// When it is to be started again; `None`: not at all.
    due: Option<Instant>,
    pause: Duration,
    is_wanted: bool,
    restarts: u32,
    memory_peak_kib: u64,
}

/// A process that ended and had not been asked to.
#[derive(Clone, Debug, serde::Serialize)]
pub(crate) struct Exit {
    /// Which one.
    pub(crate) member: String,
    /// How, as the system says it.
    pub(crate) status: String,
    /// The last line that it said.
    pub(crate) said: String,
    /// How many of the run's faults had begun by then.
    pub(crate) begun: usize,
}

/// The processes of a run.
pub(crate) struct Fleet {
    program: PathBuf,
    folder: PathBuf,
    bootstrap_servers: String,
    setup: Setup,
    members: Vec<Member>,
    memory_at: Instant,
    exits: Vec<Exit>,
    /// Faults that have begun.
    begun: usize,
}

impl Fleet {
    pub(crate) fn new(program: &Path, folder: &Path, bootstrap_servers: &str, setup: &Setup) -> Self {
        Self {
            program: program.to_owned(),
            folder: folder.to_owned(),
            bootstrap_servers: bootstrap_servers.to_owned(),
            setup: setup.clone(),
            members: Vec::new(),
            memory_at: Instant::now(),
            exits: Vec::new(),
            begun: 0,
        }
    }

    /// The next of the run's faults begins.
    pub(crate) fn fault_begins(&mut self) {
        self.begun += 1;
    }

    /// Starts a process and keeps it up. Its clients' id is its name; processors of one instance fence each other.
    pub(crate) fn add(&mut self, name: &str, role: Role, instance: &str) -> anyhow::Result<MemberId> {
        let id = self.enlist(name, role, instance)?;
        (self.members[id.0].is_wanted, self.members[id.0].due) = (true, Some(Instant::now()));
        self.tick()?;
        Ok(id)
    }

    /// Prepares a process without starting it.
    pub(crate) fn enlist(&mut self, name: &str, role: Role, instance: &str) -> anyhow::Result<MemberId> {
        let settings = self.write_settings(name, role, instance)?;
        self.members.push(Member {
            name: name.to_owned(),
            role,
            settings,
            log: self.folder.join(format!("{name}.log")),
            environment: Vec::new(),
            child: None,
            started: Instant::now(),
            due: None,
            pause: PAUSE,
            is_wanted: false,
            restarts: 0,
            memory_peak_kib: 0,
        });
        Ok(MemberId(self.members.len() - 1))
    }

    fn write_settings(&self, name: &str, role: Role, instance: &str) -> anyhow::Result<PathBuf> {
        let file = self.folder.join(format!("{name}.toml"));
        std::fs::write(&file, settings::text(&self.setup, role, name, instance))?;
        Ok(file)
    }

    /// The members of a role that are to be up.
    pub(crate) fn of(&self, role: Role) -> Vec<MemberId> {
        let wanted = |member: &Member| member.role == role && member.is_wanted;
        (0..self.members.len()).filter(|&at| wanted(&self.members[at])).map(MemberId).collect()
    }

    /// The id of its clients.
    pub(crate) fn client_id(&self, MemberId(at): MemberId) -> &str {
        &self.members[at].name
    }

    /// Looks after all processes; to be called often.
    ///
    /// # Errors
    /// A process that ends again and again, or cannot be started.
    pub(crate) fn tick(&mut self) -> anyhow::Result<()> {
        let looks_at_memory = self.memory_at.elapsed() >= MEMORY_EVERY;
        if looks_at_memory {
            self.memory_at = Instant::now();
        }
        for member in &mut self.members {
            if looks_at_memory {
                member.look_at_memory();
            }
            let Some(status) = member.child.as_mut().map(Child::try_wait).transpose()?.flatten() else { continue };
            member.child = None;
            self.exits.push(Exit {
                member: member.name.clone(),
                status: status.to_string(),
                said: last_line(&member.log),
                begun: self.begun,
            });
            member.restarts += 1;
            anyhow::ensure!(
                member.restarts <= RESTARTS_MAX,
                "{} ended by itself {RESTARTS_MAX} times; the last time ({status}) it said: {}",
                member.name,
                last_line(&member.log)
            );
            member.come_back();
        }
        for at in 0..self.members.len() {
            if self.members[at].due.is_some_and(|due| due <= Instant::now()) {
                self.launch(at)?;
            }
        }
        Ok(())
    }

    fn launch(&mut self, at: usize) -> anyhow::Result<()> {
        let args: &[&str] = match self.members[at].role {
            Role::Processor => &["process"],
            Role::Sink => &["sink"],
        };
        let member = &self.members[at];
        let mut command = self.command(member, args, &member.log)?;
        command.envs(member.environment.iter().map(|(name, value)| (name, value)));
        let child = command.spawn().context("cannot start tidewatch")?;
        let member = &mut self.members[at];
        (member.child, member.started, member.due) = (Some(child), Instant::now(), None);
        Ok(())
    }

    fn command(&self, member: &Member, args: &[&str], log: &Path) -> anyhow::Result<Command> {
        let log = File::options().create(true).append(true).open(log)?;
        let mut command = Command::new(&self.program);
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("TIDEWATCH_") || name == "RUST_LOG") {
            command.env_remove(name);
        }
        command.current_dir(&self.folder).args(args).arg("--config").arg(&member.settings);
        command.args(["--brokers", &self.bootstrap_servers]).env("NO_COLOR", "1");
        command.env("TIDEWATCH_TELEMETRY__LISTEN", "off");
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        Ok(command)
    }

    /// Runs the program once with the settings of a role's first member: how it ended, what it printed and said.
    pub(crate) fn ask(&self, role: Role, args: &[&str]) -> anyhow::Result<(ExitStatus, String, String)> {
        let member = self.members.iter().find(|member| member.role == role).context("a member of that role")?;
        let mut command = self.command(member, args, &self.folder.join("asked.log"))?;
        let output =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).output().context("cannot start tidewatch")?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let said = text(&output.stderr);
        std::fs::write(self.folder.join(format!("asked-{}.log", args.join("-"))), &said)?;
        Ok((output.status, text(&output.stdout), said))
    }

    /// Sends a signal to a process that is up; false: it is not.
    pub(crate) fn signal(&self, MemberId(at): MemberId, signal: Signal) -> bool {
        let member = &self.members[at];
        let id = member.child.as_ref().and_then(|child| Pid::from_raw(child.id().cast_signed()));
        id.is_some_and(|id| rustix::process::kill_process(id, signal).is_ok())
    }

    /// SIGKILL; it comes back after a short pause if it is wanted. False: it was not up.
    pub(crate) fn kill(&mut self, MemberId(at): MemberId) -> anyhow::Result<bool> {
        let member = &mut self.members[at];
        let Some(mut child) = member.child.take() else { return Ok(false) };
        child.kill()?;
        child.wait()?;
        member.pause = PAUSE;
        member.come_back();
        Ok(true)
    }

    /// SIGTERM, and waits for its end; `within` is longer than it may take. It comes back if it is wanted. `None`: it was not up.
    ///
    /// # Errors
    /// If it takes longer.
    pub(crate) fn terminate(
        &mut self,
        id: MemberId,
        within: Duration,
    ) -> anyhow::Result<Option<(ExitStatus, Duration)>> {
        let Some(asked) = self.ask_to_end(id) else { return Ok(None) };
        self.await_end(id, asked, within)
    }

    /// SIGTERM; when it was sent. `None`: it is not up.
    pub(crate) fn ask_to_end(&mut self, id: MemberId) -> Option<Instant> {
        // Before it listens for signals, there is nothing that it could end in order.
        let member = &self.members[id.0];
        if member.child.is_some() {
            std::thread::sleep(BEGINS_WITHIN.saturating_sub(member.started.elapsed()));
        }
        let asked = Instant::now();
        self.signal(id, Signal::TERM).then_some(asked)
    }

    /// Waits for the end of one that was asked for it then, as [`terminate`](Self::terminate) does.
    pub(crate) fn await_end(
        &mut self,
        MemberId(at): MemberId,
        asked: Instant,
        within: Duration,
    ) -> anyhow::Result<Option<(ExitStatus, Duration)>> {
        loop {
            let member = &mut self.members[at];
            let Some(child) = member.child.as_mut() else { return Ok(None) };
            if let Some(status) = child.try_wait()? {
                member.child = None;
                member.pause = PAUSE;
                member.come_back();
                return Ok(Some((status, asked.elapsed())));
            }
            anyhow::ensure!(asked.elapsed() < within, "{} has not ended {within:?} after SIGTERM", member.name);
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// SIGKILL, and it stays down until it is let go.
    pub(crate) fn hold(&mut self, id: MemberId) -> anyhow::Result<()> {
        self.kill(id)?;
        self.members[id.0].due = None;
        Ok(())
    }

    /// SIGTERM, and it stays down until it is let go.
    pub(crate) fn hold_in_order(&mut self, id: MemberId, within: Duration) -> anyhow::Result<()> {
        self.terminate(id, within)?;
        self.hold(id)
    }

    /// Starts again what was held.
    pub(crate) fn let_go(&mut self, MemberId(at): MemberId) {
        let member = &mut self.members[at];
        if member.is_wanted && member.child.is_none() {
            member.due = Some(Instant::now());
        }
    }

    /// From now on it is not started again.
    pub(crate) fn unwanted(&mut self, MemberId(at): MemberId) {
        (self.members[at].is_wanted, self.members[at].due) = (false, None);
    }

    /// Sets what its next lives have in their environment.
    pub(crate) fn set_environment(&mut self, MemberId(at): MemberId, environment: Vec<(String, String)>) {
        self.members[at].environment = environment;
    }

    /// The id of its process, if it is up.
    pub(crate) fn process_id(&self, MemberId(at): MemberId) -> Option<u32> {
        self.members[at].child.as_ref().map(Child::id)
    }

    /// Whether it is up.
    pub(crate) fn is_up(&self, MemberId(at): MemberId) -> bool {
        self.members[at].child.is_some()
    }

    /// What the processes that ended unasked left behind.
    pub(crate) fn exits(&self) -> &[Exit] {
        &self.exits
    }

    /// The most memory that a process of a role has had at once, in MiB.
    pub(crate) fn memory_peak_mib(&self, role: Role) -> u64 {
        let of_role = self.members.iter().filter(|member| member.role == role);
        of_role.map(|member| member.memory_peak_kib / 1_024).max().unwrap_or(0)
    }

    /// What one has said so far.
    pub(crate) fn log(&self, MemberId(at): MemberId) -> String {
        read_text(&self.members[at].log)
    }

    /// The logs of all members, by name.
    pub(crate) fn logs(&self) -> impl Iterator<Item = (&str, String)> {
        self.members.iter().map(|member| (member.name.as_str(), read_text(&member.log)))
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for child in self.members.iter_mut().filter_map(|member| member.child.as_mut()) {
            // Who is gone already needs no killing.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Member {
    /// It has ended: it is due again after a pause.
    fn come_back(&mut self) {
        let has_lived = self.started.elapsed() >= LONG_ENOUGH;
        let pause = if has_lived { PAUSE } else { self.pause };
        self.pause = (pause * 2).min(PAUSE_MAX);
        self.due = self.is_wanted.then(|| Instant::now() + pause);
    }

    fn look_at_memory(&mut self) {
        let Some(child) = &self.child else { return };
        let Ok(status) = std::fs::read_to_string(format!("/proc/{}/status", child.id())) else { return };
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = peak.and_then(|peak| peak.trim().trim_end_matches(" kB").parse().ok());
        self.memory_peak_kib = self.memory_peak_kib.max(kib.unwrap_or(0));
    }
}

fn read_text(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}

fn last_line(log: &Path) -> String {
    read_text(log).lines().rfind(|line| !line.trim().is_empty()).unwrap_or("nothing").to_owned()
}
