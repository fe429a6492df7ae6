//! Bounce buffers: memory in one piece that belongs to nobody's stack, for bytes that a device cannot have where they are.
//!
//! The kernel gives one region, once. It is cut into buffers of five sizes, and each is given out by one bit:
//!
//! ```text
//!   region  | records | 64 B ... | 512 B ... | 4 KiB ... | 16 KiB ... | 64 KiB ...      |
//!                                                        a quarter  ->|<- half of it    |
//! ```
//!
//! A buffer begins at a multiple of its size, or of a page if that is less; so it has no cache line in common with another buffer, or with
//! anything else, and no buffer has a page in common with the records. Who finds none of the right size gets a larger one. When there is none, that is said; nobody waits here.
//!
//! A buffer's record says what it stands for, so that the bus address alone leads back to it.
//!
//! Contexts: task, interrupt and NMI: one locked instruction, no lock.

use core::fmt;

use crate::addr::{PhysAddr, VirtAddr};
use crate::sync::{AtomicU64, AtomicUsize, Ordering};

use super::refusal::Refusal;
use super::request::{Direction, DmaRequest};
use super::taken::{MOST, Taken};
use super::transfer::Anchor;

/// The sizes of buffers, in bytes.
const SIZES: [usize; 5] = [64, 512, 4 << 10, 16 << 10, 64 << 10];
/// The longest region, in bytes: no buffer that could be cut from more would be used.
const MOST_BYTES: usize = 1 << 30;
/// What the region begins at a multiple of.
const ALIGN: usize = 4 << 10;

/// Memory for bounce buffers, in one piece.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BounceRegion {
    /// Where it is mapped: a multiple of 4 KiB.
    pub virt: VirtAddr,
    /// Where it is: a multiple of 4 KiB.
    pub phys: PhysAddr,
    /// How long it is, in bytes.
    pub bytes: usize,
}

/// Why a region will not do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum PoolError {
    /// The pool has its region.
    Filled,
    /// It does not begin at a multiple of 4 KiB.
    Misaligned,
    /// It is too small for a buffer, or leaves the address space.
    BadSize {
        /// Its length, in bytes.
        bytes: usize,
    },
}

impl fmt::Display for PoolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Filled => write!(f, "the bounce pool has its region already"),
            Self::Misaligned => write!(f, "a region for bounce buffers begins at a multiple of 4 KiB"),
            Self::BadSize { bytes } => write!(f, "{bytes} bytes are no region for bounce buffers"),
        }
    }
}

impl core::error::Error for PoolError {}

/// How much of a pool is in use.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct PoolUsage {
    /// Buffers that there are.
    pub buffers: usize,
    /// Those in use, found by counting bits.
    pub in_use: usize,
    /// The bytes of all buffers.
    pub bytes: usize,
    /// The size of the largest buffer, in bytes.
    pub largest: usize,
}

/// What a buffer stands for. Written by whoever has the buffer.
#[repr(C)]
#[derive(Debug)]
struct BounceRecord {
    addr: AtomicUsize,
    bytes: AtomicUsize,
    direction: AtomicUsize,
    anchor: AtomicU64,
}

/// The buffers of one size.
#[derive(Debug)]
struct Class {
    /// Where they begin: bytes from the start of the region.
    offset: AtomicUsize,
    count: AtomicUsize,
    /// The first of their records: bytes from the start of the region.
    records: AtomicUsize,
    taken: Taken,
}

/// A buffer, taken. Whoever has it gives it back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Buffer {
    class: u8,
    index: u16,
    /// Where it begins: bytes from the start of the region.
    offset: u32,
}

/// What a buffer stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Bounced {
    pub(super) addr: VirtAddr,
    pub(super) bytes: usize,
    pub(super) direction: Direction,
    pub(super) anchor: Anchor,
}

