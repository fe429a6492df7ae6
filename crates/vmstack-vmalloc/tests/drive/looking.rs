//! What is said of an address: by `find`, and by a free that must be refused.

use super::{Free, Model, PAGE};
use vmstack::VirtAddr;
use vmstack_vmalloc::{AreaInfo, Found, FreeError};

/// What the model knows of an address.
#[derive(Clone, Copy, Debug)]
enum Known {
    NotOurs,
    Records,
    Area(AreaInfo),
    /// The page above an area, or below one, or both.
    Guard(Option<AreaInfo>, Option<AreaInfo>),
    /// In a freed area that nothing was laid over.
    Freed(AreaInfo),
    Nothing,
}

impl Model<'_> {
    fn known(&self, addr: VirtAddr) -> Known {
        let (at, page) = (addr.get(), addr.get() & !(PAGE - 1));
        if !self.fake.range().contains(addr) {
            return Known::NotOurs;
        }
        if self.fake.records().contains(addr) {
            // The last page of them is the first guard.
            return match self.live.get(&(page + PAGE)) {
                Some(live) => Known::Guard(None, Some(live.info)),
                None => Known::Records,
            };
        }
        let below = self.live.range(..=at).next_back().map(|(_, live)| live.info);
        if let Some(info) = below.filter(|info| info.range.contains(addr)) {
            return Known::Area(info);
        }
        let below = below.filter(|info| info.range.end().get() == page);
        let above = self.live.get(&(page + PAGE)).map(|live| live.info);
        let freed = self.freed.range(..=at).next_back().map(|(_, freed)| freed.info);
        match (below, above, freed.filter(|info| info.range.contains(addr))) {
            (None, None, None) => Known::Nothing,
            // The page below an area may have been another's.
            (None, _, Some(freed)) => Known::Freed(freed),
            _ => Known::Guard(below, above),
        }
    }

    /// Asks what is at `addr`, and whether that is mapped.
    pub(super) fn looks_at(&self, addr: VirtAddr) {
        let (known, found) = (self.known(addr), self.vmalloc.find(addr));
        let right = match (known, found) {
            (Known::NotOurs, Found::NotOurs) | (Known::Records, Found::Records) => true,
            (Known::Area(area), Found::Area(found)) => area == found,
            (Known::Guard(below, above), Found::Guard { below: b, above: a }) => {
                (below.is_none() || below == b) && (above.is_none() || above == a) && self.are_beside(addr, b, a)
            }
            (Known::Freed(freed), Found::Freed(found)) => freed == found,
            (Known::Freed(_) | Known::Nothing, Found::Guard { below, above }) => self.are_beside(addr, below, above),
            (Known::Freed(_) | Known::Nothing, Found::Unused) => true,
            // It was forgotten here when something was laid over its end.
            (Known::Nothing, Found::Freed(found)) => found.range.contains(addr),
            _ => false,
        };
        assert!(right, "at {addr}, where {known:x?} is, there was found {found:x?}");
        if !matches!(known, Known::Area(_) | Known::Records | Known::NotOurs) {
            assert_eq!(self.fake.frame_at(addr), None, "{addr} is mapped, where {known:x?} is");
        }
    }

    /// Whether areas that a guard is said to be of are alive and beside it.
    fn are_beside(&self, addr: VirtAddr, below: Option<AreaInfo>, above: Option<AreaInfo>) -> bool {
        let alive = |info: AreaInfo| self.live.get(&info.range.start().get()).is_some_and(|live| live.info == info);
        let (below, above) = (below.into_iter(), above.into_iter());
        below.clone().all(alive)
            && above.clone().all(alive)
            && below.clone().all(|info| info.range.end() <= addr)
            && above.clone().all(|info| addr < info.range.start())
            && below.chain(above).next().is_some()
    }

    /// Looks at an area, at its guards and just past them.
    pub(super) fn looks_around(&self, start: usize) {
        let range = self.live[&start].info.range;
        let (first, end) = (range.start(), range.end());
        let addresses = [
            first,
            first.wrapping_add(range.bytes() / 2),
            end.wrapping_sub(1),
            end,
            end.wrapping_add(PAGE - 1),
            end.wrapping_add(PAGE),
            first.wrapping_sub(1),
            first.wrapping_sub(PAGE),
            first.wrapping_sub(PAGE + 1),
        ];
        addresses.into_iter().for_each(|addr| self.looks_at(addr));
    }

    /// Frees what must not be freed. Nothing changes.
    pub(super) fn frees_badly(&mut self, what: Free, which: usize, at: usize) {
        let live = self.nth(which).map(|start| self.live[&start].info.range);
        let addr = match (what, live) {
            (Free::Inside, Some(range)) => range.start().wrapping_add(1 + at % (range.bytes() - 1)),
            (Free::Guard, Some(range)) if at.is_multiple_of(2) => range.end().wrapping_add(at / 2 % PAGE),
            (Free::Guard, Some(range)) => range.start().wrapping_sub(1 + at / 2 % PAGE),
            (Free::Freed, _) if !self.freed.is_empty() => {
                VirtAddr::new(*self.freed.keys().nth(which % self.freed.len()).expect("there are so many"))
            }
            _ => self.anywhere(at),
        };
        if !self.live.contains_key(&addr.get()) {
            self.expect_refused(addr);
        }
    }

    fn expect_refused(&self, addr: VirtAddr) {
        let (known, refused) = (self.known(addr), self.vmalloc.free(addr).expect_err("no area begins there"));
        let right = match (known, refused) {
            (Known::NotOurs | Known::Records, FreeError::NotOurs { .. }) => true,
            (Known::Area(area), FreeError::Inside { area: said, .. }) => area == said,
            (Known::Guard(Some(below), _), FreeError::Guard { area, .. }) => area == below,
            // Also a guard is what a slot has beyond the first page above its area.
            (Known::Freed(_) | Known::Nothing | Known::Guard(None, _), FreeError::Guard { area, .. }) => {
                self.are_beside(addr, Some(area), None) || self.are_beside(addr, None, Some(area))
            }
            (Known::Freed(freed), FreeError::Twice { area, .. }) => freed == area && freed.range.start() == addr,
            (Known::Freed(_) | Known::Nothing, FreeError::NoArea { .. }) => true,
            // It was forgotten here when something was laid over its end.
            (Known::Nothing, FreeError::Twice { area, .. }) => area.range.start() == addr,
            _ => false,
        };
        assert!(right, "{addr}, where {known:x?} is, was freed: {refused}");
        assert_eq!(addr, said_address(refused), "{refused:?}");
    }
}

fn said_address(refused: FreeError) -> VirtAddr {
    match refused {
        FreeError::NotOurs { addr }
        | FreeError::Inside { addr, .. }
        | FreeError::Guard { addr, .. }
        | FreeError::Twice { addr, .. }
        | FreeError::NoArea { addr } => addr,
        _ => panic!("{refused}"),
    }
}
