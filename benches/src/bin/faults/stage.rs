//! What a run consists of while it goes on: the broker, the processes, the source, and the watch that asks for progress.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tidewatch_topic_io::{Admin, KafkaConfig, PartitionLag};

use crate::clock::Clock;
use crate::cluster::Cluster;
use crate::fleet::Fleet;
use crate::input::{self, Source};
use crate::run::Campaign;
use crate::settings::GROUP;

/// Between two looks at the processes.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Between two looks at the group.
const LAG_EVERY: Duration = Duration::from_millis(200);

/// A run at work.
pub(crate) struct Stage {
    pub(crate) folder: PathBuf,
    pub(crate) kafka: KafkaConfig,
    // Who needs the broker goes before it.
    pub(crate) fleet: Fleet,
    pub(crate) source: Source,
    pub(crate) cluster: Cluster,
    /// How long there may be no progress while there is work.
    pub(crate) patience: Duration,
    /// What puts a process's clock wrong, if that can be done here.
    pub(crate) clock: Option<Arc<Clock>>,
    /// The campaign is to end.
    pub(crate) is_cut_short: Arc<AtomicBool>,
    admin: Admin,
    /// Processes that came for a while.
    guests: u32,
}

/// How far the group is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Offsets committed, over all partitions.
    pub(crate) committed: i64,
    /// Records to go.
    pub(crate) lag: i64,
}

impl Standing {
    fn of(lags: &[PartitionLag]) -> Self {
        let committed = lags.iter().filter_map(|lag| lag.committed).sum();
        Self { committed, lag: lags.iter().map(|lag| lag.lag).sum() }
    }
}

impl Stage {
    pub(crate) fn new(
        folder: &Path,
        kafka: KafkaConfig,
        cluster: Cluster,
        fleet: Fleet,
        source: Source,
        campaign: &Campaign,
    ) -> anyhow::Result<Self> {
        let admin = Admin::connect(&kafka)?;
        let (folder, patience, clock) = (folder.to_owned(), campaign.patience, campaign.means.clock.clone());
        let is_cut_short = Arc::clone(&campaign.is_cut_short);
        Ok(Self { folder, kafka, cluster, fleet, source, patience, clock, is_cut_short, admin, guests: 0 })
    }

    /// Lets the run go on for this long.
    pub(crate) fn wait(&mut self, time: Duration) -> anyhow::Result<()> {
        self.wait_until(time, |_| Ok(false)).map(|_| ())
    }

    /// Lets the run go on until something is so, for so long at most; false: it was not.
    pub(crate) fn wait_until(
        &mut self,
        at_most: Duration,
        mut is_so: impl FnMut(&mut Self) -> anyhow::Result<bool>,
    ) -> anyhow::Result<bool> {
        let began = Instant::now();
        loop {
            self.fleet.tick()?;
            self.source.flow();
            anyhow::ensure!(!self.is_cut_short.load(Ordering::Relaxed), "cut short");
            anyhow::ensure!(!self.cluster.has_ended(), "the broker has ended by itself: a defect of the broker");
            if is_so(self)? {
                return Ok(true);
            }
            if began.elapsed() >= at_most {
                return Ok(false);
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// A name that no process of the run has had.
    pub(crate) fn next_name(&mut self, prefix: &str) -> String {
        self.guests += 1;
        format!("{prefix}{}", self.guests)
    }

    /// Lets the source write all that it has been released, and no more.
    pub(crate) fn quiesce_source(&mut self) -> anyhow::Result<()> {
        self.source.hold();
        let patience = self.patience;
        let is_idle = self.wait_until(patience, |stage| Ok(stage.source.is_idle()))?;
        anyhow::ensure!(is_idle, "the input is not written within {patience:?}");
        Ok(())
    }

    /// How far the group is in each partition; nothing if the broker does not say.
    fn lags(&self) -> Option<Vec<PartitionLag>> {
        let topics = input::topics();
        self.admin.lag(GROUP, &topics.each_ref().map(String::as_str)).ok()
    }

    /// How far the group is; nothing if the broker does not say.
    pub(crate) fn standing(&self) -> Option<Standing> {
        self.lags().as_deref().map(Standing::of)
    }

    /// Releases input up to this share, and waits until the group has committed some of it, and what was written by now in each
    /// partition; how long that took.
    ///
    /// # Errors
    /// That is not so for as long as the patience lasts.
    pub(crate) fn progress(&mut self, share: f64) -> anyhow::Result<Duration> {
        let began = Instant::now();
        let (mut written, mut looked) = (None, None);
        let patience = self.patience;
        let goes_on = self.wait_until(patience, |stage| {
            if looked.is_some_and(|at: Instant| at.elapsed() < LAG_EVERY) {
                return Ok(false);
            }
            looked = Some(Instant::now());
            let Some(lags) = stage.lags() else { return Ok(false) };
            let ends = || lags.iter().map(|lag| lag.end_offset).collect::<Vec<_>>();
            let written: &Vec<i64> = written.get_or_insert_with(ends);
            // Only now, so that there is something to commit beyond that.
            stage.source.release(share);
            let has_all = lags.iter().zip(written).all(|(lag, &written)| lag.committed.unwrap_or(0) >= written);
            Ok(has_all && Standing::of(&lags).committed > written.iter().sum())
        })?;
        anyhow::ensure!(goes_on, "no progress within {patience:?}, with {}", self.state_of_affairs());
        Ok(began.elapsed())
    }

    /// Waits until all input is committed.
    ///
    /// # Errors
    /// No progress for as long as the patience lasts.
    pub(crate) fn drain(&mut self) -> anyhow::Result<()> {
        let (mut best, mut moved) = (-1, Instant::now());
        loop {
            self.wait(LAG_EVERY)?;
            if let Some(now) = self.standing() {
                if now.lag == 0 && self.source.has_ended() {
                    // Else it is not what the golden run had, and no fault of those who process it.
                    let written = self.source.total() as i64;
                    anyhow::ensure!(
                        now.committed == written,
                        "the input has {} records, {written} were written",
                        now.committed
                    );
                    return Ok(());
                }
                if now.committed > best {
                    (best, moved) = (now.committed, Instant::now());
                }
            }
            let patience = self.patience;
            anyhow::ensure!(
                moved.elapsed() < patience,
                "the run does not come to its end: no progress within {patience:?}, with {}",
                self.state_of_affairs()
            );
        }
    }

    fn state_of_affairs(&self) -> String {
        match self.standing() {
            Some(now) => format!("{} committed and {} to go", now.committed, now.lag),
            None => "a broker that does not answer".to_owned(),
        }
    }
}
