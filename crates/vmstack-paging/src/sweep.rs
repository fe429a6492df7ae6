//! Whole leaf tables at a time: what a fork, an exit and a change of rights do with a user's memory.
//!
//! A user's memory is large and has holes. So these methods take any range of pages, go down once for each leaf table
//! that is there, and run over its entries; where there is no table, they cost nothing. They do to each entry what the
//! methods of `park` and `leaf` do to a run of pages that are all there, and pass over what is not theirs.
//!
//! How long a sweep takes is the caller's to choose: [`Mapper::first_leaf_table`] says where the next table is, and the
//! caller cuts what it sweeps at once to its measure.
//!
//! Large pages are passed over: a user's memory has none.

use core::ops::ControlFlow;

use vmstack::{Pages, PhysAddr, VirtAddr, VirtRange};

use crate::attributes::{Access, Attributes};
use crate::entry::{Entry, Leaf, Level};
use crate::error::{LeafError, MapError};
use crate::format::Format;
use crate::mapper::Mapper;
use crate::memory::TableMemory;
use crate::run::{Run, Span};
use crate::table::{Slot, Table};

impl<'a, F: Format, M: TableMemory> Mapper<'a, F, M> {
    /// The first part of `range` that lies in one leaf table which is there, or `None` if no leaf table is.
    ///
    /// # Context
    ///
    /// Any. Takes no lock.
    #[must_use]
    pub fn first_leaf_table(&self, range: VirtRange) -> Option<VirtRange> {
        self.first_table(range, Level::PAGE)
    }

    /// The first part of `range` that lies in one table of `level` which is there, or `None` if none is. The root is not looked for.
    ///
    /// # Context
    ///
    /// Any. Takes no lock.
    #[must_use]
    pub fn first_table(&self, range: VirtRange, level: Level) -> Option<VirtRange> {
        let first = |span| self.first_part(self.root_table(), F::top(), level, span);
        let part = Span::translated::<F>(range).find_map(first)?;
        VirtRange::new(part.first(), part.last().distance(part.first()) + 1)
    }

    /// As [`first_leaf_table`](Self::first_leaf_table); a range that is of one leaf table is given back as it is, there or not.
    fn next_leaf_table(&self, range: VirtRange) -> Option<VirtRange> {
        let last = range.end().wrapping_sub(1);
        let same = (range.start().get() ^ last.get()) < F::entry_bytes(Level::LARGE);
        let in_one = same && range.bytes() != 0 && F::is_canonical(range.start());
        if in_one { Some(range) } else { self.first_leaf_table(range) }
    }

    /// The first part of `span` whose addresses have a table of level `wanted` below `table`, which is of `level`.
    fn first_part(self, table: &'a Table, level: Level, wanted: Level, span: Span) -> Option<Span> {
        for index in table.used(F::index(span.first(), level), F::index(span.last(), level)) {
            let slot = table.slot(index);
            let (Entry::Table { at }, Some(part)) = (slot.read::<F>(level), span.part::<F>(level, index)) else {
                continue;
            };
            let found = match level.down()? {
                down if down == wanted => Some(part),
                down => self.first_part(self.follow(at), down, wanted, part),
            };
            if found.is_some() {
                return found;
            }
        }
        None
    }

    /// Frees the table of `level` that `range` lies in, if nothing is left in it. Says whether it did. As
    /// [`free_tables`](Self::free_tables), for one table, and so in bounded time.
    ///
    /// # Context
    ///
    /// Any but NMI. Takes no lock, needs no memory (INV-FREE).
    ///
    /// # Safety
    ///
    /// As [`free_tables`](Self::free_tables).
    #[must_use = "a recount of table memory is held against it"]
    pub unsafe fn free_table(&self, range: VirtRange, level: Level) -> bool {
        let up = Level::new(level.number() + 1);
        if up > F::top() {
            return false;
        }
        let Ok(above) = self.table_for(range.start(), up) else { return false };
        let slot = above.slot(F::index(range.start(), up));
        match slot.read::<F>(up) {
            Entry::Table { at } if self.follow(at).is_empty() => {
                slot.take::<F>(up);
                self.free_unlinked(at);
                true
            }
            _ => false,
        }
    }

