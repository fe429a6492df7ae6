//! [`DmaDoor`]: everything that a device is to have passes here.
//!
//! The check is arithmetic on the ends of the range against two hulls: that of all areas, and that of all stacks that are registered
//! (`hulls`). What lies outside of both is no stack's. What does not is looked at by area, in constant time.
//!
//! Until [`DmaDoor::look`] was called the hulls are the whole address space: everything is looked at, and nothing passes unseen.

use core::fmt;

use crate::addr::VirtAddr;
use crate::area::StackArea;
use crate::geometry::Geometry;
use crate::locate::Located;
use crate::platform::Platform;
use crate::sync::{AtomicU8, AtomicU64, Ordering};

use super::hulls::{Hull, Hulls};
use super::pool::{BounceRegion, Pool, PoolError, PoolUsage};

/// What is done about stacks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(u8)]
#[non_exhaustive]
pub enum DmaPolicy {
    /// Devices get none. What a device cannot reach where it is, it does not get either.
    #[default]
    Refuse = 0,
    /// The device gets a copy, in a buffer of the pool.
    Bounce = 1,
    /// The device gets the stack itself, pinned. What it cannot have so, bounces.
    Map = 2,
}

/// What came of the requests at a door. Numbers of requests; those that are no stack's and passed are not counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct DmaCounters {
    /// Refused, for whatever reason.
    pub refused: u64,
    /// Copied to a buffer of the pool.
    pub bounced: u64,
    /// Pinned.
    pub mapped: u64,
    /// Ended after their stack was given back: what the device wrote was dropped.
    pub gone: u64,
    /// Never ended: what they held is kept for ever.
    pub lost: u64,
}

/// The door between memory and devices.
pub struct DmaDoor<'a, P: Platform> {
    hulls: Hulls,
    pub(super) all: &'a [&'a StackArea<P>],
    pub(super) platform: &'a P,
    policy: AtomicU8,
    pub(super) pool: Pool,
    pub(super) refused: AtomicU64,
    pub(super) bounced: AtomicU64,
    pub(super) mapped: AtomicU64,
    pub(super) gone: AtomicU64,
    pub(super) lost: AtomicU64,
}

impl<'a, P: Platform> DmaDoor<'a, P> {
    /// A door that knows the stacks of `areas`, and what is registered with them; `platform` translates addresses. Its policy is to refuse.
    ///
    /// # Panics
    ///
    /// If there are more than 2^17 areas.
    #[must_use]
    pub const fn new(platform: &'a P, areas: &'a [&'a StackArea<P>]) -> Self {
        assert!(areas.len() < 1 << 17, "more areas than an anchor can tell apart");
        Self {
            hulls: Hulls::new(),
            all: areas,
            platform,
            policy: AtomicU8::new(DmaPolicy::Refuse as u8),
            pool: Pool::new(),
            refused: AtomicU64::new(0),
            bounced: AtomicU64::new(0),
            mapped: AtomicU64::new(0),
            gone: AtomicU64::new(0),
            lost: AtomicU64::new(0),
        }
    }

    /// Looks where the areas are. Call it again when one of them was initialised, or a stack registered with it, before that stack is used.
    ///
    /// # Context
    ///
    /// Task, on any number of CPUs at once, and while others ask.
    pub fn look(&self) {
        let wholes = self.all.iter().filter_map(|area| area.geometry()).map(Geometry::whole_range);
        let areas = Hull::around(wholes.map(|range| (range.start().get(), range.end().get() - 1)));
        let registered = Hull::around(self.all.iter().flat_map(|area| area.registered_ranges()));
        self.hulls.note(areas, registered);
    }

    /// Says what is done about stacks from here on. Transfers that were let through end as they began.
    ///
    /// # Context
    ///
    /// Any.
    pub fn set_policy(&self, policy: DmaPolicy) {
        self.policy.store(policy as u8, Ordering::Relaxed);
    }

    /// What is done about stacks.
    pub fn policy(&self) -> DmaPolicy {
        match self.policy.load(Ordering::Relaxed) {
            1 => DmaPolicy::Bounce,
            2 => DmaPolicy::Map,
            _ => DmaPolicy::Refuse,
        }
    }

    /// Gives the door memory for bounce buffers. Once.
    ///
    /// # Context
    ///
    /// Task.
    ///
    /// # Errors
    ///
    /// [`PoolError`]; then nothing changed.
    ///
    /// # Safety
    ///
    /// The region is mapped readable and writable, in one piece, for ever, and nobody else's.
    pub unsafe fn fill_pool(&self, region: &BounceRegion) -> Result<(), PoolError> {
        // SAFETY: the caller's promise.
        unsafe { self.pool.fill(region) }
    }

    /// How much of the pool is in use, by counting it.
    pub fn pool_usage(&self) -> PoolUsage {
        self.pool.usage()
    }

    /// What came of the requests so far.
    pub fn counters(&self) -> DmaCounters {
        DmaCounters {
            refused: self.refused.load(Ordering::Relaxed),
            bounced: self.bounced.load(Ordering::Relaxed),
            mapped: self.mapped.load(Ordering::Relaxed),
            gone: self.gone.load(Ordering::Relaxed),
            lost: self.lost.load(Ordering::Relaxed),
        }
    }

    /// Whether these bytes may be a stack's, or are none at all, or leave the address space. If not, they are no stack's.
    ///
    /// # Context
    ///
    /// Any. Twelve instructions on x86-64, or fewer.
    #[inline(always)]
    pub fn suspects(&self, addr: VirtAddr, bytes: usize) -> bool {
        self.hulls.meet(addr, bytes)
    }

    /// What the `bytes` bytes from `addr` on have to do with the stacks of all areas: what the first area says that knows any of them.
    ///
    /// # Context
    ///
    /// Any, the fault path included. In constant time: that of one area, for each.
    pub fn locate(&self, addr: VirtAddr, bytes: usize) -> Located {
        if !self.suspects(addr, bytes) {
            return Located::Outside;
        }
        let mut found = self.all.iter().map(|area| area.locate(addr, bytes));
        found.find(|located| *located != Located::Outside).unwrap_or(Located::Outside)
    }

    #[cold]
    pub(super) fn count_lost(&self) {
        self.lost.fetch_add(1, Ordering::Relaxed);
    }

    #[cold]
    pub(super) fn count_refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }
}

impl<P: Platform> fmt::Debug for DmaDoor<'_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (policy, counters) = (self.policy(), self.counters());
        f.debug_struct("DmaDoor").field("policy", &policy).field("counters", &counters).finish_non_exhaustive()
    }
}
