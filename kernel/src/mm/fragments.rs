//! Memory of which every other page is taken, so that nothing contiguous is left: an experiment, by command.
//!
//! `/sys/kernel/debug/vmstack/fragmented` takes and gives them back. The frames that are held are linked through themselves, so that
//! holding them needs no memory.
//!
//! # Context
//!
//! Task. While it takes them all, for a moment nobody else gets one.

use core::iter;
use core::sync::atomic::{AtomicU64, Ordering};

use vmstack::PhysAddr;

use super::frames;
use crate::arch::layout::{PAGE_SIZE, phys_to_virt};
use crate::pressure;

/// The first of the frames that are held by command.
static HELD: AtomicU64 = AtomicU64::new(Fragments::END.get());

/// Takes every frame but every other one, or gives all of them back.
pub(crate) fn fragment(wanted: bool) {
    let held = Fragments(PhysAddr::new(HELD.swap(Fragments::END.get(), Ordering::AcqRel)));
    held.give();
    if wanted {
        HELD.store(Fragments::all_but_every_other().0.get(), Ordering::Release);
    }
}

/// Whether they are taken.
pub(crate) fn are_held() -> bool {
    HELD.load(Ordering::Relaxed) != Fragments::END.get()
}

/// Writes into `frame`, which was taken, which one is next.
fn link(frame: PhysAddr, next: PhysAddr) {
    // SAFETY: the frame was taken, and is nobody else's; the direct map shows it.
    unsafe { phys_to_virt(frame).as_mut_ptr::<PhysAddr>().write(next) };
}

/// What follows `frame`, which is on a list.
fn next(frame: PhysAddr) -> PhysAddr {
    // SAFETY: the frame is on a list, so `link` wrote it.
    unsafe { phys_to_virt(frame).as_mut_ptr::<PhysAddr>().read() }
}

/// Frames that are held, linked through themselves.
#[derive(Debug)]
pub(crate) struct Fragments(PhysAddr);

impl Fragments {
    const END: PhysAddr = PhysAddr::new(0);

    /// Takes every frame there is, and gives back those with odd numbers. Stacks that are kept ready give up theirs before: they would do so while
    /// memory is short, and be neighbours.
    pub(crate) fn all_but_every_other() -> Self {
        pressure::give_everything_back();
        let (mut even, mut odd) = (Self(Self::END), Self(Self::END));
        while let Some(frame) = frames::take(0) {
            let list = if (frame.get() as usize / PAGE_SIZE).is_multiple_of(2) { &mut even } else { &mut odd };
            list.push(frame);
        }
        odd.give();
        even
    }

    fn push(&mut self, frame: PhysAddr) {
        link(frame, self.0);
        self.0 = frame;
    }

    /// Whether `frame` is among them.
    pub(crate) fn has(&self, frame: PhysAddr) -> bool {
        self.iter().any(|held| held == frame)
    }

    /// Takes `frame` out, if it is among them: it is the caller's then.
    pub(crate) fn take(&mut self, frame: PhysAddr) -> bool {
        let before = self.iter().find(|&held| next(held) == frame);
        match before {
            _ if frame == Self::END => return false,
            _ if self.0 == frame => self.0 = next(frame),
            Some(before) => link(before, next(frame)),
            None => return false,
        }
        true
    }

    fn iter(&self) -> impl Iterator<Item = PhysAddr> {
        iter::successors(Some(self.0), |&frame| Some(next(frame))).take_while(|&frame| frame != Self::END)
    }

    /// Gives them all back.
    pub(crate) fn give(mut self) {
        while self.0 != Self::END {
            let frame = self.0;
            self.0 = next(frame);
            frames::give(frame, 0);
        }
    }
}
