//! From addresses to physical memory: pages are translated one by one, and what lies side by side is one piece.
//!
//! Nothing is stored: a transfer's segments are found again each time they are asked for, in the page tables, which say the same as long as
//! the transfer lives.

use crate::addr::{PhysAddr, VirtAddr};
use crate::platform::Platform;

use super::refusal::Refusal;
use super::request::DmaRequest;

/// A piece of physical memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Segment {
    /// Where it begins.
    pub start: PhysAddr,
    /// How long it is, in bytes: never zero.
    pub bytes: usize,
}

impl Segment {
    /// The first address behind it.
    const fn end(&self) -> PhysAddr {
        self.start.wrapping_add(self.bytes as u64)
    }

    /// The last byte.
    const fn last(&self) -> PhysAddr {
        self.start.wrapping_add(self.bytes as u64 - 1)
    }

    /// Whether it suits the device that `request` is about.
    fn suits(&self, request: &DmaRequest) -> Result<(), Refusal> {
        let last = self.last();
        if last.get() > request.reach {
            return Err(Refusal::OutOfReach { last, reach: request.reach });
        }
        if self.start.get() & (request.align as u64).wrapping_sub(1) != 0 {
            return Err(Refusal::Misaligned { start: self.start, align: request.align });
        }
        Ok(())
    }
}

/// The pieces of physical memory that some bytes lie in, in order: as few as possible.
#[derive(Debug)]
pub struct Segments<'a, P: Platform> {
    platform: &'a P,
    at: VirtAddr,
    left: usize,
    /// Where the rest begins, if it is known to be in one piece.
    whole: Option<PhysAddr>,
}

impl<P: Platform> Clone for Segments<'_, P> {
    fn clone(&self) -> Self {
        Self { ..*self }
    }
}

impl<'a, P: Platform> Segments<'a, P> {
    /// Of memory that is mapped page by page.
    pub(super) const fn paged(platform: &'a P, at: VirtAddr, bytes: usize) -> Self {
        Self { platform, at, left: bytes, whole: None }
    }

    /// Of memory that is no stack's: the platform may know that it is in one piece.
    pub(super) fn plain(platform: &'a P, at: VirtAddr, bytes: usize) -> Self {
        Self { platform, at, left: bytes, whole: platform.direct(at, bytes) }
    }

    /// Of memory in one piece.
    pub(super) const fn whole(platform: &'a P, start: PhysAddr, bytes: usize) -> Self {
        Self { platform, at: VirtAddr::new(0), left: bytes, whole: Some(start) }
    }

    /// Whether all of it is mapped, and suits the device that `request` is about. What is not mapped is said first: nobody may read it.
    pub(super) fn suit(mut self, request: &DmaRequest) -> Result<(), Refusal> {
        let (mut count, mut suits) = (0_usize, Ok(()));
        for segment in self.by_ref() {
            count += 1;
            suits = suits.and_then(|()| segment.suits(request));
        }
        if self.left != 0 {
            return Err(Refusal::NotMapped { page: VirtAddr::new(self.at.get() & !(P::PAGE_SIZE - 1)) });
        }
        let few = count <= request.segments;
        suits.and(if few { Ok(()) } else { Err(Refusal::TooManySegments { most: request.segments }) })
    }

    /// What is on the page at the front. None if nothing is mapped there, or nothing is left.
    fn page(&self) -> Option<Segment> {
        if self.left == 0 {
            return None;
        }
        let bytes = (P::PAGE_SIZE - (self.at.get() & (P::PAGE_SIZE - 1))).min(self.left);
        Some(Segment { start: self.platform.translate(self.at)?, bytes })
    }

    const fn pass(&mut self, bytes: usize) {
        (self.at, self.left) = (self.at.wrapping_add(bytes), self.left - bytes);
    }
}

impl<P: Platform> Iterator for Segments<'_, P> {
    type Item = Segment;

    fn next(&mut self) -> Option<Segment> {
        if let Some(start) = self.whole {
            let bytes = core::mem::take(&mut self.left);
            return (bytes != 0).then_some(Segment { start, bytes });
        }
        let mut segment = self.page()?;
        self.pass(segment.bytes);
        while let Some(more) = self.page().filter(|more| more.start == segment.end()) {
            segment.bytes += more.bytes;
            self.pass(more.bytes);
        }
        Some(segment)
    }
}

/// Makes one segment of those that lie side by side.
#[derive(Clone, Debug)]
pub(super) struct Merged<I: Iterator<Item = Segment>> {
    segments: I,
    next: Option<Segment>,
}

impl<I: Iterator<Item = Segment>> Merged<I> {
    pub(super) fn new(mut segments: I) -> Self {
        let next = segments.next();
        Self { segments, next }
    }
}

impl<I: Iterator<Item = Segment>> Iterator for Merged<I> {
    type Item = Segment;

    fn next(&mut self) -> Option<Segment> {
        let mut segment = self.next.take()?;
        for more in self.segments.by_ref() {
            if more.start != segment.end() {
                self.next = Some(more);
                break;
            }
            segment.bytes += more.bytes;
        }
        Some(segment)
    }
}
