//! The input topics: what a start finds of them, and whether they are still the same while the processor runs.
//!
//! A topic that is deleted and made again under its name is another topic. The client reads on in it at the offset that it has come to,
//! and so does a restart where the group's offsets have survived, if only the new one is long enough: nothing but the topic's id tells
//! (KIP-516). The id is part of what is committed with each offset.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tidewatch_topic_io::Admin;

use crate::aside::Aside;
use crate::{ProcessorConfig, ProcessorError};

/// An input topic as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct InputTopic {
    pub(crate) partitions: i32,
    /// `None` where the cluster gives none.
    pub(crate) id: Option<Arc<str>>,
}

/// The input topics, by name.
pub(crate) type InputTopics = HashMap<Arc<str>, InputTopic>;

impl InputTopic {
    /// Whether this is another topic than that one.
    pub(crate) fn is_other(&self, then: &Self) -> bool {
        self.id.is_some() && then.id.is_some() && self.id != then.id
    }
}

/// Asks for the input topics.
///
/// # Errors
/// A topic is not there, or no answer in time.
pub(crate) fn find(config: &ProcessorConfig, admin: &Admin) -> Result<InputTopics, ProcessorError> {
    let mut found = InputTopics::new();
    for topic in config.streams.iter().map(|stream| stream.topic.as_str()) {
        let (partitions, id) = (admin.partitions(topic)?, admin.topic_id(topic)?.map(Arc::from));
        found.insert(topic.into(), InputTopic { partitions, id });
    }
    Ok(found)
}

/// How often they are looked at while the processor runs: for so long, a topic that was made again may be read on in.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Looks at them again and again.
pub(crate) struct Watch {
    config: Arc<ProcessorConfig>,
    first: Option<InputTopics>,
    question: Aside<InputTopics>,
}

impl Watch {
    pub(crate) fn new(config: &Arc<ProcessorConfig>) -> Self {
        Self { config: Arc::clone(config), first: None, question: Aside::new() }
    }

    /// Takes a step: to be called often, and waits for nothing.
    ///
    /// # Errors
    /// A topic that was made again.
    pub(crate) fn step(&mut self) -> Result<(), ProcessorError> {
        let config = Arc::clone(&self.config);
        // One that is not there just now is the workers' to find.
        let ask = move || find(&config, &Admin::connect(&config.kafka).ok()?).ok();
        let Some(found) = self.question.step("inputs", LOOK_EVERY, ask)? else {
            return Ok(());
        };
        let Some(first) = &self.first else {
            self.first = Some(found);
            return Ok(());
        };
        match found.iter().find(|(topic, now)| first.get(*topic).is_some_and(|then| now.is_other(then))) {
            Some((topic, _)) => Err(ProcessorError::InputRecreated { topic: topic.as_ref().to_owned() }),
            None => Ok(()),
        }
    }
}
