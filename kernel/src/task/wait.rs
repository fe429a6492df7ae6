//! Wait queues: tasks that wait for something to happen.
//!
//! The entries are references to task structs, on the heap: nothing of a queue lies on a waiting task's stack, so a task that
//! is killed while it waits leaves no dangling pointer (INV-PRIVATE).

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::Task;
use super::sched;
use crate::sync::SpinLock;

/// Tasks that wait.
#[derive(Debug)]
pub(crate) struct WaitQueue(SpinLock<Vec<Arc<Task>>>);

impl WaitQueue {
    pub(crate) const fn new() -> Self {
        Self(SpinLock::new(Vec::new()))
    }

    /// Waits until `ready` gives something. It is asked again after each wake.
    pub(crate) fn wait_for<T>(&self, mut ready: impl FnMut() -> Option<T>) -> T {
        loop {
            // On the queue before asking: what happens after the question wakes us.
            self.0.lock().push(sched::current_counted());
            if let Some(value) = ready() {
                self.leave();
                return value;
            }
            sched::block();
            self.leave();
        }
    }

    /// Takes the current task off the queue, if it is there.
    pub(crate) fn leave(&self) {
        let me = sched::current().id();
        self.0.lock().retain(|task| task.id() != me);
    }

    /// Wakes everybody who waits.
    pub(crate) fn wake_all(&self) {
        let waiting = core::mem::take(&mut *self.0.lock());
        waiting.iter().for_each(sched::wake);
    }
}
