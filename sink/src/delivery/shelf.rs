//! The storage side of Delivery: claims and files on an object store, with bounded retries.
//!
//! Invariant: after [`Shelf::place`] returned `Visible`, all files of the roll and their claim are
//! complete and, on a local folder, on the disk. Before that the claim alone decides what the roll
//! is, and any writer may finish it any number of times with the same result.

use std::collections::BTreeSet;
use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;

use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{Error as StoreError, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};

use super::claim::{CLAIM_VERSION, Claim, all_claims_folder, claim_path, claims_folder, topic_claims_folder};
use super::kind::TopicKind;
use super::{ALERT_LINES_FOLDER, REJECTED_FOLDER};
use crate::config::{OutputLocation, RetrySettings};
use crate::metrics;

/// Why storage could not take a roll. Everything here ends the role; nothing was committed for it.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// An operation failed as often as it may.
    #[error(
        "cannot {operation} {path} in `sink.output` = \"{output}\" after {attempts} tries: {reason}; make the folder writable and free space on it, what was not written is read again"
    )]
    Refused {
        /// What was tried.
        operation: &'static str,
        /// Path under the output.
        path: String,
        /// The configured output.
        output: String,
        /// Tries made.
        attempts: u32,
        /// The innermost reason.
        reason: String,
    },
    /// The output cannot be opened at all.
    #[error("cannot use `sink.output` = \"{output}\": {reason}")]
    Unusable {
        /// The configured output.
        output: String,
        /// The innermost reason.
        reason: String,
    },
    /// A claim is not what this version writes.
    #[error(
        "the claim {path} in `sink.output` = \"{output}\" is unreadable: {reason}; restore it, or use another `sink.output` and `sink.group_id` to write everything again"
    )]
    BrokenClaim {
        /// Path under the output.
        path: String,
        /// The configured output.
        output: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The topic's records are not those that the claim was made for.
    #[error(
        "`sink.output` = \"{output}\" already claims offsets {first_offset} to {last_offset} of {topic} partition {partition} with {claimed} records, but the topic has {found} there; if the topic was made anew or its records expired, use another `sink.output` and `sink.group_id`"
    )]
    Contradiction {
        /// The configured output.
        output: String,
        /// Kafka topic.
        topic: String,
        /// Its partition.
        partition: i32,
        /// First claimed offset.
        first_offset: i64,
        /// Last claimed offset.
        last_offset: i64,
        /// Records claimed.
        claimed: u64,
        /// Records found.
        found: u64,
    },
}

/// A roll ready to be stored.
#[derive(Debug)]
pub(crate) struct EncodedRoll {
    /// Names, sizes and offsets.
    pub(crate) claim: Claim,
    /// The files' bytes, in the claim's order.
    pub(crate) contents: Vec<Vec<u8>>,
}

/// What became of a roll.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Placed {
    /// All its files are there.
    Visible,
    /// Another writer claimed the same first offset with another last one: its cut is the right one.
    ClaimedUntil(i64),
}

/// Where a partition goes on.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Resume {
    /// The next offset that is not visible.
    pub(crate) next_offset: i64,
    /// When a claimed roll is unfinished: the offset at which it must be cut.
    pub(crate) unfinished_last: Option<i64>,
}

/// An output and how patiently it is written.
#[derive(Debug)]
pub(crate) struct Shelf {
    store: Arc<dyn ObjectStore>,
    /// Set when the store is a local folder: what is on it is synced, leftovers are swept.
    root: Option<PathBuf>,
    shown: String,
    retry: RetrySettings,
}

impl Shelf {
    /// Opens the output and writes and removes one small file, so that a folder that cannot be
    /// written to is told at start and not after the first roll.
    pub(crate) async fn open(location: &OutputLocation, retry: RetrySettings) -> Result<Self, StorageError> {
        let OutputLocation::Folder(folder) = location;
        let shown = folder.display().to_string();
        let unusable = |reason: String| StorageError::Unusable { output: shown.clone(), reason };
        std::fs::create_dir_all(folder).map_err(|e| unusable(e.to_string()))?;
        let root = folder.canonicalize().map_err(|e| unusable(e.to_string()))?;
        let store = LocalFileSystem::new_with_prefix(&root).map_err(|e| unusable(innermost(&e)))?;
        let probe = Path::from("_tidewatch").join(format!("probe-{}", std::process::id()).as_str());
        store.put(&probe, PutPayload::from_static(b"writable")).await.map_err(|e| unusable(innermost(&e)))?;
        store.delete(&probe).await.map_err(|e| unusable(innermost(&e)))?;
        Ok(Self { store: Arc::new(store), root: Some(root), shown, retry })
    }

