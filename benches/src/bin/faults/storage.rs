//! Delivery's disk: a small file system of its own, mounted for the runs whose faults need one, which fills up or refuses writes.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

use crate::dice::Dice;
use crate::fault::Fault;
use crate::settings::OUTPUT;
use crate::stage::Stage;

/// More than a run stores.
const SIZE: &str = "size=256m";
/// What takes the room of the others.
const FILLER: &str = "filler";

/// A mounted file system in memory; gone with this.
pub(crate) struct Disk(PathBuf);

impl Disk {
    /// Mounts one as Delivery's output, if one of the faults needs it.
    pub(crate) fn mount(folder: &Path, faults: impl IntoIterator<Item = Fault>) -> anyhow::Result<Option<Self>> {
        if !faults.into_iter().any(|fault| matches!(fault, Fault::DiskFull | Fault::DiskReadOnly)) {
            return Ok(None);
        }
        let output = folder.join(OUTPUT);
        std::fs::create_dir_all(&output)?;
        mount(&["-t", "tmpfs", "-o", SIZE, "tidewatch-faults"], &output)?;
        Ok(Some(Self(output)))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: whoever still has a file of it open keeps that file.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// Whether this process may mount file systems.
pub(crate) fn can_mount() -> bool {
    let Ok(folder) = tempfile::tempdir() else { return false };
    Disk::mount(folder.path(), [Fault::DiskFull]).is_ok_and(|disk| disk.is_some())
}

fn mount(args: &[&str], at: &Path) -> anyhow::Result<()> {
    let output = Command::new("mount").args(args).arg(at).output().context("cannot run mount")?;
    anyhow::ensure!(output.status.success(), "mount: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

/// Takes all the room there is, for some seconds.
pub(crate) fn fill(stage: &mut Stage, dice: &mut Dice) -> anyhow::Result<bool> {
    let filler = stage.folder.join(OUTPUT).join(FILLER);
    let written = std::fs::write(&filler, vec![0; 512 << 20]);
    anyhow::ensure!(written.is_err(), "the disk was to be full");
    stage.wait(dice.millis(3_000, 12_000))?;
    std::fs::remove_file(&filler)?;
    Ok(true)
}

/// Refuses all writes, for some seconds.
pub(crate) fn write_protect(stage: &mut Stage, dice: &mut Dice) -> anyhow::Result<bool> {
    let output = stage.folder.join(OUTPUT);
    // A file system is made read-only when no file of it is open for writing.
    let is_protected =
        stage.wait_until(std::time::Duration::from_secs(10), |_| Ok(mount(&["-o", "remount,ro"], &output).is_ok()))?;
    stage.wait(dice.millis(3_000, 12_000))?;
    mount(&["-o", "remount,rw"], &output)?;
    Ok(is_protected)
}
