//! `dead-letters replay`: records back on the topics and partitions that they came from.
//!
//! Records and the note of which letters they were ([`Replayed`]) are one transaction, under a transactional id that only a replay
//! of this topic has: a second replay at the same time fences the first, and begins where the first one's last commit ended.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tidewatch_schemas::dead_letter::{Letter, REPLAYED_FROM};
use tidewatch_topic_io::{
    Admin, GroupMetadata, KafkaError, OffsetCommit, Outgoing, TransactionOptions, TransactionalWriter,
};

use super::line::Line;
use super::replayed::{Replayed, Walk};
use super::{Place, Source};
use crate::cli::LetterReplayArgs;
use crate::live::{count, grouped};

/// Letters of one transaction at most.
const LETTERS_MAX: usize = 1_000;
/// Bytes of one transaction's records after which it is committed.
const BYTES_MAX: usize = 16 << 20;
/// How long a transaction stays open at most, while letters that are left out are passed over; the broker allows it a minute.
const OPEN_MAX: Duration = Duration::from_secs(10);
/// Between two lines of progress.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// What a pass over the letters comes to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    /// Records put back, by topic.
    replayed: BTreeMap<String, u64>,
    /// Put back by an earlier run.
    before: u64,
    /// Of records that had been put back and failed again.
    failed_again: u64,
    /// Without what was too large for the dead-letter topic.
    omitted: u64,
    /// Records of the topic that are no dead letters.
    strange: u64,
}

impl Tally {
    fn records(&self) -> u64 {
        self.replayed.values().sum()
    }
}

/// Which letters, and as what.
struct Choice<'a> {
    args: &'a LetterReplayArgs,
    /// Of a file: the letters as they are there.
    repaired: Option<BTreeMap<Place, Letter>>,
}

impl Choice<'_> {
    /// The letter as it is to be put back, if it is; counted.
    fn take(
        &self,
        place: Place,
        letter: Letter,
        was_replayed: bool,
        tally: &mut Tally,
    ) -> anyhow::Result<Option<Letter>> {
        if !self.args.filter.matches(&letter.record) {
            return Ok(None);
        }
        let letter = match &self.repaired {
            None => letter,
            Some(repaired) => match repaired.get(&place) {
                None => return Ok(None),
                Some(line) => {
                    check_origin(place, &letter, line)?;
                    line.clone()
                }
            },
        };
        if was_replayed && !self.args.again {
            tally.before += 1;
            return Ok(None);
        }
        // What nobody has repaired would fail for ever, a letter more each time.
        if self.repaired.is_none() && !self.args.again && !self.args.failed_again && was_put_back(&letter) {
            tally.failed_again += 1;
            return Ok(None);
        }
        if letter.omitted_bytes.is_some() {
            tally.omitted += 1;
            return Ok(None);
        }
        *tally.replayed.entry(letter.record.topic.clone()).or_default() += 1;
        Ok(Some(letter))
    }
}

/// Whether the letter's record had been put back when it failed.
fn was_put_back(letter: &Letter) -> bool {
    letter.record.headers.iter().any(|header| header.key == REPLAYED_FROM)
}

/// A line repairs a record; it does not send it elsewhere.
fn check_origin(place: Place, letter: &Letter, line: &Letter) -> anyhow::Result<()> {
    let origin =
        |letter: &Letter| format!("{}-{}@{}", letter.record.topic, letter.record.partition, letter.record.offset);
    let (found, wanted) = (origin(line), origin(letter));
    anyhow::ensure!(
        found == wanted,
        "--file: letter {place} is of {wanted}, the file says {found}; change only timestamp_ms, key, value and headers"
    );
    Ok(())
}

