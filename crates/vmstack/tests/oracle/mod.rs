//! What the door should say, found the simple way: by walking over everything that there is, page by page.

#![allow(clippy::allow_attributes, reason = "an expectation would fail in the programs that use all of it")]
#![allow(dead_code, reason = "each test program uses its own part of this")]

use vmstack::{DmaPolicy, Geometry, Passage, Refusal};

const PAGE: usize = 4096;

/// What a request asks, and what its device can do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    pub(crate) addr: usize,
    pub(crate) bytes: usize,
    pub(crate) align: usize,
    pub(crate) reach: u64,
    pub(crate) segments: usize,
}

/// Where a range lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Where {
    Nowhere,
    /// In one stack: that which begins there.
    In(usize),
    Refused(Refusal),
}

/// Some addresses, from the first up to the end.
type Span = (usize, usize);

fn meets(asked: &Asked, (from, to): Span) -> bool {
    asked.addr < to && asked.addr + asked.bytes > from
}

/// What is said of a range that meets the stack from `bottom` to `top`.
fn in_stack(asked: &Asked, (bottom, top): Span, live: bool) -> Where {
    let (first, end) = (asked.addr, asked.addr + asked.bytes);
    match (first < bottom, end > top) {
        (true, _) => Where::Refused(Refusal::AcrossBottom { below: bottom - first }),
        (false, true) => Where::Refused(Refusal::AcrossTop { above: end - top }),
        (false, false) if live => Where::In(bottom),
        (false, false) => Where::Refused(Refusal::Idle),
    }
}

/// Where a range lies in an area of this shape, in which the stacks at `live` are somebody's.
pub(crate) fn in_area(asked: &Asked, shape: &Geometry, live: impl Fn(usize) -> bool) -> Where {
    let (whole, slots) = (shape.whole_range(), shape.slot_range());
    for index in 0..shape.slots() {
        let top = slots.start().get() + (index + 1) * shape.stride();
        let stack = (top - shape.stack_size(), top);
        if meets(asked, stack) {
            return in_stack(asked, stack, live(stack.0));
        }
    }
    if meets(asked, (whole.start().get(), slots.start().get())) {
        return Where::Refused(Refusal::Records);
    }
    let guards = meets(asked, (slots.start().get(), slots.end().get()));
    if guards { Where::Refused(Refusal::Guard) } else { Where::Nowhere }
}

/// Where a range lies beside a stack that was there before, whose guards are a page.
pub(crate) fn in_registered(asked: &Asked, stack: Span) -> Where {
    if meets(asked, stack) {
        return in_stack(asked, stack, true);
    }
    if meets(asked, (stack.0 - PAGE, stack.1 + PAGE)) { Where::Refused(Refusal::Guard) } else { Where::Nowhere }
}

/// Pieces of physical memory: byte by byte, and what lies side by side is one.
pub(crate) fn pieces(asked: &Asked, phys: impl Fn(usize) -> Option<u64>) -> Result<Vec<(u64, usize)>, Refusal> {
    let mut pieces: Vec<(u64, usize)> = Vec::new();
    for addr in asked.addr..asked.addr + asked.bytes {
        let page = vmstack::VirtAddr::new(addr & !(PAGE - 1));
        let at = phys(addr).ok_or(Refusal::NotMapped { page })?;
        match pieces.last_mut() {
            Some((start, bytes)) if *start + *bytes as u64 == at => *bytes += 1,
            _ => pieces.push((at, 1)),
        }
    }
    Ok(pieces)
}

/// Why the device cannot have these pieces.
fn unsuited(asked: &Asked, pieces: &[(u64, usize)]) -> Option<Refusal> {
    for &(start, bytes) in pieces {
        let last = start + bytes as u64 - 1;
        if last > asked.reach {
            return Some(Refusal::OutOfReach { last: vmstack::PhysAddr::new(last), reach: asked.reach });
        }
        if !start.is_multiple_of(asked.align as u64) {
            return Some(Refusal::Misaligned { start: vmstack::PhysAddr::new(start), align: asked.align });
        }
    }
    (pieces.len() > asked.segments).then_some(Refusal::TooManySegments { most: asked.segments })
}

/// The pool: its last byte, and its largest buffer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pool {
    pub(crate) last: u64,
    pub(crate) largest: usize,
}

fn bounced(asked: &Asked, pool: Pool) -> Result<Passage, Refusal> {
    if pool.last > asked.reach {
        return Err(Refusal::PoolOutOfReach { last: vmstack::PhysAddr::new(pool.last), reach: asked.reach });
    }
    let large = asked.bytes > pool.largest || asked.align > PAGE;
    if large { Err(Refusal::TooLarge { most: pool.largest }) } else { Ok(Passage::Bounced) }
}

/// How a range should pass that lies there, or why not; as long as the pool has buffers.
pub(crate) fn verdict(
    asked: &Asked,
    lies: Where,
    policy: DmaPolicy,
    pool: Pool,
    phys: impl Fn(usize) -> Option<u64>,
) -> Result<Passage, Refusal> {
    let as_it_is = match lies {
        Where::Refused(refusal) => return Err(refusal),
        Where::In(_) if policy == DmaPolicy::Refuse => return Err(Refusal::Stack),
        Where::In(_) if policy == DmaPolicy::Bounce => return bounced(asked, pool),
        Where::In(_) => Passage::Mapped,
        Where::Nowhere => Passage::Plain,
    };
    match unsuited(asked, &pieces(asked, phys)?) {
        None => Ok(as_it_is),
        Some(refusal) if policy == DmaPolicy::Refuse => Err(refusal),
        Some(_) => bounced(asked, pool),
    }
}

/// What is refused whatever it is about.
pub(crate) fn nonsense(addr: usize, bytes: usize) -> Option<Refusal> {
    match bytes {
        0 => Some(Refusal::Empty),
        _ if addr.checked_add(bytes - 1).is_none() => Some(Refusal::Wraps),
        _ => None,
    }
}
