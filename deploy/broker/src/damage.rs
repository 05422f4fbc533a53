//! What becomes of a damaged file at start, and the note that a stop in order leaves, on which that hangs.
//!
//! Invariant: with the note, every journal and every segment ends as it was acknowledged; it goes before anything is written
//! again. So a bad end under it is damage, while without it a kill explains it. A start that is refused leaves it there.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use crate::config::{BrokerConfig, Storage};
use crate::error::StartError;

/// The note, in the data folder.
const NOTE: &str = "clean-stop";
const NOTE_TEXT: &str = "The broker was stopped in order: each file here is whole. A start removes this.\n";

/// What becomes of damage that is found at start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnDamage {
    /// After a kill: the torn end of a file is cut, all other damage refused.
    CutTorn,
    /// After a stop in order, which tears nothing: all of it is refused.
    Refuse,
    /// `--repair`: a file is cut at its first bad byte.
    Cut,
}

impl OnDamage {
    /// By the settings and by how the last broker ended.
    pub(crate) fn of(config: &BrokerConfig) -> Self {
        match &config.storage {
            _ if config.repair => Self::Cut,
            Storage::Folder(folder) if folder.join(NOTE).exists() => Self::Refuse,
            _ => Self::CutTorn,
        }
    }
}

/// Notes that all files are whole and synced.
///
/// # Errors
/// Those of the file; without it the next start takes this one for killed.
pub(crate) fn note_stop(storage: &Storage) -> io::Result<()> {
    let Storage::Folder(folder) = storage else { return Ok(()) };
    let mut note = File::create(folder.join(NOTE))?;
    note.write_all(NOTE_TEXT.as_bytes())?;
    note.sync_all()?;
    File::open(folder)?.sync_all()
}

/// Removes the note; called when all files are open and before the first is written to.
///
/// # Errors
/// [`StartError::File`].
pub(crate) fn remove_note(storage: &Storage) -> Result<(), StartError> {
    let Storage::Folder(folder) = storage else { return Ok(()) };
    remove(folder).map_err(|source| StartError::File { action: "remove", path: folder.join(NOTE), source })
}

fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_file(folder.join(NOTE)) {
        // Else a power loss could bring it back to what is written from here on.
        Ok(()) => File::open(folder)?.sync_all(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}
