//! An append-only file of checksummed records, for what no batch tells: topics, committed offsets, coordinators' decisions.
//!
//! ```text
//! file   = "TWJOURNL", version u32, CRC32C of both, frame*
//! frame  = length u32, CRC32C of the payload, CRC32C of (position u64, length, payload's CRC32C), payload
//! payload = the records of one append, as postcard's sequence                                (all little-endian)
//! ```
//!
//! Invariants: one append is one frame and one write, so a torn append is dropped whole. A frame's header is bound to its
//! position, so what a client may have put into a record never passes for a frame. A bad frame is a torn tail only after a
//! kill, and if no header is valid after it; else the damage is no torn write: it is refused, with what its cut would lose.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::damage::OnDamage;
use crate::durable::{Durable, Operation, Unsynced, allow};
use crate::error::StartError;

pub(crate) mod frames;

/// Records in the file for each one alive, from which on it is worth rewriting.
const DEAD_RATIO: usize = 4;
/// A file of fewer records is never worth rewriting.
const REWRITE_RECORDS_MIN: usize = 4_096;
/// A rewrite makes frames of about this many bytes, so that it holds one of them in memory, not the whole file.
const REWRITE_FRAME_BYTES: usize = 64 << 10;

/// What a journal keeps.
pub(crate) trait Entry: Serialize + DeserializeOwned {
    /// What else happens to who loses records of this kind, as the end of a sentence.
    const CONSEQUENCE: &str = "";

    /// What it tells of, for who decides whether to lose it: "topic orders". `None`: nothing that has a name.
    fn subject(&self) -> Option<String>;
}

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

impl<R: Entry> Journal<R> {
    /// Opens or makes the file and gives its records in order. `path` `None`: in memory, nothing is kept.
    ///
    /// # Errors
    /// [`StartError::File`], [`StartError::NewerFormat`], [`StartError::Corrupt`].
    pub(crate) fn open(path: Option<&Path>, on_damage: OnDamage) -> Result<(Self, Vec<R>), StartError> {
        let (disk, records) = match path {
            None => (None, Vec::new()),
            Some(path) => {
                let (disk, records) = Disk::open(path, on_damage)?;
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

    /// Whether the file has no piece of a failed append at its end.
    pub(crate) fn is_whole(&self) -> bool {
        self.disk.as_ref().is_none_or(|disk| !disk.has_rest)
    }

    /// What was written since the last call, and what could not be synced; whoever takes it syncs it, on any thread.
    pub(crate) fn take_dirty(&mut self) -> Vec<Unsynced> {
        let Some(disk) = &mut self.disk else { return Vec::new() };
        disk.folder.take_if(|folder| folder.is_synced());
        disk.folder.iter().chain([&disk.file]).filter_map(Durable::hand_out).collect()
    }
}

impl Disk {
    fn open<R: Entry>(path: &Path, on_damage: OnDamage) -> Result<(Self, Vec<R>), StartError> {
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
        if frames::is_unfinished_header(&bytes) && on_damage != OnDamage::Refuse {
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
            let is_cut = on_damage == OnDamage::Cut || (on_damage == OnDamage::CutTorn && damage.is_torn);
            if !is_cut {
                let (file, problem) = (path.to_owned(), damage.problem);
                let lost = format!(", which loses {}", lost::<R>(&bytes, contents.end));
                return Err(StartError::Corrupt { file, position, problem, cut_bytes, lost });
            }
            let (name, problem) = (path.display(), damage.problem);
            if on_damage == OnDamage::CutTorn {
                tracing::warn!(file = %name, position, cut_bytes, problem, "cut the torn tail of a journal");
            } else {
                let lost = lost::<R>(&bytes, contents.end);
                tracing::error!(file = %name, position, cut_bytes, problem, lost, "repaired: cut a corrupt journal");
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

/// What a cut at `end` loses, as far as it can be read.
fn lost<R: Entry>(bytes: &[u8], end: usize) -> String {
    const NAMED_MAX: usize = 8;
    let after = frames::after_damage::<R>(bytes, end);
    let subjects: BTreeSet<String> = after.iter().filter_map(Entry::subject).collect();
    let mut named: Vec<String> = subjects.iter().take(NAMED_MAX).cloned().collect();
    if subjects.len() > NAMED_MAX {
        named.push(format!("{} more", subjects.len() - NAMED_MAX));
    }
    let of = if named.is_empty() { String::new() } else { format!(" (of {})", named.join(", ")) };
    let count = after.len();
    let records = if count == 1 { "record" } else { "records" };
    let told = match (end, count) {
        (0, 0) => "all that it says".to_owned(),
        (0, _) => format!("{count} {records}{of}"),
        (_, 0) => "the last append".to_owned(),
        _ => format!("an append and {count} {records} after it{of}"),
    };
    format!("{told}{}", R::CONSEQUENCE)
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
