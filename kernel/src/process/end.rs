//! How a process ends.

use core::sync::atomic::{AtomicU32, Ordering};

use super::signal::Signal;

/// How a process ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    /// It exited with this status.
    Exited(u8),
    /// This signal killed it.
    Killed(Signal),
}

impl End {
    /// The word that `wait4` stores.
    pub(crate) const fn wait_status(self) -> u32 {
        match self {
            Self::Exited(status) => (status as u32) << 8,
            Self::Killed(signal) => signal.number() as u32,
        }
    }
}

/// The end of a process, as one word: there is no instruction at which it is half told, and it is told once.
#[derive(Debug)]
pub(super) struct AtomicEnd(AtomicU32);

impl AtomicEnd {
    const EXITED: u32 = 1 << 8;
    const KILLED: u32 = 2 << 8;

    /// Of a process that has not ended.
    pub(super) const fn none() -> Self {
        Self(AtomicU32::new(0))
    }

    /// Sets the end, unless there is one.
    pub(super) fn set(&self, end: End) {
        let word = match end {
            End::Exited(status) => Self::EXITED | u32::from(status),
            End::Killed(signal) => Self::KILLED | u32::from(signal),
        };
        // SeqCst: before the announcement, as `Event` wants it.
        let _earlier = self.0.compare_exchange(0, word, Ordering::SeqCst, Ordering::SeqCst);
    }

    pub(super) fn get(&self) -> Option<End> {
        let word = self.0.load(Ordering::SeqCst);
        match word & !0xff {
            Self::EXITED => Some(End::Exited(word as u8)),
            Self::KILLED => Signal::new(usize::from(word as u8)).map(End::Killed),
            _ => None,
        }
    }
}