    /// Opens the output to look at it: nothing is written. `None` if it is not there.
    pub(crate) fn look(location: &OutputLocation, retry: RetrySettings) -> Result<Option<Self>, StorageError> {
        let OutputLocation::Folder(folder) = location;
        let shown = folder.display().to_string();
        let unusable = |reason: String| StorageError::Unusable { output: shown.clone(), reason };
        match folder.canonicalize() {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(unusable(error.to_string())),
            Ok(root) => {
                let store = LocalFileSystem::new_with_prefix(&root).map_err(|e| unusable(innermost(&e)))?;
                Ok(Some(Self { store: Arc::new(store), root: Some(root), shown, retry }))
            }
        }
    }

    /// A shelf on any store, for tests.
    #[cfg(test)]
    pub(crate) fn on(store: Arc<dyn ObjectStore>, retry: RetrySettings) -> Self {
        Self { store, root: None, shown: "test".to_owned(), retry }
    }

    /// Where a partition goes on: behind the newest claim, at its start when it is unfinished, or at
    /// the committed offset when that is further (an earlier output holds what came before).
    ///
    /// A commit behind the claim proves that its files were all there once, so that files which a
    /// person removed since are not made again. `None`: nothing is known, the group's policy decides.
    pub(crate) async fn resume(
        &self,
        topic: &str,
        partition: i32,
        committed: Option<i64>,
    ) -> Result<Option<Resume>, StorageError> {
        let Some(claim) = self.newest_claim(topic, partition).await? else {
            return Ok(committed.map(|next_offset| Resume { next_offset, unfinished_last: None }));
        };
        let behind = claim.last_offset + 1;
        if let Some(committed) = committed
            && committed >= behind
        {
            return Ok(Some(Resume { next_offset: committed, unfinished_last: None }));
        }
        Ok(Some(if self.is_complete(&claim).await? {
            Resume { next_offset: behind, unfinished_last: None }
        } else {
            Resume { next_offset: claim.first_offset, unfinished_last: Some(claim.last_offset) }
        }))
    }

    /// The claim with the highest first offset. Only this one can be unfinished: a writer claims the
    /// next roll after it saw the one before complete.
    pub(crate) async fn newest_claim(&self, topic: &str, partition: i32) -> Result<Option<Claim>, StorageError> {
        let folder = claims_folder(topic, partition);
        let listing = self.retried("list", &folder, || self.store.list_with_delimiter(Some(&folder))).await?;
        let mut claims: Vec<_> =
            listing.objects.into_iter().filter(|o| o.location.as_ref().ends_with(".json")).collect();
        claims.sort_by(|a, b| a.location.cmp(&b.location));
        while let Some(newest) = claims.pop() {
            if newest.size > 0 {
                return self.read_claim(&newest.location, topic, partition).await.map(Some);
            }
            // Power was lost before the claim reached the disk, so none of its files was begun.
            self.retried("remove", &newest.location, || self.store.delete(&newest.location)).await?;
        }
        Ok(None)
    }

    /// The partitions of a topic that have claims.
    pub(crate) async fn claimed_partitions(&self, topic: &str) -> Result<BTreeSet<i32>, StorageError> {
        let folder = topic_claims_folder(topic);
        let listing = self.retried("list", &folder, || self.store.list_with_delimiter(Some(&folder))).await?;
        Ok(listing.common_prefixes.iter().filter_map(|folder| folder.filename()?.parse().ok()).collect())
    }

    /// The topics that have claims.
    pub(crate) async fn claimed_topics(&self) -> Result<BTreeSet<String>, StorageError> {
        let folder = all_claims_folder();
        let listing = self.retried("list", &folder, || self.store.list_with_delimiter(Some(&folder))).await?;
        Ok(listing.common_prefixes.iter().filter_map(|folder| Some(folder.filename()?.to_owned())).collect())
    }

