//! A thread that is held while the others of its process go on, as one that is busy for too long: Linux's `ptrace` stops one thread
//! where SIGSTOP stops all.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use nix::sys::ptrace::{self, Options};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

/// Holds the thread of this name for so long; false: the process has none. It goes on at the end, also if the process is killed.
///
/// # Errors
/// The system does not let this process do so, or the thread has ended.
pub(crate) fn thread(process: u32, name: &str, time: Duration) -> anyhow::Result<bool> {
    let Some(thread) = find(process, name)? else { return Ok(false) };
    // Whoever seizes has to wait and let go: the three are one thread's.
    ptrace::seize(thread, Options::empty()).context("seizing a thread")?;
    ptrace::interrupt(thread).context("interrupting a thread")?;
    waitpid(thread, Some(WaitPidFlag::__WALL)).context("waiting for a thread to stop")?;
    std::thread::sleep(time);
    ptrace::detach(thread, None).context("letting a thread go on")?;
    Ok(true)
}

/// The first thread of this name.
fn find(process: u32, name: &str) -> anyhow::Result<Option<Pid>> {
    for thread in std::fs::read_dir(format!("/proc/{process}/task"))? {
        let path: PathBuf = thread?.path();
        // A thread that has ended meanwhile is not the one.
        let is_it = std::fs::read_to_string(path.join("comm")).is_ok_and(|comm| comm.trim_end() == name);
        let id = path.file_name().and_then(|id| id.to_str()?.parse().ok());
        if let (true, Some(id)) = (is_it, id) {
            return Ok(Some(Pid::from_raw(id)));
        }
    }
    Ok(None)
}

/// Whether this process may hold threads of its children.
pub(crate) fn is_permitted() -> bool {
    let Ok(mut child) = Command::new("sleep").arg("60").stdin(Stdio::null()).spawn() else { return false };
    // It has the name a moment after it was started.
    let mut tries = (0..100).map(|_| {
        std::thread::sleep(Duration::from_millis(10));
        thread(child.id(), "sleep", Duration::ZERO)
    });
    let held = tries.find(|held| !matches!(held, Ok(false))).is_some_and(|held| held.is_ok());
    let _ = child.kill();
    let _ = child.wait();
    held
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_goes_on_after_it_was_held() {
        if !is_permitted() {
            eprintln!("this system does not let a process trace its children");
            return;
        }
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        while !thread(child.id(), "sleep", Duration::ZERO).unwrap() {
            std::thread::yield_now();
        }
        assert!(!thread(child.id(), "no such thread", Duration::ZERO).unwrap());
        for _ in 0..20 {
            assert!(thread(child.id(), "sleep", Duration::ZERO).unwrap());
        }
        // Who is held does not take a signal.
        child.kill().unwrap();
        assert!(!child.wait().unwrap().success());
    }
}
