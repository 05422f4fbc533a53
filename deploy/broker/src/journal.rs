//! An append-only file of checksummed records, for what no batch tells: topics, committed offsets, coordinators' decisions.
//!
//! ```text
//! file   = "TWJOURNL", version u32, CRC32C of both, frame*
//! frame  = length u32, CRC32C of the payload, CRC32C of (position u64, length, payload's CRC32C), payload
//! payload = the records of one append, as postcard's sequence                                (all little-endian)
//! ```
//!
//! Invariants: one append is one frame and one write, so a torn append is dropped whole. A frame's header is bound to its
//! position, so what a client may have put into a record never passes for a frame. A bad frame is a torn tail only if no
//! header is valid after it; with one, something was written later and the damage is no torn write: it is refused.

use std::fs::File;
use std::io::Write;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::durable::{Durable, Operation, Unsynced, allow};
use crate::error::StartError;

pub(crate) mod frames;

/// Records in the file for each one alive, from which on it is worth rewriting.
const DEAD_RATIO: usize = 4;
/// A file of fewer records is never worth rewriting.
const REWRITE_RECORDS_MIN: usize = 4_096;
/// A rewrite makes frames of about this many bytes, so that it holds one of them in memory, not the whole file.
const REWRITE_FRAME_BYTES: usize = 64 << 10;

/// A journal of records `R`. When it has grown to several times what is alive, its owner rewrites it.
#[derive(Debug)]
pub(crate) struct Journal<R> {
    /// `None`: in memory.
    disk: Option<Disk>,
    /// Records in the file, dead ones too.
    records: usize,
    record: PhantomData<fn(R)>,
}

/// The file behind a journal.
#[derive(Debug)]
struct Disk {
    path: PathBuf,
    /// Opened to append; shared with the thread that syncs it.
    file: Arc<Durable>,
    /// Its folder, if a rewrite could not sync it: until it is, a power loss may bring the file before the rewrite back.
    folder: Option<Arc<Durable>>,
    /// The end of the last whole frame.
    end: u64,
    /// A failed append left bytes behind `end` that could not be cut yet.
    has_rest: bool,
}

impl<R: Serialize + DeserializeOwned> Journal<R> {
    /// Opens or makes the file and gives its records in order. A torn tail is cut; other damage is refused, or cut when `repair`.
    /// `path` `None`: in memory, nothing is kept.
    ///
    /// # Errors
    /// [`StartError::File`], [`StartError::NewerFormat`], [`StartError::Corrupt`].
    pub(crate) fn open(path: Option<&Path>, repair: bool) -> Result<(Self, Vec<R>), StartError> {
        let (disk, records) = match path {
            None => (None, Vec::new()),
            Some(path) => {
                let (disk, records) = Disk::open(path, repair)?;
                (Some(disk), records)
            }
        };
        Ok((Self { disk, records: records.len(), record: PhantomData }, records))
    }

    /// Appends records, all or none: one write, and a partial one is cut again. They survive the process from here on; a
    /// power loss only once the file is synced, see [`take_dirty`](Self::take_dirty).
    ///
    /// # Errors
    /// Those of the file, and records that are too long for a frame; the journal is as it was.
    pub(crate) fn append(&mut self, records: &[R]) -> io::Result<()> {
        if records.is_empty() {
            return Ok(());
        }
        if let Some(disk) = &mut self.disk {
            disk.append(&frames::encode(disk.end, records)?)?;
        }
        self.records += records.len();
        Ok(())
    }

    /// Whether so much of it is dead that it should be rewritten, given how many records are alive.
    pub(crate) fn is_worth_rewriting(&self, alive: usize) -> bool {
        self.disk.is_some() && self.records >= REWRITE_RECORDS_MIN.max(alive.saturating_mul(DEAD_RATIO))
    }

    /// Replaces all of it by these records: a new file, synced, renamed over the old one. Costs two syncs.
    ///
    /// # Errors
    /// Those of the files; the journal is as it was, unless only the folder's sync failed.
    pub(crate) fn rewrite(&mut self, records: impl Iterator<Item = R>) -> io::Result<()> {
        self.records = match &mut self.disk {
            None => records.count(),
            Some(disk) => disk.rewrite(records)?,
        };
        Ok(())
    }

    /// What was written since the last call, and what could not be synced; whoever takes it syncs it, on any thread.
    pub(crate) fn take_dirty(&mut self) -> Vec<Unsynced> {
        let Some(disk) = &mut self.disk else { return Vec::new() };
        disk.folder.take_if(|folder| folder.is_synced());
        disk.folder.iter().chain([&disk.file]).filter_map(Durable::hand_out).collect()
    }
}

