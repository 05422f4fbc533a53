//! Questions to the brokers that nobody waits for.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::ProcessorError;
use crate::supervisor::spawn;

/// A question that is asked again and again, each time on a thread of its own.
pub(crate) struct Aside<T> {
    asked_at: Option<Instant>,
    answer: Option<mpsc::Receiver<T>>,
}

impl<T: Send + 'static> Aside<T> {
    pub(crate) const fn new() -> Self {
        Self { asked_at: None, answer: None }
    }

    /// To be called often: gives the answer when it has come, and has it asked when so much time has passed since the last time, and the
    /// last one is settled. A question that fails has no answer.
    ///
    /// # Errors
    /// If there is no thread to be had.
    pub(crate) fn step(
        &mut self,
        name: &str,
        every: Duration,
        ask: impl FnOnce() -> Option<T> + Send + 'static,
    ) -> Result<Option<T>, ProcessorError> {
        if let Some(answer) = &self.answer {
            let found = answer.try_recv();
            if !matches!(found, Err(mpsc::TryRecvError::Empty)) {
                self.answer = None;
            }
            return Ok(found.ok());
        }
        if self.asked_at.is_none_or(|at| at.elapsed() >= every) {
            self.asked_at = Some(Instant::now());
            let (sender, answer) = mpsc::channel();
            spawn(name, move || {
                if let Some(found) = ask() {
                    // Nobody may listen any more.
                    let _ = sender.send(found);
                }
            })?;
            self.answer = Some(answer);
        }
        Ok(None)
    }
}
