//! The data folder: its lock, and the file that says which format it has and which cluster it is.
//!
//! Invariant: while a broker runs, its process holds the lock of `lock`; the system lets it go however the process ends. What
//! stands in that file, the broker's address, means nothing without the lock.

use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use crate::error::StartError;
use crate::topics::id;

/// The format that is written here, and the newest that is read.
const FORMAT: u32 = 1;
const FORMAT_FILE: &str = "format";
const LOCK_FILE: &str = "lock";

/// A data folder that is ours while this lives.
#[derive(Debug)]
pub(super) struct DataFolder {
    pub(super) cluster_id: String,
    lock: File,
}

impl DataFolder {
    /// Makes the folder if it is not there, takes its lock and reads its format, or makes it one of this format.
    ///
    /// # Errors
    /// [`StartError::InUse`], [`StartError::NewerFormat`], and [`StartError::File`] for a folder that cannot be used or that
    /// is full of somebody else's files.
    pub(super) fn open(folder: &Path) -> Result<Self, StartError> {
        fs::create_dir_all(folder).map_err(file_error("make", folder))?;
        let lock = lock(folder)?;
        let format_file = folder.join(FORMAT_FILE);
        let cluster_id = match fs::read_to_string(&format_file) {
            Ok(text) => parse(&text, &format_file)?,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                refuse_foreign(folder)?;
                let cluster_id = id::text(id::random());
                write(folder, &cluster_id).map_err(file_error("write", &format_file))?;
                cluster_id
            }
            Err(error) => return Err(file_error("read", &format_file)(error)),
        };
        Ok(Self { cluster_id, lock })
    }
}

impl DataFolder {
    /// Tells whoever finds the folder in use where its broker is. Who cannot be told finds it in use all the same.
    pub(super) fn tell(&self, address: &str) {
        let mut lock = &self.lock;
        let told = lock.set_len(0).and_then(|()| writeln!(lock, "{address}"));
        if let Err(error) = told {
            tracing::warn!(%error, "the address cannot be written into the lock file");
        }
    }
}

fn lock(folder: &Path) -> Result<File, StartError> {
    let path = folder.join(LOCK_FILE);
    let lock = File::options().create(true).truncate(false).read(true).write(true).open(&path);
    let mut lock = lock.map_err(file_error("open", &path))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => {
            let mut address = String::new();
            // A broker that has just begun has not told its address yet.
            let is_told = lock.read_to_string(&mut address).is_ok() && address.ends_with('\n');
            Err(StartError::InUse { folder: folder.to_owned(), address: is_told.then(|| address.trim().to_owned()) })
        }
        Err(TryLockError::Error(error)) => Err(file_error("lock", &path)(error)),
    }
}

/// A folder without a format file is new, or is one that a broker was killed in before it had written that; a folder with
/// anything else in it was named by mistake.
fn refuse_foreign(folder: &Path) -> Result<(), StartError> {
    for entry in fs::read_dir(folder).map_err(file_error("read", folder))? {
        let name = entry.map_err(file_error("read", folder))?.file_name();
        if name != LOCK_FILE && name != *temporary() {
            let problem = format!("it holds {name:?} and no broker's data; choose an empty folder");
            return Err(file_error("use", folder)(io::Error::other(problem)));
        }
    }
    Ok(())
}

fn parse(text: &str, file: &Path) -> Result<String, StartError> {
    let mut lines = text.lines();
    let found = lines.next().and_then(|line| line.strip_prefix("format ")?.parse().ok());
    let Some(found) = found else {
        return Err(file_error("read", file)(io::Error::other("its first line is not `format` and a number")));
    };
    if found > FORMAT {
        return Err(StartError::NewerFormat { file: file.to_owned(), found, known: FORMAT });
    }
    let cluster_id = lines.next().and_then(|line| line.strip_prefix("cluster "));
    let cluster_id = cluster_id.filter(|text| id::parse(text).is_some());
    let damaged = || file_error("read", file)(io::Error::other("its second line is not `cluster` and an id"));
    cluster_id.map(str::to_owned).ok_or_else(damaged)
}

/// Written aside and renamed, so that it is there whole or not at all.
fn write(folder: &Path, cluster_id: &str) -> io::Result<()> {
    let aside = folder.join(temporary());
    let mut file = File::create(&aside)?;
    file.write_all(format!("format {FORMAT}\ncluster {cluster_id}\n").as_bytes())?;
    file.sync_all()?;
    fs::rename(&aside, folder.join(FORMAT_FILE))?;
    File::open(folder)?.sync_all()
}

fn temporary() -> String {
    format!("{FORMAT_FILE}.new")
}

fn file_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StartError {
    let path: PathBuf = path.to_owned();
    move |source| StartError::File { action, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(files: &[(&str, &str)], expected: Result<&str, &str>) {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        let opened = DataFolder::open(folder.path()).map(|data| data.cluster_id).map_err(|error| told(&error));
        let shown = opened.map_err(|error| error.replace(&*folder.path().to_string_lossy(), "DIR"));
        assert_eq!(shown.as_deref().map_err(String::as_str), expected, "{files:?}");
    }

    /// An error and what it comes from.
    fn told(error: &StartError) -> String {
        let source = std::error::Error::source(error).map(|source| format!(": {source}"));
        format!("{error}{}", source.unwrap_or_default())
    }

    const CLUSTER: &str = "5L6g3nShT-eMCtK--X86sw";

    #[test]
    fn a_folder_keeps_its_cluster_id() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("not/yet/there");
        let first = DataFolder::open(&folder).unwrap().cluster_id;
        assert_eq!(first.len(), 22);
        assert_eq!(DataFolder::open(&folder).unwrap().cluster_id, first);
    }

    #[test]
    fn a_folder_has_one_broker() {
        let folder = tempfile::tempdir().unwrap();
        let held = DataFolder::open(folder.path()).unwrap();
        let refused = DataFolder::open(folder.path()).unwrap_err();
        assert!(matches!(refused, StartError::InUse { address: None, .. }), "{refused}");
        held.tell("127.0.0.1:9092");
        let refused = DataFolder::open(folder.path()).unwrap_err().to_string();
        assert!(refused.contains(" is in use by another broker at 127.0.0.1:9092; stop it"), "{refused}");
        drop(held);
        DataFolder::open(folder.path()).unwrap();
    }

    #[test]
    fn formats_are_told_apart() {
        check(&[("format", &format!("format 1\ncluster {CLUSTER}\n"))], Ok(CLUSTER));
        check(
            &[("format", "format 2\nwhatever")],
            Err(
                "DIR/format has format 2, this broker knows up to 1; start it with a newer version, or choose another data folder",
            ),
        );
        check(&[("format", "")], Err("cannot read DIR/format: its first line is not `format` and a number"));
        check(&[("format", "format 1\n")], Err("cannot read DIR/format: its second line is not `cluster` and an id"));
        check(
            &[("format", "format 1\ncluster ../..\n")],
            Err("cannot read DIR/format: its second line is not `cluster` and an id"),
        );
    }

    #[test]
    fn somebody_elses_folder_is_left_alone() {
        check(
            &[("thesis.tex", "")],
            Err("cannot use DIR: it holds \"thesis.tex\" and no broker's data; choose an empty folder"),
        );
    }

    #[test]
    fn a_broker_killed_at_its_first_start_left_a_new_folder() {
        let folder = tempfile::tempdir().unwrap();
        for name in [LOCK_FILE, &temporary()] {
            fs::write(folder.path().join(name), "for").unwrap();
        }
        DataFolder::open(folder.path()).unwrap();
    }
}