    /// The paths of all files that look like data, whatever put them there.
    pub(crate) async fn data_files(&self) -> Result<Vec<String>, StorageError> {
        let kinds = TopicKind::ALL.iter().map(|kind| kind.as_str());
        let mut folders: Vec<Path> = kinds.chain([ALERT_LINES_FOLDER, REJECTED_FOLDER]).map(Path::from).collect();
        let mut files = Vec::new();
        while let Some(folder) = folders.pop() {
            let listing = self.retried("list", &folder, || self.store.list_with_delimiter(Some(&folder))).await?;
            folders.extend(listing.common_prefixes);
            let paths = listing.objects.into_iter().map(|object| object.location.to_string());
            files.extend(paths.filter(|path| path.ends_with(".parquet") || path.ends_with(".jsonl")));
        }
        files.sort();
        Ok(files)
    }

    /// All claims of a partition, oldest first. An empty one is none: power was lost before it reached the disk.
    pub(crate) async fn claims(&self, topic: &str, partition: i32) -> Result<Vec<Claim>, StorageError> {
        let folder = claims_folder(topic, partition);
        let listing = self.retried("list", &folder, || self.store.list_with_delimiter(Some(&folder))).await?;
        let mut paths: Vec<_> = listing.objects.into_iter().filter(|object| object.size > 0).collect();
        paths.retain(|object| object.location.as_ref().ends_with(".json"));
        paths.sort_by(|a, b| a.location.cmp(&b.location));
        let mut claims = Vec::with_capacity(paths.len());
        for object in paths {
            claims.push(self.read_claim(&object.location, topic, partition).await?);
        }
        Ok(claims)
    }

    /// Makes a roll visible: claim, files, disk. Repeating it is harmless.
    pub(crate) async fn place(&self, roll: &EncodedRoll) -> Result<Placed, StorageError> {
        let ours = &roll.claim;
        let path = claim_path(&ours.topic, ours.partition, ours.first_offset);
        let json = serde_json::to_vec_pretty(ours).expect("a claim is plain data");
        let mut present = BTreeSet::new();
        if !self.create(&path, json).await? {
            let theirs = self.read_claim(&path, &ours.topic, ours.partition).await?;
            if theirs.last_offset != ours.last_offset {
                return Ok(Placed::ClaimedUntil(theirs.last_offset));
            }
            self.check_same_records(&theirs, ours)?;
            self.sweep_leftovers(&theirs);
            for file in &theirs.files {
                if self.size(&Path::from(file.path.as_str())).await? == Some(file.bytes) {
                    present.insert(file.path.clone());
                }
            }
        }
        self.sync([path])?;
        for (file, bytes) in ours.files.iter().zip(&roll.contents) {
            if !present.contains(&file.path) {
                let path = Path::from(file.path.as_str());
                self.retried("write", &path, || self.store.put(&path, PutPayload::from(bytes.clone()))).await?;
            }
        }
        self.sync(ours.files.iter().map(|file| Path::from(file.path.as_str())))?;
        Ok(Placed::Visible)
    }

    fn check_same_records(&self, theirs: &Claim, ours: &Claim) -> Result<(), StorageError> {
        let rows = |claim: &Claim| claim.files.iter().map(|f| (f.path.clone(), f.rows)).collect::<Vec<_>>();
        if theirs.records == ours.records && rows(theirs) == rows(ours) {
            return Ok(());
        }
        Err(self.contradiction(theirs, ours.records))
    }

    /// The error for a claimed range whose records are not in the topic any more.
    pub(crate) fn contradiction(&self, claim: &Claim, found: u64) -> StorageError {
        StorageError::Contradiction {
            output: self.shown.clone(),
            topic: claim.topic.clone(),
            partition: claim.partition,
            first_offset: claim.first_offset,
            last_offset: claim.last_offset,
            claimed: claim.records,
            found,
        }
    }

    /// The error for a claim that was there at start and is not any more.
    pub(crate) fn claim_vanished(&self, topic: &str, partition: i32) -> StorageError {
        StorageError::BrokenClaim {
            path: claims_folder(topic, partition).to_string(),
            output: self.shown.clone(),
            reason: "it was removed while it was being finished".to_owned(),
        }
    }