/// Puts back what was asked for, and says what became of it.
///
/// # Errors
/// A file that does not fit the topic, a topic that is gone, or what Kafka refuses; what was committed before stays put back.
pub(super) fn run(source: &Source<'_>, group: &str, args: &LetterReplayArgs) -> anyhow::Result<String> {
    let repaired = args.file.as_deref().map(read_file).transpose()?;
    let choice = Choice { args, repaired };
    let admin = Admin::connect(source.kafka)?;
    // Before its offsets are asked for: a replay that is at it ends here.
    let writer = if args.dry_run {
        None
    } else {
        Some(TransactionalWriter::new(source.kafka, group, TransactionOptions::default())?)
    };
    let committed = admin.committed(group, source.topic)?;
    let before = committed.iter().map(|committed| match committed {
        None => Ok(Replayed::default()),
        Some(at) => Replayed::parse(at.offset, &at.metadata).with_context(|| {
            format!("the offsets of group {group:?} were not written by a replay; delete the group to begin anew")
        }),
    });
    let before: Vec<Replayed> = before.collect::<anyhow::Result<_>>()?;
    let planned = plan(source, &choice, &before, &admin)?;
    let Some(writer) = writer else { return Ok(told("would be put back", &planned)) };
    let metadata = admin.group_metadata(group)?;
    let mut run = Run {
        source,
        choice: &choice,
        before: &before,
        writer,
        metadata,
        walks: BTreeMap::new(),
        open: Open::default(),
        total: planned.records(),
        told: Instant::now(),
        tally: Tally::default(),
    };
    let done = run.all();
    if done.is_err() {
        // The broker aborts it at the time-out if this does not.
        let _ = run.writer.abort();
    }
    done?;
    let mut text = told("put back", &run.tally);
    if source.shutdown.is_asked_for() {
        text.push_str("ended early; the same command goes on where this one ended\n");
    }
    Ok(text)
}

fn read_file(path: &Path) -> anyhow::Result<BTreeMap<Place, Letter>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("--file: cannot read {}", path.display()))?;
    let mut letters = BTreeMap::new();
    for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
        let at = || format!("--file: {}:{number}", path.display());
        let (place, letter) = Line::read(line).map_err(anyhow::Error::msg).with_context(at)?;
        let twice = letters.insert(place, letter).is_some();
        anyhow::ensure!(!twice, "{}: letter {place} is there twice", at());
    }
    Ok(letters)
}

/// Goes through the letters without writing: whether all can be put back, and how many there are.
fn plan(source: &Source<'_>, choice: &Choice<'_>, before: &[Replayed], admin: &Admin) -> anyhow::Result<Tally> {
    let (mut tally, mut found) = (Tally::default(), BTreeSet::new());
    let mut partitions = BTreeMap::<String, i32>::new();
    let mut visit = |place: Place, letter: Result<Letter, String>| {
        let Ok(letter) = letter else {
            tally.strange += 1;
            return Ok(ControlFlow::Continue(()));
        };
        if choice.repaired.as_ref().is_some_and(|repaired| repaired.contains_key(&place)) {
            found.insert(place);
        }
        let was_replayed = before.get(place.partition as usize).is_some_and(|before| before.contains(place.offset));
        if let Some(Letter { record, .. }) = choice.take(place, letter, was_replayed, &mut tally)? {
            let there = match partitions.get(&record.topic) {
                Some(there) => *there,
                None => *partitions.entry(record.topic.clone()).or_insert(admin.partitions(&record.topic)?),
            };
            anyhow::ensure!(
                record.partition < there,
                "letter {place} is of partition {} of {}, which has {there}",
                record.partition,
                record.topic
            );
        }
        Ok(ControlFlow::Continue(()))
    };
    source.scan(|_| 0, &mut visit)?;
    if !source.shutdown.is_asked_for() {
        let missing = choice.repaired.iter().flat_map(BTreeMap::keys).find(|place| !found.contains(place));
        if let Some(place) = missing {
            anyhow::bail!("--file: there is no dead letter {place} on {}", source.topic);
        }
    }
    Ok(tally)
}

/// The open transaction.
#[derive(Default)]
struct Open {
    since: Option<Instant>,
    letters: usize,
    bytes: usize,
    partitions: BTreeSet<i32>,
}

struct Run<'a> {
    source: &'a Source<'a>,
    choice: &'a Choice<'a>,
    before: &'a [Replayed],
    writer: TransactionalWriter,
    metadata: GroupMetadata,
    walks: BTreeMap<i32, Walk>,
    open: Open,
    total: u64,
    told: Instant,
    tally: Tally,
}