impl Disk {
    fn open<R: DeserializeOwned>(path: &Path, repair: bool) -> Result<(Self, Vec<R>), StartError> {
        let failed = |action| move |source| StartError::File { action, path: path.to_owned(), source };
        match fs::remove_file(new_path(path)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed("remove what is left of a rewrite of")(error));
            }
            _ => {}
        }
        let file = File::options().read(true).append(true).create(true).open(path).map_err(failed("open"))?;
        let mut bytes = Vec::new();
        io::Read::read_to_end(&mut &file, &mut bytes).map_err(failed("read"))?;
        if frames::is_unfinished_header(&bytes) {
            // Made by this or a killed start, nothing was appended yet.
            file.set_len(0).map_err(failed("cut"))?;
            (&file).write_all(&frames::header()).map_err(failed("write"))?;
            file.sync_data().map_err(failed("sync"))?;
            File::open(folder_of(path)).and_then(|folder| folder.sync_all()).map_err(failed("sync the folder of"))?;
            bytes = frames::header();
        }
        let contents = match frames::decode(&bytes) {
            Ok(contents) => contents,
            Err(found) => {
                return Err(StartError::NewerFormat { file: path.to_owned(), found, known: frames::VERSION });
            }
        };
        if let Some(damage) = contents.damage {
            let cut_bytes = (bytes.len() - contents.end) as u64;
            let position = contents.end as u64;
            if !damage.is_torn && !repair {
                return Err(StartError::Corrupt {
                    file: path.to_owned(),
                    position,
                    problem: damage.problem,
                    cut_bytes,
                    lost: String::new(),
                });
            }
            let problem = damage.problem;
            if damage.is_torn {
                tracing::warn!(file = %path.display(), position, cut_bytes, problem, "cut the torn tail of a journal");
            } else {
                tracing::error!(file = %path.display(), position, cut_bytes, problem, "repaired: cut a corrupt journal");
            }
            file.set_len(position).map_err(failed("cut"))?;
            if contents.end == 0 {
                (&file).write_all(&frames::header()).map_err(failed("write"))?;
            }
        }
        // What a killed broker appended may not be on the disk; it is taken for granted from here on.
        allow(Operation::Sync, path).and_then(|()| file.sync_data()).map_err(failed("sync"))?;
        let end = contents.end.max(frames::HEADER_BYTES) as u64;
        let file = Arc::new(Durable::file(path, file, check::<R>));
        let disk = Self { path: path.to_owned(), file, folder: None, end, has_rest: false };
        Ok((disk, contents.records))
    }

    fn append(&mut self, frame: &[u8]) -> io::Result<()> {
        if self.folder.as_ref().is_some_and(|folder| folder.has_failed()) {
            return Err(io::Error::other("its folder could not be synced"));
        }
        self.cut_rest()?;
        let mut file = self.file.to_write()?;
        if let Err(error) = file.write_all(frame) {
            self.has_rest = true;
            // Tried again by the next append; the first error is the one that tells.
            let _ = self.cut_rest();
            return Err(error);
        }
        self.end += frame.len() as u64;
        Ok(())
    }

    fn cut_rest(&mut self) -> io::Result<()> {
        if self.has_rest {
            self.file.to_write()?.set_len(self.end)?;
            self.has_rest = false;
        }
        Ok(())
    }

    /// Gives the number of records.
    fn rewrite<R: Serialize + DeserializeOwned>(&mut self, records: impl Iterator<Item = R>) -> io::Result<usize> {
        let new = new_path(&self.path);
        let written = write_new(&new, records).and_then(|written| {
            fs::rename(&new, &self.path)?;
            Ok(written)
        });
        let (file, end, count) = written.inspect_err(|_| {
            // The next start removes it if this cannot.
            let _ = fs::remove_file(&new);
        })?;
        self.file = Arc::new(Durable::file(&self.path, file, check::<R>));
        self.end = end;
        self.has_rest = false;
        let folder = Arc::new(Durable::folder(folder_of(&self.path)));
        self.folder = Some(Arc::clone(&folder));
        folder.hand_out().map_or(Ok(()), |folder| folder.sync())?;
        Ok(count)
    }
}

/// A new, synced file of these records: the file, its length, the number of records.
fn write_new<R: Serialize>(path: &Path, records: impl Iterator<Item = R>) -> io::Result<(File, u64, usize)> {
    // What a failed rewrite may have left must not stay in front of the new header.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = File::options().read(true).append(true).create_new(true).open(path)?;
    let header = frames::header();
    (&file).write_all(&header)?;
    let (mut end, mut count) = (header.len() as u64, 0);
    let mut frame = frames::Builder::default();
    for record in records {
        count += 1;
        frame.push(&record)?;
        if frame.bytes() >= REWRITE_FRAME_BYTES {
            let bytes = std::mem::take(&mut frame).finish(end)?;
            (&file).write_all(&bytes)?;
            end += bytes.len() as u64;
        }
    }
    if frame.bytes() > 0 {
        let bytes = frame.finish(end)?;
        (&file).write_all(&bytes)?;
        end += bytes.len() as u64;
    }
    file.sync_all()?;
    Ok((file, end, count))
}

fn new_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    name.into()
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Whether the file is whole frames of such records.
fn check<R: DeserializeOwned>(path: &Path) -> io::Result<()> {
    let damage = match frames::decode::<R>(&fs::read(path)?) {
        Ok(contents) => contents.damage.map(|damage| damage.problem),
        Err(version) => Some(format!("it has format {version}")),
    };
    damage.map_or(Ok(()), |problem| Err(io::Error::new(io::ErrorKind::InvalidData, problem)))
}

#[cfg(test)]
mod tests;