    /// Takes the mapping of every leaf in `range` away and keeps its frame and dirty bit in its entry. Returns how many
    /// there were. As [`park`](Self::park), but for whatever is there.
    ///
    /// # Context
    ///
    /// Any but NMI. Takes no lock, needs no memory (INV-FREE).
    ///
    /// # Safety
    ///
    /// As [`park`](Self::park).
    #[must_use = "parked pages have to be flushed and taken"]
    pub unsafe fn park_leaves(&self, range: VirtRange) -> usize {
        let mut parked = 0;
        self.sweep(range, |_, slot| {
            if matches!(slot.read::<F>(Level::PAGE), Entry::Leaf { .. }) {
                slot.change::<F>(Level::PAGE, Entry::parked);
                parked += 1;
            }
        });
        parked
    }

    /// Clears every leaf and every parked entry in `range` and gives their frames to `take`, lowest address first.
    ///
    /// # Context
    ///
    /// Any but NMI, and that of `take`. Takes no lock, needs no memory (INV-FREE).
    ///
    /// # Safety
    ///
    /// 1. Nobody uses the memory in `range` any more.
    /// 2. The range is the caller's, and no other mapper works in it at the same time.
    /// 3. No frame that `take` is given is used again before every CPU that could hold a translation of it has flushed
    ///    (INV-FRAME): of pages that were parked, before this call.
    pub unsafe fn take_frames(&self, range: VirtRange, mut take: impl FnMut(PhysAddr)) {
        let mut leaf = NONE_ALIKE;
        self.sweep(range, |_, slot| {
            let raw = slot.raw();
            // Most entries are leaves like the one before.
            if raw & !frame_bits::<F>() == leaf {
                return take(frame_of::<F>(slot.swap_out()));
            }
            match F::decode(raw, Level::PAGE) {
                Entry::Leaf { .. } => leaf = raw & !frame_bits::<F>(),
                Entry::Parked { .. } => {}
                _ => return,
            }
            if let Entry::Leaf { frame, .. } | Entry::Parked { frame, .. } = slot.take::<F>(Level::PAGE) {
                take(frame);
            }
        });
    }

    /// Makes leaves with `attributes` of those entries of `pages` that are parked.
    ///
    /// # Context
    ///
    /// Any but NMI. Takes no lock, needs no memory.
    ///
    /// # Errors
    ///
    /// `pages` is no run of pages that the format translates.
    ///
    /// # Safety
    ///
    /// As [`map`](Self::map).
    pub unsafe fn unpark(&self, pages: Pages, attributes: Attributes) -> Result<(), LeafError> {
        let run = Run::check::<F>(pages)?;
        for (_, slot) in self.slots(run).flatten() {
            slot.publish::<F>(attributes, Level::PAGE);
        }
        Ok(())
    }

    /// Gives each leaf in `range` the attributes that `choose` says. Dirty bits stay as they are.
    ///
    /// What is in TLBs stays there: a right that was taken away is gone once the caller has flushed the range.
    ///
    /// # Context
    ///
    /// Any but NMI, and that of `choose`. Takes no lock, needs no memory.
    ///
    /// # Safety
    ///
    /// As [`protect`](Self::protect). Of attributes other than the access, only those change that the architecture
    /// lets a live mapping change.
    pub unsafe fn protect_leaves(&self, range: VirtRange, mut choose: impl FnMut(Leaf) -> Attributes) {
        self.sweep(range, |at, slot| {
            if let Some(leaf) = slot.read::<F>(Level::PAGE).leaf(at, Level::PAGE) {
                let attributes = choose(leaf);
                slot.change::<F>(Level::PAGE, |entry| entry.with_attributes(attributes));
            }
        });
    }