    /// Whether all files of a claim are there in full.
    pub(crate) async fn is_complete(&self, claim: &Claim) -> Result<bool, StorageError> {
        for file in &claim.files {
            if self.size(&Path::from(file.path.as_str())).await? != Some(file.bytes) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The size of an object in bytes, if it is there.
    pub(crate) async fn size(&self, path: &Path) -> Result<Option<u64>, StorageError> {
        self.retried("look at", path, || async {
            match self.store.head(path).await {
                Ok(meta) => Ok(Some(meta.size)),
                Err(StoreError::NotFound { .. }) => Ok(None),
                Err(error) => Err(error),
            }
        })
        .await
    }

    /// True when the object is new, false when it was there.
    async fn create(&self, path: &Path, bytes: Vec<u8>) -> Result<bool, StorageError> {
        let payload = PutPayload::from(bytes);
        self.retried("claim", path, || async {
            let options = PutOptions::from(PutMode::Create);
            match self.store.put_opts(path, payload.clone(), options).await {
                Ok(_) => Ok(true),
                Err(StoreError::AlreadyExists { .. }) => Ok(false),
                Err(error) => Err(error),
            }
        })
        .await
    }

    async fn read_claim(&self, path: &Path, topic: &str, partition: i32) -> Result<Claim, StorageError> {
        let bytes = self.retried("read", path, || async { self.store.get(path).await?.bytes().await }).await?;
        let broken =
            |reason: String| StorageError::BrokenClaim { path: path.to_string(), output: self.shown.clone(), reason };
        let claim: Claim = serde_json::from_slice(&bytes).map_err(|e| broken(e.to_string()))?;
        if claim.version != CLAIM_VERSION {
            return Err(broken(format!("version {} where this program writes {CLAIM_VERSION}", claim.version)));
        }
        if claim.topic != topic || claim.partition != partition || claim.first_offset > claim.last_offset {
            return Err(broken(format!("it speaks of {} partition {}", claim.topic, claim.partition)));
        }
        Ok(claim)
    }

    /// One operation with the bounded, doubling waits of `sink.retry`.
    async fn retried<T, F>(&self, operation: &'static str, path: &Path, run: impl Fn() -> F) -> Result<T, StorageError>
    where
        F: Future<Output = object_store::Result<T>>,
    {
        let mut failed = 0;
        loop {
            let error = match run().await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            failed += 1;
            if failed >= self.retry.attempts {
                return Err(StorageError::Refused {
                    operation,
                    path: path.to_string(),
                    output: self.shown.clone(),
                    attempts: failed,
                    reason: innermost(&error),
                });
            }
            metrics::storage_retry();
            let wait = self.retry.wait_after(failed);
            tracing::warn!(operation, path = %path, failed, wait_ms = wait.as_millis() as u64, reason = innermost(&error), "storage refused, trying again");
            tokio::time::sleep(wait).await;
        }
    }

    /// Forces objects of a local folder, and the folders that name them, to the disk; other stores
    /// are durable when `put` returns.
    fn sync(&self, paths: impl IntoIterator<Item = Path>) -> Result<(), StorageError> {
        let Some(root) = &self.root else { return Ok(()) };
        let mut folders = BTreeSet::new();
        for path in paths {
            let file = root.join(path.as_ref());
            self.sync_one(&file)?;
            folders.extend(file.ancestors().skip(1).take_while(|dir| dir.starts_with(root)).map(FsPath::to_path_buf));
        }
        folders.iter().try_for_each(|folder| self.sync_one(folder))
    }

    fn sync_one(&self, path: &FsPath) -> Result<(), StorageError> {
        std::fs::File::open(path).and_then(|file| file.sync_all()).map_err(|error| StorageError::Refused {
            operation: "sync",
            path: path.display().to_string(),
            output: self.shown.clone(),
            attempts: 1,
            reason: error.to_string(),
        })
    }

    /// Removes the staging files (`<name>#<n>`) that a killed writer left beside the files of a
    /// claim: a reader given the folder would stumble over them. A failure here harms nobody.
    fn sweep_leftovers(&self, claim: &Claim) {
        let Some(root) = &self.root else { return };
        for file in &claim.files {
            let path = root.join(&file.path);
            let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { continue };
            let prefix = format!("{}#", name.to_string_lossy());
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                if entry.file_name().to_string_lossy().starts_with(&prefix) {
                    let _ = std::fs::remove_file(entry.path());
                }
            }
        }
    }
}

/// The last error of a chain: object_store wraps "no space left on device" three times.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::claim::ClaimedFile;
    use crate::delivery::stored::{self, Files, Stored};

    const QUICK: RetrySettings =
        RetrySettings { attempts: 2, backoff: std::time::Duration::ZERO, backoff_max: std::time::Duration::ZERO };

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
    }

