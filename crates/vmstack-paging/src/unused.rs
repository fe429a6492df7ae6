//! Entries of pages that nobody uses: taken away by plain loads and stores.
//!
//! A live entry changes by atomic read-modify-write only, because the hardware may set a bit in it at the same moment, and a dirty bit must not be
//! lost. That is dear, 20 cycles and more an entry, and for memory that nobody uses and that is handed out next as if it might hold anything
//! it buys nothing. There a load and a later store do:
//!
//! - What can be lost between them is a bit that the hardware set: accessed, because it translated ahead of need, or dirty, because somebody
//!   wrote who had no right to. Nobody asks for either of them.
//! - Nothing else can be: only the caller's mapper changes these entries.
//! - What the store wrote stays. The hardware sets its bits by an atomic read-modify-write that looks at the entry again, and
//!   writes to none that is not present (Intel SDM volume 3, 4.8; Arm ARM D8.5, "Hardware management of the Access flag"; RISC-V privileged
//!   specification, "Addressing and Memory Protection": the update is atomic with respect to the PTE, which must still be valid).
//!
//! From there it goes on as it does from [`Mapper::park`](crate::Mapper::park): nobody uses the frames before every CPU has flushed
//! (INV-FRAME). They come out as *runs*, frames side by side, as their allocator would like to have them back.
//!
//! ```text
//!   entries   | f7 | f8 | f9 | f3 | f4 | f12 |     ──>     (f7, 3)  (f3, 2)  (f12, 1)
//! ```
//!
//! Contexts: any but NMI. No lock, no wait, no memory.

use core::fmt;
use core::marker::PhantomData;

use vmstack::PhysAddr;

use crate::format::Format;
use crate::group::Group;
use crate::table::Slot;

/// The entries of pages that nobody uses.
///
/// Having an `Unused` means that nobody uses the memory at these pages, and that what the hardware says of it interests nobody; and that no
/// frame that comes out is used before every CPU has flushed.
pub struct Unused<'t, F> {
    slots: &'t [Slot],
    format: PhantomData<F>,
}

impl<F> fmt::Debug for Unused<'_, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.slots).finish()
    }
}

impl<'t, F: Format> Group<'t, F> {
    /// The same pages, which nobody uses.
    ///
    /// # Safety
    ///
    /// Until they are mapped again:
    ///
    /// 1. Nobody uses the memory at the pages.
    /// 2. The pages are the caller's, and no other mapper works on them at the same time.
    /// 3. No frame that comes out is used before every CPU that could hold a translation of its page has flushed it (INV-FRAME).
    #[inline]
    #[must_use]
    pub unsafe fn unused(self) -> Unused<'t, F> {
        Unused { slots: self.slots(), format: PhantomData }
    }
}

impl<F: Format> Unused<'_, F> {
    /// Takes the mapping of the pages away, if their frames lie side by side, and returns the first frame. None, and all are as they
    /// were, if they do not, or a page is not mapped, or the format cannot say it quickly.
    ///
    /// What is in TLBs stays there: the caller flushes, and keeps the frames until then.
    #[inline]
    #[must_use]
    pub fn take_run(&self) -> Option<PhysAddr> {
        let (first, rest) = self.slots.split_first()?;
        let raw = first.raw();
        let frame = F::frame_at(raw)?;
        if !rest.is_empty() && !follow::<F>(raw, rest) {
            return None;
        }
        self.slots.iter().for_each(|slot| slot.put_raw(0));
        Some(frame)
    }

    /// Parks the pages that are mapped, as [`Mapper::park`](crate::Mapper::park) does, but for dirty bits, which may be lost. Returns how many
    /// they were; the others are passed over.
    ///
    /// What is in TLBs stays there: the caller flushes, and calls [`take_runs`](Self::take_runs) then.
    #[inline]
    #[must_use = "a page that was passed over is not mapped"]
    pub fn park(&self) -> usize {
        let mut passed_over = 0;
        for slot in self.slots {
            match F::park(slot.raw()) {
                Some(parked) => slot.put_raw(parked),
                None => passed_over += 1,
            }
        }
        self.slots.len() - passed_over
    }

    /// Clears the entries and gives the frames of those that are parked or mapped to `give`, in order: the first of each run, and how many
    /// there are. Returns how many frames that were.
    #[inline]
    pub fn take_runs(&self, mut give: impl FnMut(PhysAddr, usize)) -> usize {
        let mut runs = Runs { first: PhysAddr::new(0), count: 0 };
        let mut taken = 0;
        for slot in self.slots {
            let raw = slot.raw();
            let Some(frame) = F::parked_frame(raw).or_else(|| F::frame_at(raw)) else { continue };
            slot.put_raw(0);
            taken += 1;
            runs.add::<F>(frame, &mut give);
        }
        runs.end(&mut give);
        taken
    }
}

/// Whether the entries in `rest` are those of the frames behind the one that `first` says.
#[inline]
fn follow<F: Format>(first: u64, rest: &[Slot]) -> bool {
    let Some((step, recorded)) = F::NEIGHBOURS else { return false };
    let mut expected = first;
    rest.iter().all(|slot| {
        expected = expected.wrapping_add(step);
        (slot.raw() ^ expected) & !recorded == 0
    })
}

/// The run that is being put together.
struct Runs {
    first: PhysAddr,
    count: usize,
}

impl Runs {
    /// Adds `frame`, behind what there is or as the first of the next run.
    #[inline]
    fn add<F: Format>(&mut self, frame: PhysAddr, give: &mut impl FnMut(PhysAddr, usize)) {
        if frame != self.first.wrapping_add((self.count * F::page_bytes()) as u64) {
            self.end(give);
            *self = Self { first: frame, count: 0 };
        }
        self.count += 1;
    }

    #[inline]
    fn end(&self, give: &mut impl FnMut(PhysAddr, usize)) {
        if self.count > 0 {
            give(self.first, self.count);
        }
    }
}
