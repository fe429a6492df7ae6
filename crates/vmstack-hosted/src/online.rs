//! Which CPU numbers of a machine are taken, and by how many threads.
//!
//! Context: task.

use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use vmstack::Cpu;

#[derive(Debug)]
pub(crate) struct Online {
    taken: Box<[AtomicBool]>,
    /// How many are taken, or still have something to leave.
    present: AtomicUsize,
}

impl Online {
    /// With `cpus` numbers, all free.
    pub(crate) fn new(cpus: usize) -> Self {
        Self { taken: (0..cpus).map(|_| AtomicBool::new(false)).collect(), present: AtomicUsize::new(0) }
    }

    /// How many numbers there are.
    pub(crate) const fn cpus(&self) -> usize {
        self.taken.len()
    }

    /// Takes the lowest free number.
    pub(crate) fn take(&self) -> Option<Cpu> {
        // Acquire: the last thread of that number has left its per-CPU block as the next one finds it.
        let number = self.taken.iter().position(|taken| !taken.swap(true, Ordering::Acquire))?;
        self.present.fetch_add(1, Ordering::Relaxed);
        Some(Cpu::new(number as u32))
    }

    /// Whether a CPU that has left what it kept to the others, and will give its number back now, is the last.
    pub(crate) fn goes_last(&self) -> bool {
        // Release and Acquire: what the others left is seen by the last.
        self.present.fetch_sub(1, Ordering::AcqRel) == 1
    }

    pub(crate) fn give(&self, number: Cpu) {
        if let Some(taken) = self.taken.get(number.index()) {
            taken.store(false, Ordering::Release);
        }
    }
}