    fn roll(offsets: (i64, i64), path: &str) -> EncodedRoll {
        let files = vec![ClaimedFile { path: path.to_owned(), bytes: 3, rows: 1 }];
        let (first_offset, last_offset) = offsets;
        let claim = Claim {
            version: CLAIM_VERSION,
            topic: "t".to_owned(),
            partition: 0,
            first_offset,
            last_offset,
            records: 1,
            files,
        };
        EncodedRoll { claim, contents: vec![b"abc".to_vec()] }
    }

    fn open(folder: &FsPath) -> Result<Shelf, StorageError> {
        run(Shelf::open(&OutputLocation::Folder(folder.to_path_buf()), QUICK))
    }

    #[test]
    fn a_killed_writers_leftovers_are_swept_when_its_roll_is_finished() {
        let folder = tempfile::tempdir().unwrap();
        let shelf = open(folder.path()).unwrap();
        assert_eq!(run(shelf.place(&roll((1, 4), "late/a.parquet"))).unwrap(), Placed::Visible);
        let file = folder.path().join("late/a.parquet");
        std::fs::write(&file, "a").unwrap();
        std::fs::write(folder.path().join("late/a.parquet#1"), "half").unwrap();
        let resume = run(shelf.resume("t", 0, None)).unwrap().unwrap();
        assert_eq!(resume, Resume { next_offset: 1, unfinished_last: Some(4) }, "a file cut short is not complete");
        assert_eq!(run(shelf.place(&roll((1, 4), "late/a.parquet"))).unwrap(), Placed::Visible);
        assert_eq!(std::fs::read(&file).unwrap(), b"abc");
        assert_eq!(std::fs::read_dir(folder.path().join("late")).unwrap().count(), 1);
        assert_eq!(run(shelf.place(&roll((1, 9), "late/b.parquet"))).unwrap(), Placed::ClaimedUntil(4));
    }

    /// What is told of topic `t`, of which the group has committed so much.
    fn looked_at(output: &FsPath, committed: Option<i64>) -> Stored {
        let shelf = Shelf::look(&OutputLocation::Folder(output.to_path_buf()), QUICK).unwrap();
        let committed = [("t".to_owned(), vec![committed])].into();
        run(stored::on_shelf(shelf.as_ref(), [("t", TopicKind::Late)].into(), &committed)).unwrap()
    }