/// The pool: empty until it gets its region.
#[derive(Debug)]
pub(super) struct Pool {
    virt: AtomicUsize,
    phys: AtomicU64,
    /// Bytes of the region. Written last: zero while there is none, one while it is being cut.
    bytes: AtomicUsize,
    classes: [Class; SIZES.len()],
}

impl Class {
    const fn new() -> Self {
        let (offset, count, records) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
        Self { offset, count, records, taken: Taken::new() }
    }

    fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Makes the buffers, all of them free.
    fn cut(&self, cut: &Cut) {
        self.offset.store(cut.offset, Ordering::Relaxed);
        self.records.store(cut.record, Ordering::Relaxed);
        self.taken.free_first(cut.count);
        self.count.store(cut.count, Ordering::Relaxed);
    }
}

impl Pool {
    pub(super) const fn new() -> Self {
        let (virt, phys, bytes) = (AtomicUsize::new(0), AtomicU64::new(0), AtomicUsize::new(0));
        Self { virt, phys, bytes, classes: [const { Class::new() }; SIZES.len()] }
    }

    /// Cuts `region` into buffers.
    ///
    /// # Safety
    ///
    /// It is mapped readable and writable, in one piece, for ever, and nobody else's.
    pub(super) unsafe fn fill(&self, region: &BounceRegion) -> Result<(), PoolError> {
        let &BounceRegion { virt, phys, bytes } = region;
        if !virt.is_aligned(ALIGN) || !phys.get().is_multiple_of(ALIGN as u64) {
            return Err(PoolError::Misaligned);
        }
        let fits =
            bytes <= MOST_BYTES && virt.checked_add(bytes).is_some() && phys.get().checked_add(bytes as u64).is_some();
        let cuts = fits.then(|| cuts(bytes)).flatten().ok_or(PoolError::BadSize { bytes })?;
        self.bytes.compare_exchange(0, 1, Ordering::Relaxed, Ordering::Relaxed).map_err(|_| PoolError::Filled)?;
        self.virt.store(virt.get(), Ordering::Relaxed);
        self.phys.store(phys.get(), Ordering::Relaxed);
        self.classes.iter().zip(&cuts).for_each(|(class, cut)| class.cut(cut));
        // Release: whoever sees the size sees the rest.
        self.bytes.store(bytes, Ordering::Release);
        Ok(())
    }

    /// Takes a buffer for what `request` asks.
    #[inline]
    pub(super) fn take(&self, request: &DmaRequest) -> Result<Buffer, Refusal> {
        let smallest = class_of(request.bytes.max(request.align));
        if request.reach == u64::MAX
            && request.align <= ALIGN
            && let Some(index) = self.classes.get(smallest).and_then(|class| class.taken.take())
        {
            return Ok(self.buffer(smallest, index));
        }
        self.take_oddly(request, smallest)
    }

    /// As [`take`](Self::take), for a device that cannot do everything, or where there is no buffer of the right size.
    #[cold]
    fn take_oddly(&self, request: &DmaRequest, smallest: usize) -> Result<Buffer, Refusal> {
        // Acquire: pairs with the Release in `fill`.
        let bytes = self.bytes.load(Ordering::Acquire);
        let last = self.phys(0).wrapping_add((bytes as u64).wrapping_sub(1));
        match bytes < ALIGN {
            true => return Err(Refusal::NoPool),
            false if last.get() > request.reach => {
                return Err(Refusal::PoolOutOfReach { last, reach: request.reach });
            }
            // No buffer is known to begin at a multiple of more than the region does.
            false if request.align > ALIGN => return Err(Refusal::TooLarge { most: self.largest() }),
            false => {}
        }
        let mut fitting = self.classes.iter().enumerate().skip(smallest);
        let taken = fitting.find_map(|(class, of)| Some(self.buffer(class, of.taken.take()?)));
        taken.ok_or_else(|| self.none_fits(smallest))
    }