impl Run<'_> {
    fn all(&mut self) -> anyhow::Result<()> {
        let source = self.source;
        let mut visit = |place: Place, letter: Result<Letter, String>| {
            self.visit(place, letter)?;
            Ok(ControlFlow::Continue(()))
        };
        source.scan(|_| 0, &mut visit)?;
        self.commit()
    }

    fn visit(&mut self, place: Place, letter: Result<Letter, String>) -> anyhow::Result<()> {
        let Ok(letter) = letter else {
            self.tally.strange += 1;
            return Ok(());
        };
        let before = self.before;
        let walk = self.walks.entry(place.partition).or_insert_with(|| {
            let replayed = usize::try_from(place.partition).ok().and_then(|partition| before.get(partition));
            Walk::new(replayed.cloned().unwrap_or_default())
        });
        let taken = self.choice.take(place, letter, walk.was_replayed(place.offset), &mut self.tally)?;
        walk.visit(place.offset, taken.is_some());
        if let Some(letter) = taken {
            self.send(place, &letter)?;
        }
        let is_old = self.open.since.is_some_and(|since| since.elapsed() >= OPEN_MAX);
        if self.open.letters >= LETTERS_MAX || self.open.bytes >= BYTES_MAX || is_old {
            self.commit()?;
        }
        Ok(())
    }

    fn send(&mut self, place: Place, letter: &Letter) -> Result<(), KafkaError> {
        if !self.writer.is_open() {
            self.writer.begin()?;
            self.open.since = Some(Instant::now());
        }
        let record = &letter.record;
        let from = format!("{}-{}@{}", self.source.topic, place.partition, place.offset);
        let own = record.headers.iter().filter(|header| header.key != REPLAYED_FROM);
        let own = own.map(|header| (header.key.as_str(), header.value.as_deref()));
        let headers = own.chain([(REPLAYED_FROM, Some(from.as_bytes()))]);
        let outgoing = Outgoing {
            topic: &record.topic,
            partition: Some(record.partition),
            key: record.key.as_deref(),
            value: record.value.as_deref(),
            headers: &[],
            timestamp_ms: Some(letter.timestamp_ms()),
        };
        self.writer.send_with(outgoing, headers)?;
        self.open.letters += 1;
        self.open.bytes += record.value.as_ref().map_or(0, Vec::len);
        self.open.partitions.insert(place.partition);
        Ok(())
    }

    fn commit(&mut self) -> anyhow::Result<()> {
        if !self.writer.is_open() {
            return Ok(());
        }
        let open = std::mem::take(&mut self.open);
        let replayed =
            open.partitions.iter().filter_map(|partition| Some((*partition, self.walks.get(partition)?.replayed())));
        let mut notes = Vec::new();
        for (partition, replayed) in replayed {
            let metadata = replayed.metadata().with_context(|| {
                format!(
                    "the letters of partition {partition} that would have been put back are too scattered among others to be \
                     remembered; choose with fewer filters, or with --failed-again"
                )
            })?;
            notes.push((partition, replayed.next, metadata));
        }
        let offsets: Vec<OffsetCommit<'_>> = notes
            .iter()
            .map(|(partition, offset, metadata)| OffsetCommit {
                topic: self.source.topic,
                partition: *partition,
                offset: *offset,
                metadata,
            })
            .collect();
        self.writer.commit(&offsets, &self.metadata)?;
        if self.told.elapsed() >= TELL_EVERY {
            self.told = Instant::now();
            let (done, total) = (grouped(self.tally.records()), count(self.total, "record"));
            // Nobody can be told that standard error is closed.
            let _ = writeln!(std::io::stderr(), "replay   {done} of {total} put back");
        }
        Ok(())
    }
}

fn told(what: &str, tally: &Tally) -> String {
    let topics: Vec<String> =
        tally.replayed.iter().map(|(topic, records)| format!("{} on {topic}", grouped(*records))).collect();
    let colon = if topics.is_empty() { "" } else { ": " };
    let mut text = format!("{} {what}{colon}{}\n", count(tally.records(), "record"), topics.join(", "));
    for (number, why) in [
        (tally.before, "put back before; --again repeats them"),
        (tally.failed_again, "failed again after they were put back; --failed-again puts them back once more"),
        (tally.omitted, "without what was too large for the dead-letter topic"),
        (tally.strange, "no dead letters"),
    ] {
        if number > 0 {
            text.push_str(&format!("{} left out: {why}\n", grouped(number)));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_says_what_was_left_out_and_why() {
        assert_eq!(told("put back", &Tally::default()), "0 records put back\n");
        let tally = Tally {
            replayed: [("a".to_owned(), 1_200), ("b".to_owned(), 1)].into(),
            before: 3,
            failed_again: 2,
            omitted: 1,
            strange: 0,
        };
        assert_eq!(
            told("would be put back", &tally),
            "1,201 records would be put back: 1,200 on a, 1 on b\n3 left out: put back before; --again repeats them\n\
             2 left out: failed again after they were put back; --failed-again puts them back once more\n\
             1 left out: without what was too large for the dead-letter topic\n"
        );
    }
}
