//! Ctrl-C and SIGTERM: the first asks for a clean end, the second ends at once.
//!
//! The wish is a flag that the conductor of the roles looks at; nothing is cut off in the middle of a transaction by it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::signal::unix::{SignalKind, signal};

/// What a shell expects of a program that a second Ctrl-C ended.
const EXIT_INTERRUPTED: i32 = 130;

/// The wish to end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shutdown(Arc<AtomicBool>);

impl Shutdown {
    /// Begins to listen for signals, on a thread of its own.
    ///
    /// # Errors
    /// If the system refuses signal handlers or the thread.
    pub(crate) fn listen() -> std::io::Result<Self> {
        let shutdown = Self::default();
        let asked = Arc::clone(&shutdown.0);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (mut interrupt, mut terminate) = {
            let _inside = runtime.enter();
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
        };
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            runtime.block_on(async move {
                loop {
                    tokio::select! {
                        _ = interrupt.recv() => {}
                        _ = terminate.recv() => {}
                    }
                    if asked.swap(true, Ordering::Relaxed) {
                        std::process::exit(EXIT_INTERRUPTED);
                    }
                    tracing::info!("asked to end; once more ends at once");
                }
            });
        })?;
        Ok(shutdown)
    }

    /// Whether a clean end was asked for.
    pub(crate) fn is_asked_for(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// The same as a flag that a role watches.
    pub(crate) fn flag(&self) -> &AtomicBool {
        &self.0
    }
}
