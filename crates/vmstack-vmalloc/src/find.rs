//! From an address to what it is: which area, whose guard, what it was.
//!
//! Two loads find the record: of the chunk's state, which says how it is cut, and of the slot's life. A record is read between two looks at its life, so what it says belongs
//! together; nothing is waited for. All of it may be asked in any context: records that exist are never unmapped, and of those that
//! do not the numbers of what was made say so (INV-FAULT).

use vmstack::{PhysAddr, VirtAddr, VirtRange};

use crate::area::Place;
use crate::chunk::{Chunk, State};
use crate::class::Class;
use crate::error::FreeError;
use crate::info::{AreaInfo, Found};
use crate::layout::{ChunkIndex, Layout};
use crate::meta::Meta;
use crate::pager::Pager;
use crate::record::{Life, Phase, Record, Said};
use crate::vmalloc::Vmalloc;

impl<P: Pager> Vmalloc<P> {
    /// What is at `addr`.
    ///
    /// # Context
    ///
    /// Any, NMI and the fault path included: takes no lock, waits for nothing, touches only what cannot fault. By the time it returns it may be something else, if
    /// other CPUs free or allocate.
    pub fn find(&self, addr: VirtAddr) -> Found {
        let Some(meta) = self.meta() else { return Found::NotOurs };
        let Some(page) = meta.layout.page_of(addr) else { return Found::NotOurs };
        let (index, inside) = Layout::<P>::split(page);
        if index.get() < meta.layout.first {
            return meta.find_among_records(index, inside);
        }
        let Some(chunk) = meta.try_chunk(index) else { return Found::Unused };
        meta.find_in_chunk(index, chunk, page)
    }

    /// The physical address that `addr` translates to, if it is mapped.
    ///
    /// # Context
    ///
    /// Any, NMI and the fault path included.
    pub fn translate(&self, addr: VirtAddr) -> Option<PhysAddr> {
        self.range().contains(addr).then(|| self.pager().translate(addr)).flatten()
    }

    /// What can be said of the area in `place`, while its `life` lasts.
    pub(crate) fn info_at(&self, place: Place, life: Life) -> Option<AreaInfo> {
        let meta = self.meta()?;
        let said = meta.record_of(place).said().filter(|said| said.life == life)?;
        meta.info(&said)
    }

    /// Why nothing can be freed at `addr`.
    #[cold]
    pub(crate) fn why_not(&self, addr: VirtAddr) -> FreeError {
        match self.find(addr) {
            Found::NotOurs | Found::Records => FreeError::NotOurs { addr },
            Found::Area(area) => FreeError::Inside { addr, area },
            Found::Guard { below: Some(area), .. } | Found::Guard { above: Some(area), .. } => {
                FreeError::Guard { addr, area }
            }
            Found::Freed(area) if area.range.start() == addr => FreeError::Twice { addr, area },
            _ => FreeError::NoArea { addr },
        }
    }
}

impl<'a, P: Pager> Meta<'a, P> {
    /// What a record said, for others.
    pub(crate) fn info(&self, said: &Said) -> Option<AreaInfo> {
        let range = VirtRange::new(self.layout.address(said.page), said.bytes.next_multiple_of(P::PAGE_SIZE))?;
        Some(AreaInfo { range, bytes: said.bytes, kind: said.kind, tag: said.tag, large: said.large })
    }

    /// What is where the records lie. The last page of it is a guard.
    fn find_among_records(&self, index: ChunkIndex, inside: usize) -> Found {
        let is_last = index.get() + 1 == self.layout.first && inside == P::CHUNK_PAGES - 1;
        match self.first_of(ChunkIndex::new(self.layout.first)) {
            Some(above) if is_last => Found::Guard { below: None, above: Some(above) },
            _ => Found::Records,
        }
    }

    fn find_in_chunk(&self, index: ChunkIndex, chunk: &Chunk, page: u32) -> Found {
        match chunk.state() {
            State::Cut(class) => {
                let found = self.find_in_slot(index, class, page);
                // It may have been cut anew meanwhile, into other slots.
                if chunk.state() == State::Cut(class) { found } else { Found::Unused }
            }
            State::Head | State::Body => {
                let record = &self.known_chunk(chunk.head()).record;
                self.find_by(record, page, self.next_in(index.up(1), page))
            }
            _ => self.find_in_nobodys(chunk, page, self.next_in(index.up(1), page)),
        }
    }

    /// What is at `page` of a chunk that is nobody's: it may have been an area's, whose first chunk remembers that until it is another's.
    fn find_in_nobodys(&self, chunk: &Chunk, page: u32, next: Option<AreaInfo>) -> Found {
        let said = self.try_chunk(chunk.head()).and_then(|head| head.record.said());
        match next {
            Some(_) => Found::Guard { below: None, above: next },
            None => self.what_was(said, self.layout.address(page)),
        }
    }

    fn find_in_slot(&self, index: ChunkIndex, class: Class, page: u32) -> Found {
        let slots = class.slots_in(P::CHUNK_PAGES);
        let inside = Layout::<P>::split(page).1;
        let number = class.slot_of(inside).min(slots - 1);
        let record = self.slot(Layout::<P>::slot(index, number));
        let next = match number + 1 < slots {
            true => self.live(self.slot(Layout::<P>::slot(index, number + 1))),
            false => self.first_of(index.up(1)),
        };
        self.find_by(record, page, next.filter(|info| self.is_just_below(page, info)))
    }

    /// What is at `page`, of which `record` is the last below it, and `next` the area that begins right after it, if one does.
    fn find_by(&self, record: &Record, page: u32, next: Option<AreaInfo>) -> Found {
        let said = record.said();
        let addr = self.layout.address(page);
        let live = said.filter(|said| said.life.phase() == Phase::Live).and_then(|said| self.info(&said));
        match (live, next) {
            (Some(area), _) if area.range.contains(addr) => Found::Area(area),
            (None, None) => self.what_was(said, addr),
            (below, above) => Found::Guard { below, above },
        }
    }

    /// What a record says of an area that is not alive, and that `addr` lay in.
    fn what_was(&self, said: Option<Said>, addr: VirtAddr) -> Found {
        let ended = said.filter(|said| matches!(said.life.phase(), Phase::Free | Phase::Dying));
        let was = ended.and_then(|said| self.info(&said));
        was.filter(|info| info.range.contains(addr)).map_or(Found::Unused, Found::Freed)
    }

    /// The area that begins with the first page of `chunk`, if `page` is the one below that.
    fn next_in(&self, chunk: ChunkIndex, page: u32) -> Option<AreaInfo> {
        self.first_of(chunk).filter(|info| self.is_just_below(page, info))
    }

    fn is_just_below(&self, page: u32, info: &AreaInfo) -> bool {
        self.layout.address(page + 1) == info.range.start()
    }

    /// The area that begins with the first page of `chunk`.
    fn first_of(&self, index: ChunkIndex) -> Option<AreaInfo> {
        let chunk = self.try_chunk(index)?;
        match chunk.state() {
            State::Cut(_) => self.live(self.slot(Layout::<P>::slot(index, 0))),
            State::Head => self.live(&chunk.record),
            _ => None,
        }
    }

    /// The area of `record`, if it is alive.
    pub(crate) fn live(&self, record: &Record) -> Option<AreaInfo> {
        let said = record.said().filter(|said| said.life.phase() == Phase::Live)?;
        self.info(&said)
    }
}