    #[test]
    fn who_looks_counts_what_is_there_in_full_and_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let some = folder.path().join("some");
        let shelf = open(&some).unwrap();
        for (offsets, path) in [((0, 4), "late/a.parquet"), ((5, 6), "rejected/b.jsonl"), ((7, 9), "late/c.parquet")] {
            run(shelf.place(&roll(offsets, path))).unwrap();
        }
        let held = |committed| {
            let held = looked_at(&some, committed).topics.remove(&TopicKind::Late).unwrap();
            let files = |files: Files| (files.number, files.first);
            ((held.records, held.rejected, held.removed), files(held.missing), files(held.cut_short))
        };
        let (none, file) = (|| (0, String::new()), |path: &str| (1, path.to_owned()));
        assert_eq!(held(None), ((3, 1, 0), none(), none()));
        std::fs::write(some.join("late/c.parquet"), "").unwrap();
        assert_eq!(held(Some(7)), ((2, 1, 0), none(), none()), "the newest claim is not finished");
        assert_eq!(held(Some(10)), ((2, 1, 1), none(), file("late/c.parquet")), "it was: it is committed");
        std::fs::remove_file(some.join("late/c.parquet")).unwrap();
        assert_eq!(held(Some(10)), ((2, 1, 1), file("late/c.parquet"), none()));
        std::fs::remove_file(some.join("late/a.parquet")).unwrap();
        assert_eq!(held(None), ((1, 1, 1), file("late/a.parquet"), none()), "an older one was finished");
        std::fs::write(some.join(claim_path("t", 0, 10).as_ref()), "").unwrap();
        assert_eq!(held(None).0, (1, 1, 1), "an empty claim is none");
        assert!(!looked_at(&folder.path().join("none"), None).is_there);
        assert!(!folder.path().join("none").exists());
    }

    #[test]
    fn who_looks_finds_what_is_claimed_by_nobody_and_what_is_committed_and_not_claimed() {
        let folder = tempfile::tempdir().unwrap();
        let shelf = open(folder.path()).unwrap();
        run(shelf.place(&roll((0, 4), "late/date=1970-01-01/a.parquet"))).unwrap();
        let other = roll((0, 4), "metrics/date=1970-01-01/m.parquet");
        let claim = Claim { topic: "earlier".to_owned(), ..other.claim };
        run(shelf.place(&EncodedRoll { claim, ..other })).unwrap();
        let strays = || looked_at(folder.path(), Some(5)).strays;
        std::fs::write(folder.path().join("late/notes.txt"), "no data").unwrap();
        assert_eq!(strays(), Files::default(), "what another topic claims is no stray");
        let copy = "late/date=1970-01-01/a-copy.parquet";
        std::fs::write(folder.path().join(copy), "abc").unwrap();
        assert_eq!(strays(), Files { number: 1, first: copy.to_owned() });

        let unclaimed = |output: &FsPath, committed| {
            looked_at(output, committed).topics.remove(&TopicKind::Late).unwrap().unclaimed
        };
        assert_eq!(unclaimed(folder.path(), Some(5)), []);
        assert_eq!(unclaimed(folder.path(), Some(9)), [(0, 5, 9)]);
        assert_eq!(unclaimed(&folder.path().join("none"), Some(9)), [(0, 0, 9)]);
        assert_eq!(unclaimed(&folder.path().join("none"), None), []);
    }

    #[test]
    fn storage_that_refuses_is_one_line_naming_the_setting() {
        let folder = tempfile::tempdir().unwrap();
        let shelf = open(folder.path()).unwrap();
        std::fs::write(folder.path().join("late"), "a file where a folder is wanted").unwrap();
        let error = run(shelf.place(&roll((1, 4), "late/a.parquet"))).unwrap_err().to_string();
        let expected =
            format!("cannot write late/a.parquet in `sink.output` = \"{}\" after 2 tries: ", folder.path().display());
        assert!(error.starts_with(&expected), "{error}");
        assert!(!error.contains('\n'), "{error}");
        let resume = run(shelf.resume("t", 0, None)).unwrap_err().to_string();
        assert!(resume.starts_with("cannot look at late/a.parquet"), "{resume}");
    }

    #[test]
    fn an_empty_claim_is_removed_and_a_broken_or_newer_one_refused() {
        let folder = tempfile::tempdir().unwrap();
        let shelf = open(folder.path()).unwrap();
        run(shelf.place(&roll((1, 4), "late/a.parquet"))).unwrap();
        let claim = folder.path().join(claim_path("t", 0, 5).as_ref());
        std::fs::write(&claim, "").unwrap();
        let resume = run(shelf.resume("t", 0, None)).unwrap().unwrap();
        assert_eq!(resume, Resume { next_offset: 5, unfinished_last: None });
        assert!(!claim.exists());
        std::fs::write(&claim, "{}").unwrap();
        let error = run(shelf.resume("t", 0, None)).unwrap_err().to_string();
        assert!(error.contains("is unreadable: missing field"), "{error}");
        let mut newer = roll((5, 6), "late/b.parquet").claim;
        newer.version = CLAIM_VERSION + 1;
        std::fs::write(&claim, serde_json::to_vec(&newer).unwrap()).unwrap();
        let error = run(shelf.resume("t", 0, None)).unwrap_err().to_string();
        assert!(error.contains("version 2 where this program writes 1"), "{error}");
    }
}
