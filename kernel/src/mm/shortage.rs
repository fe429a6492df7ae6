//! Who found no memory: noted where it happens, looked at where something can be done about it.
//!
//! A frame is asked for with locks held, in sections, in the middle of a stack's allocation. Nothing can be given back there, and nobody may
//! wait. So whoever finds none writes that down in the task's struct and fails. On its way out, where nothing is held any more, the
//! task asks [`was_noted`], and what the kernel keeps without need is given back before the failure is anybody's (`crate::pressure`).
//!
//! What is made to fail on purpose (`inject`) is no shortage.
//!
//! # Context
//!
//! [`note`]: task or interrupt, under whatever lock. What an interrupt handler does not get is noted for all tasks, and for nobody.

use core::sync::atomic::{AtomicBool, Ordering};

use crate::arch::percpu;
use crate::task::sched;

/// Whether anybody found no memory since it was last asked.
static ANYWHERE: AtomicBool = AtomicBool::new(false);

/// Notes that there was no memory for what was asked.
#[cold]
pub(crate) fn note() {
    // Relaxed, here and below: it orders nothing. Whoever asks in vain asks again.
    ANYWHERE.store(true, Ordering::Relaxed);
    if percpu::this_cpu().irq_depth() == 0
        && let Some(task) = sched::current_if_any()
    {
        task.ran_short().store(true, Ordering::Relaxed);
    }
}

/// Whether the current task has noted something since it last asked.
pub(crate) fn was_noted() -> bool {
    sched::current().ran_short().swap(false, Ordering::Relaxed)
}

/// What the current task has noted is nothing that can be made good by trying again.
pub(crate) fn forget() {
    sched::current().ran_short().store(false, Ordering::Relaxed);
}

/// Whether anybody has, since this was last asked.
pub(crate) fn was_noted_anywhere() -> bool {
    ANYWHERE.load(Ordering::Relaxed) && ANYWHERE.swap(false, Ordering::Relaxed)
}