    /// Maps every leaf in `range` in `other` too, at the same address, and gives its frame to `share`. With
    /// `read_only`, it is not writable in either from here on: for a copy that is made when one of them writes.
    ///
    /// # Context
    ///
    /// Any but NMI, and that of `share`. Takes no lock; makes tables in `other`.
    ///
    /// # Errors
    ///
    /// There is no memory for a table, or something is mapped in `other`. What was shared before that is.
    ///
    /// # Safety
    ///
    /// 1. The range is the caller's in both trees, and no other mapper works in it at the same time.
    /// 2. Whoever may access the range through `other` may access the frames so.
    /// 3. With `read_only`: nobody relies on the frames being unchanged before the caller has flushed the range on
    ///    every CPU that could hold a translation of it.
    pub unsafe fn share_leaves(
        &self,
        other: &Mapper<'_, F, M>,
        range: VirtRange,
        read_only: bool,
        mut share: impl FnMut(PhysAddr),
    ) -> Result<(), MapError> {
        let mut rest = Some(range);
        while let Some(part) = rest.and_then(|rest| self.next_leaf_table(rest)) {
            let theirs = other.make_table_for(part.start(), Level::PAGE)?;
            if let Ok(mine) = self.table_for(part.start(), Level::PAGE) {
                let (first, count) = (F::index(part.start(), Level::PAGE), part.bytes() / F::page_bytes());
                let shared =
                    Copy::share_all::<F>(mine.slots(first, count), theirs.slots(first, count), read_only, &mut share);
                shared.map_err(|(page, found)| {
                    MapError::instead_of_leaf(found, part.start().wrapping_add(page * F::page_bytes()))
                })?;
            }
            rest = rest.and_then(|rest| after(rest, part));
        }
        Ok(())
    }

    /// Moves what is in the entries of `pages`, leaves and parked ones, to as many pages from `to` on. Where nothing is to be moved, there may
    /// be something.
    ///
    /// # Context
    ///
    /// Any but NMI. Takes no lock; makes tables.
    ///
    /// # Errors
    ///
    /// There is no memory for a table, or either is no run of pages. Then nothing was moved.
    ///
    /// # Safety
    ///
    /// 1. Both are the caller's, they do not overlap, and no other mapper works on them at the same time.
    /// 2. Nothing is mapped at those of the pages from `to` on that something moves to.
    /// 3. Nobody relies on the memory being gone from `pages` before the caller has flushed them.
    pub unsafe fn move_leaves(&self, pages: Pages, to: VirtAddr) -> Result<(), MapError> {
        let from = Run::check::<F>(pages)?;
        let there = Run::check::<F>(Pages::new(to, pages.count()))?;
        self.make_slots(there).try_for_each(|slot| slot.map(|_| ()))?;
        for (from, there) in self.slots(from).zip(self.slots(there)) {
            if let (Ok((_, from)), Ok((_, there))) = (from, there)
                && !from.is_zero()
            {
                let entry = from.take::<F>(Level::PAGE);
                let filled = there.fill::<F>(entry, Level::PAGE);
                debug_assert!(filled.is_ok(), "something is mapped there: {filled:?}");
            }
        }
        Ok(())
    }

