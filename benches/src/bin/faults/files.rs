//! What Delivery has stored: the offsets in its Parquet files, as a reader of the folder finds them, against those on the topics.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::record::RowAccessor as _;
use parquet::schema::types::Type;
use tidewatch_sink::TopicKind;
use tidewatch_sink::delivery::REJECTED_FOLDER;

/// The offsets of each partition.
pub(crate) type Offsets = BTreeMap<(TopicKind, i32), Vec<i64>>;

/// The offsets in all files of an output, sorted.
///
/// # Errors
/// A file that cannot be read, or one of records that nobody could read.
pub(crate) fn stored(output: &Path) -> anyhow::Result<Offsets> {
    let mut offsets = Offsets::new();
    for kind in TopicKind::ALL {
        for file in files(&output.join(kind.as_str()), "parquet")? {
            read(&file, kind, &mut offsets).with_context(|| format!("{}", file.display()))?;
        }
    }
    let rejected = files(&output.join(REJECTED_FOLDER), "jsonl")?;
    anyhow::ensure!(rejected.is_empty(), "Delivery could not read records: {}", rejected[0].display());
    offsets.values_mut().for_each(|offsets| offsets.sort_unstable());
    Ok(offsets)
}

fn files(folder: &Path, extension: &str) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    if !folder.exists() {
        return Ok(found);
    }
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path, extension)?);
        } else if path.extension().is_some_and(|is| is == extension) {
            found.push(path);
        }
    }
    Ok(found)
}

fn read(file: &Path, kind: TopicKind, offsets: &mut Offsets) -> anyhow::Result<()> {
    let reader = SerializedFileReader::new(File::open(file)?)?;
    let schema = reader.metadata().file_metadata().schema();
    let columns = schema.get_fields().iter().filter(|column| ["_partition", "_offset"].contains(&column.name()));
    let projection = Type::group_type_builder(schema.name()).with_fields(columns.cloned().collect()).build()?;
    for row in reader.get_row_iter(Some(projection))? {
        let row = row?;
        // In the order of the file's columns.
        let (partition, offset) = (row.get_int(0)?, row.get_long(1)?);
        offsets.entry((kind, partition)).or_default().push(offset);
    }
    Ok(())
}

/// The first offset that is stored and not written, written and not stored, or stored twice.
pub(crate) fn first_difference(written: &Offsets, stored: &Offsets) -> Option<String> {
    let places: std::collections::BTreeSet<_> = written.keys().chain(stored.keys()).collect();
    for place in places {
        let [written, stored] =
            [written, stored].map(|offsets| offsets.get(place).map(Vec::as_slice).unwrap_or_default());
        let name = format!("{} partition {}", place.0, place.1);
        if let Some(twice) = stored.windows(2).find(|pair| pair[0] == pair[1]) {
            return Some(format!("{name}: offset {} is stored twice", twice[0]));
        }
        let at = written.iter().zip(stored).take_while(|(written, stored)| written == stored).count();
        match (written.get(at), stored.get(at)) {
            (None, None) => {}
            (Some(written), Some(stored)) if written > stored => {
                return Some(format!("{name}: offset {stored} is stored and not on the topic"));
            }
            (Some(written), _) => return Some(format!("{name}: offset {written} is not stored")),
            (None, Some(stored)) => return Some(format!("{name}: offset {stored} is stored and not on the topic")),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(written: &[i64], stored: &[i64], expected: Option<&str>) {
        let of = |offsets: &[i64]| Offsets::from([((TopicKind::Late, 2), offsets.to_vec())]);
        let said = first_difference(&of(written), &of(stored));
        assert_eq!(said.as_deref(), expected, "{written:?} {stored:?}");
    }

    #[test]
    fn files_cover_what_was_written_once() {
        check(&[0, 1, 4], &[0, 1, 4], None);
        check(&[0, 1, 4], &[0, 1], Some("late partition 2: offset 4 is not stored"));
        check(&[0, 1, 4], &[0, 4], Some("late partition 2: offset 1 is not stored"));
        check(&[0, 1, 4], &[0, 1, 1, 4], Some("late partition 2: offset 1 is stored twice"));
        check(&[0, 1, 4], &[0, 1, 2, 4], Some("late partition 2: offset 2 is stored and not on the topic"));
        check(&[0, 1], &[0, 1, 4], Some("late partition 2: offset 4 is stored and not on the topic"));
    }
}
