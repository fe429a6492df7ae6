//! What the door should say of a request, found the simple way: by walking over all slots, page by page, one after the other.
//!
//! It shares no line with the library: where that computes, this looks at everything that there is.

use vmstack::{DmaPolicy, Geometry, Passage, PhysAddr, Refusal, VirtAddr};

use super::ask::Asked;
use crate::arch::PAGE_SIZE;

/// Where a range lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Lies {
    /// In no stack, and beside none.
    Nowhere,
    /// In the stack of this slot, all of it.
    In(usize),
    /// Where no device may reach, whatever the policy.
    Never(Refusal),
}

/// Some addresses, from the first up to the end.
pub(super) type Span = (usize, usize);

/// What is said of a request that meets a stack.
fn in_stack(asked: &Asked, slot: usize, (bottom, top): Span) -> Lies {
    let (first, end) = asked.span();
    match (first < bottom, end > top) {
        (true, _) => Lies::Never(Refusal::AcrossBottom { below: bottom - first }),
        (false, true) => Lies::Never(Refusal::AcrossTop { above: end - top }),
        (false, false) => Lies::In(slot),
    }
}

/// Where a request lies in an area of this shape, or about `registered`, a stack with guards of a page, which counts as one slot more.
pub(super) fn lies(asked: &Asked, shape: &Geometry, registered: Span) -> Lies {
    let (whole, slots) = (shape.whole_range(), shape.slot_range());
    for slot in 0..shape.slots() {
        let top = slots.start().get() + (slot + 1) * shape.stride();
        let stack = (top - shape.stack_size(), top);
        if asked.meets(stack) {
            return in_stack(asked, slot, stack);
        }
    }
    if asked.meets((whole.start().get(), slots.start().get())) {
        return Lies::Never(Refusal::Records);
    }
    if asked.meets((slots.start().get(), slots.end().get())) {
        return Lies::Never(Refusal::Guard);
    }
    if asked.meets(registered) {
        return in_stack(asked, shape.slots(), registered);
    }
    let guards = (registered.0 - PAGE_SIZE, registered.1 + PAGE_SIZE);
    if asked.meets(guards) { Lies::Never(Refusal::Guard) } else { Lies::Nowhere }
}

/// The pieces of physical memory that the bytes are in.
fn pieces(asked: &Asked, phys: impl Fn(usize) -> Option<u64>) -> Result<Vec<(u64, usize)>, Refusal> {
    let ((mut at, end), mut pieces) = (asked.span(), Vec::<(u64, usize)>::new());
    while at < end {
        let next = (at / PAGE_SIZE + 1) * PAGE_SIZE;
        let bytes = next.min(end) - at;
        let start = phys(at).ok_or(Refusal::NotMapped { page: VirtAddr::new(next - PAGE_SIZE) })?;
        match pieces.last_mut() {
            Some((first, before)) if *first + *before as u64 == start => *before += bytes,
            _ => pieces.push((start, bytes)),
        }
        at = next;
    }
    Ok(pieces)
}

/// Why the device cannot have these pieces.
fn unsuited(asked: &Asked, pieces: &[(u64, usize)]) -> Option<Refusal> {
    for &(start, bytes) in pieces {
        let last = start + bytes as u64 - 1;
        if last > asked.reach {
            return Some(Refusal::OutOfReach { last: PhysAddr::new(last), reach: asked.reach });
        }
        if start % asked.align as u64 != 0 {
            return Some(Refusal::Misaligned { start: PhysAddr::new(start), align: asked.align });
        }
    }
    (pieces.len() > asked.segments).then_some(Refusal::TooManySegments { most: asked.segments })
}

/// What there is for what bounces.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pool {
    pub(super) last: u64,
    pub(super) largest: usize,
}

fn bounced(asked: &Asked, pool: Pool) -> Result<Passage, Refusal> {
    let (last, most) = (PhysAddr::new(pool.last), pool.largest);
    match () {
        () if pool.last > asked.reach => Err(Refusal::PoolOutOfReach { last, reach: asked.reach }),
        () if asked.bytes > most || asked.align > PAGE_SIZE => Err(Refusal::TooLarge { most }),
        () => Ok(Passage::Bounced),
    }
}

/// How a request should pass that lies there, or why not. `live` says whether the stack of a slot is somebody's.
pub(super) fn verdict(
    asked: &Asked,
    lies: Lies,
    live: impl Fn(usize) -> bool,
    policy: DmaPolicy,
    pool: Pool,
    phys: impl Fn(usize) -> Option<u64>,
) -> Result<Passage, Refusal> {
    let as_it_is = match (lies, policy) {
        (Lies::Never(refusal), _) => return Err(refusal),
        (Lies::In(slot), _) if !live(slot) => return Err(Refusal::Idle),
        (Lies::In(_), DmaPolicy::Refuse) => return Err(Refusal::Stack),
        (Lies::In(_), DmaPolicy::Bounce) => return bounced(asked, pool),
        (Lies::In(_), _) => Passage::Mapped,
        (Lies::Nowhere, _) => Passage::Plain,
    };
    match unsuited(asked, &pieces(asked, phys)?) {
        None => Ok(as_it_is),
        Some(refusal) if policy == DmaPolicy::Refuse => Err(refusal),
        Some(_) => bounced(asked, pool),
    }
}