    fn buffer(&self, class: usize, index: usize) -> Buffer {
        let offset = self.classes[class].offset.load(Ordering::Relaxed) + index * SIZES[class];
        // A region has less than 4 GiB, and fewer buffers than MOST of each size.
        Buffer { class: class as u8, index: index as u16, offset: offset as u32 }
    }

    /// Why there is no buffer of the class `smallest`, or a larger one.
    #[cold]
    fn none_fits(&self, smallest: usize) -> Refusal {
        match self.classes.iter().skip(smallest).map(Class::count).sum() {
            0 => Refusal::TooLarge { most: self.largest() },
            buffers => Refusal::PoolExhausted { buffers },
        }
    }

    /// Gives a buffer back.
    pub(super) fn give(&self, buffer: Buffer) {
        if let Some(class) = self.classes.get(usize::from(buffer.class)) {
            class.taken.give(usize::from(buffer.index));
        }
    }

    fn largest(&self) -> usize {
        let sizes = self.classes.iter().zip(SIZES).filter(|(class, _)| class.count() != 0);
        sizes.map(|(_, size)| size).max().unwrap_or(0)
    }

    #[inline]
    fn phys(&self, offset: usize) -> PhysAddr {
        PhysAddr::new(self.phys.load(Ordering::Relaxed)).wrapping_add(offset as u64)
    }

    /// Where the kernel sees a buffer.
    #[inline]
    pub(super) fn virt_of(&self, buffer: Buffer) -> VirtAddr {
        VirtAddr::new(self.virt.load(Ordering::Relaxed)).wrapping_add(buffer.offset as usize)
    }

    /// Where devices see a buffer.
    #[inline]
    pub(super) fn phys_of(&self, buffer: Buffer) -> PhysAddr {
        self.phys(buffer.offset as usize)
    }

    /// The buffer in use that begins at `bus`. None if there is none.
    pub(super) fn at(&self, bus: PhysAddr) -> Option<Buffer> {
        // Acquire: pairs with the Release in `fill`.
        let bytes = self.bytes.load(Ordering::Acquire);
        let offset = bus.get().checked_sub(self.phys(0).get()).filter(|&offset| offset < bytes as u64)? as usize;
        let (class, found) = self
            .classes
            .iter()
            .enumerate()
            .rev()
            .find(|(_, class)| class.count() != 0 && class.offset.load(Ordering::Relaxed) <= offset)?;
        let within = offset - found.offset.load(Ordering::Relaxed);
        let index = within / SIZES[class];
        let begins = index < found.count() && within.is_multiple_of(SIZES[class]);
        (begins && found.taken.is_taken(index)).then(|| self.buffer(class, index))
    }

    fn record(&self, buffer: Buffer) -> &BounceRecord {
        let first = self.classes[usize::from(buffer.class)].records.load(Ordering::Relaxed);
        let offset = first + usize::from(buffer.index) * size_of::<BounceRecord>();
        let record = VirtAddr::new(self.virt.load(Ordering::Relaxed)).wrapping_add(offset);
        // SAFETY: (1) the region has a record for each buffer, and is mapped for ever; (2) records are atomics only, and any bytes
        // are valid ones; (3) the region begins at a page, and a record's size is a multiple of its alignment.
        unsafe { &*record.as_mut_ptr::<BounceRecord>() }
    }

    /// Notes what a buffer stands for. For whoever has it.
    pub(super) fn note(&self, buffer: Buffer, bounced: &Bounced) {
        let record = self.record(buffer);
        record.addr.store(bounced.addr.get(), Ordering::Relaxed);
        record.bytes.store(bounced.bytes, Ordering::Relaxed);
        record.direction.store(bounced.direction as usize, Ordering::Relaxed);
        record.anchor.store(bounced.anchor.pack(), Ordering::Relaxed);
    }

