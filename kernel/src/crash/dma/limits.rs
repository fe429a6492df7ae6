//! Requests that nobody can carry out: more than the pool has, and those that make no sense. Each is refused by a reason of its own.

use alloc::vec::Vec;

use vmstack::{Direction, DmaPolicy, DmaRequest, PhysAddr, VirtAddr};

use super::super::stack::own_stack;
use super::bytes::Stretch;
use super::engine::{self, Passed};
use super::facts::{self, Word};
use crate::arch::layout::PAGE_SIZE;
use crate::dma::{DOOR, DmaBuffer};
use crate::stacks::{self, TASK_STACK, TASKS};
use crate::vmalloc::VMALLOC;
use crate::{fact, println};

/// More than a page: of buffers that are so large the pool has few.
const LARGE: usize = PAGE_SIZE + 904;
/// More requests than the pool has such buffers.
const TRIES: usize = 31;

/// A task has the device read its stack again and again, until there is no buffer left; lets the device end one; and asks again.
pub(super) fn exhaust() {
    super::super::script::kernel_victim(|| {
        let low = own_stack().0;
        let mut held: Vec<Passed> = Vec::new();
        let refused = (0..TRIES).find_map(|_| read(low, LARGE).map(|passed| held.push(passed)).err());
        let usage = DOOR.pool_usage();
        fact!("dma.exhausted", "{} {}", held.len(), usage.in_use);
        if let Some(error) = refused {
            facts::refused("exhausted", &error);
        }
        // What is small enough for other buffers passes.
        fact!("dma.small", "{}", u8::from(read(low, 64).is_ok()));
        if let Some(first) = held.first() {
            fact!("dma.end", "first {}", engine::wait(first.ticket).word());
        }
        fact!("dma.again", "{}", u8::from(read(low, LARGE).is_ok()));
        engine::cancel_waiting();
    });
}

#[track_caller]
fn read(at: VirtAddr, bytes: usize) -> Result<Passed, vmstack::DmaError> {
    engine::submit(&DmaRequest::new(at, bytes, Direction::ToDevice))
}

/// Under each policy every request that makes no sense.
pub(super) fn bad_input() {
    super::super::script::kernel_victim(|| {
        let usual = DOOR.policy();
        let policies = [("refuse", DmaPolicy::Refuse), ("bounce", DmaPolicy::Bounce), ("map", DmaPolicy::Map)];
        for (name, policy) in policies {
            DOOR.set_policy(policy);
            each_range(name);
            each_device(name);
            each_list(name);
            not_shared(name);
        }
        DOOR.set_policy(usual);
    });
}

/// Says how a request of the row `name` was refused.
fn say(policy: &str, name: &str, error: Option<vmstack::DmaError>) {
    match error {
        Some(error) => fact!("dma.bad", "{policy} {name} {} {}", Word(error.refusal), error.entry),
        None => fact!("dma.bad", "{policy} {name} passed 0"),
    }
}

/// Asks for the bytes, and takes it back if they are let through: what was refused, then.
fn ask(request: &DmaRequest) -> Option<vmstack::DmaError> {
    // SAFETY: no device hears of it.
    match unsafe { DOOR.pass(request) } {
        Ok(transfer) => {
            // SAFETY: as above.
            unsafe { transfer.cancel() };
            None
        }
        Err(error) => Some(error),
    }
}

/// Ranges that are none, or not one thing's.
fn each_range(policy: &str) {
    let (low, high) = own_stack();
    let mut rows = alloc::vec![
        ("empty", low, 0),
        ("wraps", VirtAddr::new(usize::MAX - 15), 64),
        ("bottom", low.wrapping_sub(16), 64),
        ("top", high.wrapping_sub(16), 64),
        ("around", low.wrapping_sub(16), TASK_STACK + 32),
        ("guard", low.wrapping_sub(64), 32),
        ("freed", freed_stack(), 64),
        ("unmapped", stacks::spare_range().start(), 64),
    ];
    rows.extend(records().map(|records| ("records", records, 64)));
    rows.extend(unused_stack().map(|stack| ("unused", stack, 64)));
    for (name, at, bytes) in rows {
        say(policy, name, ask(&DmaRequest::new(at, bytes, Direction::FromDevice)));
    }
    half_mapped(policy);
}

/// A stack that was given back.
fn freed_stack() -> VirtAddr {
    TASKS.alloc_waiting(0).map_or(VirtAddr::new(0), |stack| stack.bottom())
}

/// A stack that was never handed out: the area's last.
fn unused_stack() -> Option<VirtAddr> {
    let geometry = TASKS.geometry()?;
    Some(geometry.bottom(geometry.slot(geometry.slots() - 1)?))
}

/// What the area keeps about its stacks.
fn records() -> Option<VirtAddr> {
    let geometry = TASKS.geometry()?;
    Some(geometry.whole_range().start())
}

/// An area of one page, and what lies above it.
fn half_mapped(policy: &str) {
    let Ok(area) = VMALLOC.vmalloc(PAGE_SIZE) else { return println!("vmstack: no area") };
    let at = area.start().wrapping_add(PAGE_SIZE - 32);
    say(policy, "half", ask(&DmaRequest::new(at, 64, Direction::FromDevice)));
}

/// What a device cannot have, or not in the way that it needs.
fn each_device(policy: &str) {
    let Some(buffer) = DmaBuffer::new(32 * PAGE_SIZE) else { return println!("vmstack: no frames for a buffer") };
    let plain = DmaRequest::new(VirtAddr::of(buffer.as_ptr()).wrapping_add(8), 31 * PAGE_SIZE, Direction::Both);
    let own = DmaRequest::new(own_stack().0, 64, Direction::Both);
    say(policy, "large", ask(&plain.aligned(64)));
    say(policy, "coarse", ask(&own.aligned(1 << 20)));
    say(policy, "reach", ask(&own.reaching(0xfff)));
}

/// Lists of which an entry is bad, or that are too long.
fn each_list(policy: &str) {
    // Memory that passes whatever the policy is.
    let Some(buffer) = DmaBuffer::new(PAGE_SIZE) else { return println!("vmstack: no frame for a buffer") };
    let good = DmaRequest::new(VirtAddr::of(buffer.as_ptr()), 64, Direction::FromDevice);
    let bad = DmaRequest::new(own_stack().0.wrapping_sub(16), 64, Direction::FromDevice);
    say(policy, "list", ask_list::<4>(&[good, good, bad]));
    say(policy, "full", ask_list::<2>(&[good, good, good]));
}

fn ask_list<const N: usize>(requests: &[DmaRequest]) -> Option<vmstack::DmaError> {
    // SAFETY: no device hears of it.
    match unsafe { DOOR.pass_list::<N>(requests) } {
        Ok(list) => {
            // SAFETY: as above.
            unsafe { list.cancel() };
            None
        }
        Err(error) => Some(error),
    }
}

/// A driver without transfers gives back what it never had.
fn not_shared(policy: &str) {
    let own = Stretch::new(own_stack().0, 64);
    // SAFETY: nothing was shared, and nothing is given back.
    let answer = unsafe { DOOR.unshare(PhysAddr::new(0x1000), own.at, own.bytes) };
    say(policy, "unshare", answer.err());
}