    /// Gives `visit` the slot of each page in `range` whose entry is not absent.
    fn sweep(&self, range: VirtRange, mut visit: impl FnMut(VirtAddr, &'a Slot)) {
        let swept: ControlFlow<()> = self.try_sweep(range, |at, slot| {
            visit(at, slot);
            ControlFlow::Continue(())
        });
        debug_assert!(swept.is_continue(), "nothing stops the sweep");
    }

    /// As [`sweep`](Self::sweep), until `visit` breaks.
    fn try_sweep<B>(
        &self,
        range: VirtRange,
        mut visit: impl FnMut(VirtAddr, &'a Slot) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        let mut rest = Some(range);
        while let Some(part) = rest.and_then(|rest| self.next_leaf_table(rest)) {
            if let Ok(table) = self.table_for(part.start(), Level::PAGE) {
                let mut at = part.start();
                for slot in table.slots(F::index(at, Level::PAGE), part.bytes() / F::page_bytes()) {
                    if !slot.is_zero() {
                        visit(at, slot)?;
                    }
                    at = at.wrapping_add(F::page_bytes());
                }
            }
            rest = rest.and_then(|rest| after(rest, part));
        }
        ControlFlow::Continue(())
    }
}

/// The bits of a page's entry that say which frame, and no others.
fn frame_bits<F: Format>() -> u64 {
    let leaf = |frame| Entry::Leaf { frame, attributes: Attributes::user(Access::Read), dirty: true };
    let highest = PhysAddr::new((1 << F::PHYS_BITS) - F::page_bytes() as u64);
    F::encode(leaf(highest), Level::PAGE) ^ F::encode(leaf(PhysAddr::new(0)), Level::PAGE)
}

/// The frame that a page's leaf leads to.
fn frame_of<F: Format>(raw: u64) -> PhysAddr {
    let bits = frame_bits::<F>();
    PhysAddr::new(((raw & bits) >> bits.trailing_zeros()) << F::PAGE_SHIFT)
}

/// What no entry has beside its frame.
const NONE_ALIKE: u64 = u64::MAX;

/// How leaves are copied that say the same but for their frames: thought of once, and not for each.
struct Copy {
    /// What they say beside their frames, and what they and their copies are to say.
    from: u64,
    to: u64,
}

impl Copy {
    const NONE: Self = Self { from: NONE_ALIKE, to: NONE_ALIKE };

    /// How the leaf `raw` is copied; `None` if it is none.
    fn of<F: Format>(raw: u64, read_only: bool) -> Option<Self> {
        let Entry::Leaf { attributes, dirty, .. } = F::decode(raw, Level::PAGE) else { return None };
        let attributes = match attributes.access() {
            Access::ReadWrite if read_only => attributes.with_access(Access::Read),
            _ => attributes,
        };
        let to = F::encode(Entry::Leaf { frame: PhysAddr::new(0), attributes, dirty }, Level::PAGE);
        Some(Self { from: raw & !frame_bits::<F>(), to })
    }

    /// Copies the leaves in `mine` to `theirs`, and gives their frames to `share`. Else says which page is in the way, and what is there.
    fn share_all<F: Format>(
        mine: &[Slot],
        theirs: &[Slot],
        read_only: bool,
        mut share: impl FnMut(PhysAddr),
    ) -> Result<(), (usize, Entry)> {
        let mut copy = Self::NONE;
        for (page, (mine, theirs)) in mine.iter().zip(theirs).enumerate() {
            let raw = mine.raw();
            if raw == 0 {
                continue;
            }
            let frame = raw & frame_bits::<F>();
            let alike = raw ^ frame == copy.from;
            let done = alike && (copy.from == copy.to || mine.exchange(raw, frame | copy.to));
            if !done && !copy.begin::<F>(mine, read_only) {
                continue;
            }
            if !theirs.exchange(0, frame | copy.to) {
                return Err((page, theirs.read::<F>(Level::PAGE)));
            }
            share(frame_of::<F>(raw));
        }
        Ok(())
    }

    /// Makes the leaf in `mine` what it is to be, and remembers that for others like it. Says whether it is a leaf.
    fn begin<F: Format>(&mut self, mine: &Slot, read_only: bool) -> bool {
        loop {
            let raw = mine.raw();
            let Some(copy) = Self::of::<F>(raw, read_only) else { return false };
            *self = copy;
            // Once more if the hardware has set a bit since.
            if self.from == self.to || mine.exchange(raw, raw & frame_bits::<F>() | self.to) {
                return true;
            }
        }
    }
}

/// What of `range` comes after `part`.
fn after(range: VirtRange, part: VirtRange) -> Option<VirtRange> {
    let bytes = range.end().offset_from(part.end())?;
    VirtRange::new(part.end(), bytes).filter(|rest| rest.bytes() != 0)
}
