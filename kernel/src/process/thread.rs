//! A thread: what a task has that runs a program.

use alloc::sync::Arc;

use super::Process;

/// What a program's task has beside its stack and its registers.
#[derive(Debug)]
pub(crate) struct Thread {
    process: Arc<Process>,
}

impl Thread {
    pub(crate) const fn new(process: Arc<Process>) -> Self {
        Self { process }
    }

    /// The process that it is a thread of.
    pub(crate) const fn process(&self) -> &Arc<Process> {
        &self.process
    }

    /// Whether a signal waits for it that it has to act upon: what ends interruptible waits.
    #[expect(clippy::unused_self, reason = "there are no signals yet")]
    pub(crate) const fn is_interrupted(&self) -> bool {
        false
    }
}
