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
//! (INV-FRAME). Until then the entries remember them, as *runs* of frames side by side: the first entry of a run is parked, those behind it are
//! cleared at once, and how many they are says how long it is. A single run need not even be remembered so: two words say it.
//!
//! ```text
//!   mapped    | f7 | f8 | f9 | f3 | f4 | f12 |
//!                │ take
//!                v
//!             | f7 |  · |  · | f3 |  · | f12 |     ──take_parked──>     (f7, 3)  (f3, 2)  (f12, 1)
//! ```
//!
//! Contexts: any but NMI. No lock, no wait, no memory.

use core::fmt;
use core::marker::PhantomData;

use vmstack::PhysAddr;

use crate::format::Format;
use crate::group::Group;
use crate::table::{GROUP, Slot, all_absent};

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

/// How pages that were taken away are remembered until the flush.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use = "the frames are lost"]
pub enum Taken {
    /// Their frames lie side by side, and this is the first one. Nothing is in the entries any more.
    Run(PhysAddr),
    /// They are in the entries, for [`Unused::take_parked`].
    Parked,
}

impl<F: Format> Unused<'_, F> {
    /// Takes the mapping of all pages away. What is in TLBs stays there: the caller flushes, and keeps the frames until then.
    ///
    /// None if a page is not mapped: then those before it are not any more, and as the gap may look like the end of a run, what the
    /// entries remember is worth nothing.
    #[inline]
    #[must_use = "the frames are lost"]
    pub fn take(&self) -> Option<Taken> {
        let (run, frame) = run_at::<F>(self.slots)?;
        if run.len() != self.slots.len() {
            return self.park(run.len());
        }
        clear(self.slots);
        Some(Taken::Run(frame))
    }

    /// Leaves each run in its first entry. The first run has `first` of them.
    #[inline(never)]
    fn park(&self, first: usize) -> Option<Taken> {
        let (mut run, mut rest) = self.slots.split_at(first);
        loop {
            run[0].put_raw(F::park(run[0].raw())?);
            clear(&run[1..]);
            if rest.is_empty() {
                return Some(Taken::Parked);
            }
            (run, rest) = rest.split_at(run_at::<F>(rest)?.0.len());
        }
    }

    /// Takes the mapping of the only page away, and returns its frame, as [`take`](Self::take) does. None if it is not mapped, or not the only one.
    #[inline]
    #[must_use = "the frame is lost"]
    pub fn take_one(&self) -> Option<PhysAddr> {
        let [slot] = self.slots else { return None };
        let frame = F::frame_at(slot.raw())?;
        slot.put_raw(0);
        Some(frame)
    }

    /// Clears the entries of all pages, and gives their frames to `give`, in order: the first of each run, and how many there are. For who knows that the
    /// runs are few, and remembers them until the flush. False if a page is not mapped: then the frames of those before it are given.
    #[inline]
    #[must_use = "a page that is not mapped is a mistake"]
    pub fn take_runs(&self, mut give: impl FnMut(PhysAddr, usize)) -> bool {
        // Looking at several entries together pays where there are several times several.
        if self.slots.len() > 16 {
            return self.take_mapped(give) == self.slots.len();
        }
        let (mut before, mut frame, mut count) = (0, PhysAddr::new(0), 0);
        for slot in self.slots {
            let raw = slot.raw();
            if count == 0 || !follows::<F>(raw, before) {
                if count != 0 {
                    give(frame, count);
                }
                let Some(next) = F::frame_at(raw) else { return false };
                (frame, count) = (next, 0);
            }
            slot.put_raw(0);
            (before, count) = (raw, count + 1);
        }
        give(frame, count);
        true
    }

    /// Clears the entries of pages that [`take`](Self::take) left parked, and gives their frames to `give`, in order: the first of each run, and
    /// how many there are. False if it did not: then those that it did are given, up to the first that it did not.
    #[inline]
    #[must_use]
    pub fn take_parked(&self, mut give: impl FnMut(PhysAddr, usize)) -> bool {
        let mut slots = self.slots;
        while let Some((first, rest)) = slots.split_first() {
            let Some(frame) = F::parked_frame(first.raw()) else { return false };
            let behind = absent(rest);
            first.put_raw(0);
            give(frame, 1 + behind);
            slots = &rest[behind..];
        }
        true
    }

    /// Clears the entries of those pages that are mapped, and gives their frames to `give`, as [`take_parked`](Self::take_parked) does. Returns how many
    /// frames that were.
    #[inline]
    pub fn take_mapped(&self, mut give: impl FnMut(PhysAddr, usize)) -> usize {
        let (mut slots, mut taken) = (self.slots, 0);
        while !slots.is_empty() {
            let passed = match run_at::<F>(slots) {
                None => 1,
                Some((run, frame)) => {
                    clear(run);
                    give(frame, run.len());
                    taken += run.len();
                    run.len()
                }
            };
            slots = &slots[passed..];
        }
        taken
    }
}

/// The entries at the beginning of `slots` whose frames lie side by side, and the first frame. None if the first one is not mapped.
#[inline]
fn run_at<F: Format>(slots: &[Slot]) -> Option<(&[Slot], PhysAddr)> {
    let (first, rest) = slots.split_first()?;
    let raw = first.raw();
    let frame = F::frame_at(raw)?;
    Some((&slots[..1 + behind::<F>(raw, frame, rest)], frame))
}

/// Whether `raw` is the entry of the frame behind that of `before`, which is mapped.
#[inline]
fn follows<F: Format>(raw: u64, before: u64) -> bool {
    match F::NEIGHBOURS {
        Some((step, recorded)) => (raw ^ before.wrapping_add(step)) & !recorded == 0,
        None => F::frame_at(raw).is_some_and(|frame| {
            F::frame_at(before).map(|before| before.wrapping_add(F::page_bytes() as u64)) == Some(frame)
        }),
    }
}

/// How many entries at the beginning of `rest` are those of the frames behind `frame`, which `raw` says.
#[inline]
fn behind<F: Format>(raw: u64, frame: PhysAddr, rest: &[Slot]) -> usize {
    let Some((step, recorded)) = F::NEIGHBOURS else {
        let follows = |n: usize| frame.wrapping_add((n * F::page_bytes()) as u64);
        return rest.iter().zip(1..).take_while(|&(slot, n)| F::frame_at(slot.raw()) == Some(follows(n))).count();
    };
    // By how much the entries of `slots` are not those behind `before`.
    let differ = |slots: &[Slot], before: u64| {
        let mut expected = before;
        let differ = slots.iter().fold(0, |bits, slot| {
            expected = expected.wrapping_add(step);
            bits | (slot.raw() ^ expected)
        });
        differ & !recorded
    };
    count_by(rest, |slots, before| differ(slots, raw.wrapping_add(step.wrapping_mul(before as u64))) == 0)
}

/// How many entries at the beginning of `slots` are absent.
#[inline]
fn absent(slots: &[Slot]) -> usize {
    count_by(slots, |slots, _| all_absent(slots))
}

/// How many entries at the beginning of `slots` are all as `are` says, which is asked of several together where that is cheaper, each time with the
/// number of those before them.
#[inline]
fn count_by(slots: &[Slot], are: impl Fn(&[Slot], usize) -> bool) -> usize {
    let mut count = 0;
    for size in [GROUP, 1] {
        for part in slots[count..].chunks_exact(size) {
            if !are(part, count) {
                break;
            }
            count += size;
        }
    }
    count
}

#[inline]
fn clear(slots: &[Slot]) {
    slots.iter().for_each(|slot| slot.put_raw(0));
}
