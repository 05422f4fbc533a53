//! Input partitions that nobody owns though the group is at rest.
//!
//! A cooperative rebalance takes two steps: members give up what others are to have, then join again so that those get it. A static
//! member that dies between the two is given its old place back when it returns, without a rebalance (KIP-345), and the second step
//! never comes: what it had given up has no owner for as long as all members live, on Apache Kafka as well. Whoever finds such
//! partitions joins the group as a guest, which makes it rebalance, and leaves. The guest reads and commits nothing.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidewatch_topic_io::{Admin, GroupOptions, GroupReader, KafkaError, StartAt};

use crate::ProcessorConfig;
use crate::aside::Aside;
use crate::config::millis;
use crate::supervisor::spawn;
use crate::{ProcessorError, metrics};

/// How long a guest waits to be let in, and between two looks at the group.
const GUEST_TIME: Duration = Duration::from_secs(120);
const GUEST_WAIT: Duration = Duration::from_millis(20);

type Places = BTreeSet<(String, i32)>;

/// Looks for them every `stall_timeout`; only where membership is static.
pub(crate) struct Watch {
    config: Arc<ProcessorConfig>,
    /// Those of the last look.
    before: Places,
    question: Aside<Places>,
}

impl Watch {
    pub(crate) fn new(config: &Arc<ProcessorConfig>) -> Self {
        Self { config: Arc::clone(config), before: Places::new(), question: Aside::new() }
    }

    /// Takes a step: to be called often, and waits for nothing.
    pub(crate) fn step(&mut self) -> Result<(), ProcessorError> {
        let settings = &self.config.settings;
        if !settings.static_membership {
            return Ok(());
        }
        let config = Arc::clone(&self.config);
        // A group or a broker that does not answer is asked again.
        let ask = move || orphans(&config, &Admin::connect(&config.kafka).ok()?).ok();
        match self.question.step("orphans", millis(settings.stall_timeout), ask)? {
            Some(found) => self.take(found),
            None => Ok(()),
        }
    }

    /// What has no owner at one look may just be on its way; at two in a row, it has to be done something about.
    fn take(&mut self, found: Places) -> Result<(), ProcessorError> {
        let stay: Vec<_> = found.intersection(&self.before).cloned().collect();
        let Some((topic, partition)) = stay.first() else {
            self.before = found;
            return Ok(());
        };
        metrics::orphaned(topic, *partition, stay.len());
        self.before = Places::new();
        let config = Arc::clone(&self.config);
        spawn("guest", move || {
            if let Err(error) = visit(&config) {
                tracing::warn!(%error, "could not make the group rebalance; trying again");
            }
        })?;
        Ok(())
    }
}

/// The partitions with input to process that no member of the group owns while the group is at rest.
pub(crate) fn orphans(config: &ProcessorConfig, admin: &Admin) -> Result<Places, KafkaError> {
    let topics: Vec<&str> = config.streams.iter().map(|stream| stream.topic.as_str()).collect();
    let Some(mut orphans) = admin.unowned(&config.settings.group_id, &topics)? else { return Ok(Places::new()) };
    if !orphans.is_empty() {
        for at in admin.lag(&config.settings.group_id, &topics)? {
            if at.lag == 0 {
                orphans.remove(&(at.topic, at.partition));
            }
        }
    }
    Ok(orphans)
}

/// Joins the group, and leaves once it is a member.
fn visit(config: &ProcessorConfig) -> Result<(), KafkaError> {
    let topics: Vec<&str> = config.streams.iter().map(|stream| stream.topic.as_str()).collect();
    let mut guest = GroupReader::new(&config.kafka, &config.settings.group_id, &topics, GroupOptions::default())?;
    let came_at = Instant::now();
    while came_at.elapsed() < GUEST_TIME {
        guest.serve_group(&mut |_, _, _| StartAt::Committed)?;
        if guest.is_member() {
            break;
        }
        std::thread::sleep(GUEST_WAIT);
    }
    Ok(())
}
