//! Where topics are kept: `topics/NAME.ID/PARTITION/`, the name cut to 200 characters, the id in Kafka's text form.
//!
//! Invariant: nothing is removed here but what is known to be dead: the folder of a topic that the journal calls deleted,
//! or one without a byte in it, which a killed creation leaves. Any other folder that the journal does not name is set
//! aside in `lost+found/`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::id;
use crate::error::StartError;

/// Characters of the name in a folder's name: with the id it stays below the 255 bytes that file systems allow.
const NAME_LENGTH_MAX: usize = 200;

/// The folder of all topics, in the data folder.
pub(crate) const TOPICS: &str = "topics";
/// Where folders that no journal names are set aside, in the data folder.
pub(crate) const LOST: &str = "lost+found";

/// A topic's folder within that of all topics.
pub(crate) fn of_topic(topics: &Path, name: &str, id: Uuid) -> PathBuf {
    // A topic's name is ASCII, so this cuts at a character.
    let name = name.get(..NAME_LENGTH_MAX).unwrap_or(name);
    topics.join(format!("{name}.{}", id::text(id)))
}

/// The id in the name of a topic's folder.
fn id_of(folder: &Path) -> Option<Uuid> {
    let (_, text) = folder.file_name()?.to_str()?.rsplit_once('.')?;
    id::parse(text)
}

/// The number of a partition's folder.
fn partition_of(folder: &Path) -> Option<u32> {
    folder.file_name()?.to_str()?.parse().ok()
}

/// A partition's folder as users name it: `orders-0`.
pub(crate) fn shown(folder: &Path) -> String {
    let name =
        |folder: Option<&Path>| folder.and_then(Path::file_name).unwrap_or_default().to_string_lossy().into_owned();
    let (topic, partition) = (name(folder.parent()), name(Some(folder)));
    format!("{}-{partition}", topic.rsplit_once('.').map_or(&*topic, |(name, _)| name))
}

/// Removes what is left of deleted topics and of killed creations, and sets aside what the journal does not know. `alive`
/// has the topics' numbers of partitions.
///
/// # Errors
/// [`StartError::File`]: a folder cannot be read, removed or moved.
pub(crate) fn tidy(data: &Path, alive: &BTreeMap<Uuid, u32>, deleted: &BTreeSet<Uuid>) -> Result<(), StartError> {
    for folder in entries(&data.join(TOPICS))? {
        let id = id_of(&folder);
        match id.and_then(|id| alive.get(&id)) {
            Some(partitions) => {
                for folder in entries(&folder)? {
                    if partition_of(&folder).is_none_or(|partition| partition >= *partitions) {
                        put_away(data, &folder, false)?;
                    }
                }
            }
            None => put_away(data, &folder, id.is_some_and(|id| deleted.contains(&id)))?,
        }
    }
    Ok(())
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, StartError> {
    let entries = fs::read_dir(folder).and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect());
    entries.map_err(|source| StartError::File { action: "read", path: folder.to_owned(), source })
}

/// Removes a folder that is dead or empty, and sets any other aside.
fn put_away(data: &Path, folder: &Path, is_dead: bool) -> Result<(), StartError> {
    let failed = |action| move |source| StartError::File { action, path: folder.to_owned(), source };
    if is_dead || is_empty(folder).map_err(failed("read"))? {
        return remove(folder).map_err(failed("remove"));
    }
    let aside = set_aside(data, folder).map_err(failed("set aside"))?;
    let (folder, aside) = (folder.display(), aside.display());
    tracing::warn!(%folder, %aside, "a folder that the topics' journal does not name was set aside");
    Ok(())
}

/// Whether there is not one byte in any file of it.
fn is_empty(path: &Path) -> io::Result<bool> {
    let metadata = fs::symlink_metadata(path)?;
    if !metadata.is_dir() {
        return Ok(metadata.is_file() && metadata.len() == 0);
    }
    for entry in fs::read_dir(path)? {
        if !is_empty(&entry?.path())? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Removes a file or a folder and what is in it; it may be gone already.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    removed.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
}

/// Moves a folder to the first free name in `lost+found/`.
fn set_aside(data: &Path, folder: &Path) -> io::Result<PathBuf> {
    let lost = data.join(LOST);
    fs::create_dir_all(&lost)?;
    let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let names = std::iter::once(name.clone()).chain((1_u32..).map(|count| format!("{name}.{count}")));
    let free = names.map(|name| lost.join(name)).find(|path| !path.exists());
    let aside = free.ok_or(io::ErrorKind::AlreadyExists)?;
    fs::rename(folder, &aside)?;
    Ok(aside)
}