    /// What a buffer stands for. For whoever has it.
    pub(super) fn noted(&self, buffer: Buffer) -> Bounced {
        let record = self.record(buffer);
        Bounced {
            addr: VirtAddr::new(record.addr.load(Ordering::Relaxed)),
            bytes: record.bytes.load(Ordering::Relaxed),
            direction: Direction::from_index(record.direction.load(Ordering::Relaxed)),
            anchor: Anchor::unpack(record.anchor.load(Ordering::Relaxed)),
        }
    }

    pub(super) fn usage(&self) -> PoolUsage {
        // Acquire: pairs with the Release in `fill`.
        if self.bytes.load(Ordering::Acquire) < ALIGN {
            return PoolUsage::default();
        }
        self.classes.iter().zip(SIZES).fold(PoolUsage::default(), |sum, (class, size)| PoolUsage {
            buffers: sum.buffers + class.count(),
            in_use: sum.in_use + class.taken.count(class.count()),
            bytes: sum.bytes + class.count() * size,
            largest: if class.count() == 0 { sum.largest } else { size },
        })
    }
}

/// The number of the smallest size that has room for `bytes`; past the last if there is none.
#[inline]
const fn class_of(bytes: usize) -> usize {
    let (mut class, mut fits) = (0, 0);
    while class < SIZES.len() {
        fits += (bytes > SIZES[class]) as usize;
        class += 1;
    }
    fits
}

/// Where the buffers of one size lie, and their records, in bytes from the start of the region.
#[derive(Clone, Copy)]
struct Cut {
    offset: usize,
    count: usize,
    record: usize,
}

/// Cuts a region of `bytes`: records first, then pages of buffers, the smallest first. None if it is too small.
fn cuts(bytes: usize) -> Option<[Cut; SIZES.len()]> {
    let counts = counts(bytes);
    let all: usize = counts.iter().sum();
    // A page of their own: what is told to an IOMMU is told by the page.
    let (mut record, mut offset) = (0, (all * size_of::<BounceRecord>()).next_multiple_of(ALIGN));
    let cuts = core::array::from_fn(|class| {
        let (count, size) = (counts[class], SIZES[class]);
        let cut = Cut { offset: offset.next_multiple_of(size.min(ALIGN)), count, record };
        (record, offset) = (record + count * size_of::<BounceRecord>(), cut.offset + count * size);
        cut
    });
    (all != 0 && offset <= bytes).then_some(cuts)
}

/// How many buffers of each size a region of `bytes` is cut into: half of it into the largest, half of the rest into the next, and so on,
/// after a sixteenth for records.
fn counts(bytes: usize) -> [usize; SIZES.len()] {
    let (mut left, mut counts) = ((bytes - bytes / 16) / ALIGN * ALIGN, [0; SIZES.len()]);
    for (count, size) in counts.iter_mut().zip(SIZES).rev() {
        *count = (left / 2 / size).min(MOST);
        left -= *count * size;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::{ALIGN, BounceRecord, MOST, SIZES, cuts};

    #[test]
    fn a_region_of_two_pages_or_more_is_cut_into_what_fits_and_has_nothing_in_common() {
        assert!([0, 64, ALIGN, 2 * ALIGN - 1].into_iter().all(|bytes| cuts(bytes).is_none()));
        for bytes in (2 * ALIGN..16 << 20).step_by(ALIGN).chain([100_000, 3_333_333, 1 << 30]) {
            let cuts = cuts(bytes).unwrap_or_else(|| panic!("{bytes} bytes are enough"));
            let records: usize = cuts.iter().map(|cut| cut.count * size_of::<BounceRecord>()).sum();
            let mut end = records.next_multiple_of(ALIGN);
            for (cut, size) in cuts.iter().zip(SIZES) {
                assert!(cut.offset >= end && cut.offset.is_multiple_of(size.min(ALIGN)) && cut.count <= MOST);
                end = cut.offset + cut.count * size;
            }
            assert!(end <= bytes, "{bytes}");
        }
    }
}
