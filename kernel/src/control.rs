//! The failing control: what happens without the cure.
//!
//! Two experiments, each in a boot of its own. A task recurses a little too deep:
//!
//! - on a contiguous stack in the direct map, thread_info at its bottom and another task's stack below it: both are
//!   rewritten, and nothing notices;
//! - on a mapped stack with guards that still has thread_info at its bottom: an overrun that ends in thread_info rewrites it,
//!   and nothing notices, for no guard was touched.
//!
//! Beside these, direct stacks are there to be measured: as Linux has them (`stacks=direct`), and kept as mapped ones are
//! (`stacks=equal`, [`equal`]). Nothing else in the kernel uses such stacks.

use core::hint::black_box;
use core::mem::offset_of;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use vmstack::{PhysAddr, VirtAddr};
use vmstack_arch::stack_pointer;

use crate::arch::cpu;
use crate::arch::layout::{direct_map_to_phys, is_direct, phys_to_virt};
use crate::arch::percpu::{self, MAX_CPUS};
use crate::fact;
use crate::mm::frames;
use crate::oops;
use crate::stacks::{self, TASK_STACK};
use crate::task::{self, TaskStack, sched};

pub(crate) mod equal;

/// Log2 of a task stack in frames.
const STACK_ORDER: u32 = (TASK_STACK / 4096).trailing_zeros();

/// A contiguous, unguarded stack in the direct map.
#[derive(Debug)]
pub(crate) struct DirectStack {
    bottom: VirtAddr,
    /// The block that it is half of, or all of.
    block: PhysAddr,
    order: u32,
}

/// Direct stacks of dead tasks, until the next task on the CPU gives them back: the address of the block, and its order.
static DEAD: [AtomicU64; MAX_CPUS] = [const { AtomicU64::new(0) }; MAX_CPUS];

impl DirectStack {
    /// A stack of contiguous frames, or `None` if there are none: cleared, as a stack must be.
    pub(crate) fn new() -> Option<Self> {
        if equal::is_on()
            && let Some(stack) = equal::take()
        {
            return Some(stack);
        }
        let block = frames::take(STACK_ORDER)?;
        let bottom = phys_to_virt(block);
        for page in 0..1 << STACK_ORDER {
            frames::clear(block.wrapping_add(page * 4096));
        }
        if THREAD_INFO_AT_BOTTOM.load(Ordering::Relaxed) {
            // SAFETY: the stack is new.
            unsafe { ThreadInfo::place(bottom, 0) };
        }
        Some(Self::of(block))
    }

    /// The stack that lies in `block`.
    fn of(block: PhysAddr) -> Self {
        Self { bottom: phys_to_virt(block), block, order: STACK_ORDER }
    }

    /// Two stacks side by side, the lower one first.
    fn pair() -> Option<(Self, Self)> {
        let block = frames::take(STACK_ORDER + 1)?;
        let upper = block.wrapping_add(TASK_STACK as u64);
        let order = STACK_ORDER;
        let lower = Self { bottom: phys_to_virt(block), block, order };
        Some((lower, Self { bottom: phys_to_virt(upper), block: upper, order }))
    }

    pub(crate) fn bottom(&self) -> VirtAddr {
        self.bottom
    }

    pub(crate) fn top(&self) -> VirtAddr {
        self.bottom.wrapping_add(TASK_STACK)
    }

    /// Leaves the stack of a dying task to the next one on this CPU.
    pub(crate) fn hand_over(self) {
        let earlier =
            DEAD[percpu::cpu_number().index()].swap(self.block.get() | u64::from(self.order), Ordering::Relaxed);
        core::mem::forget(self);
        give(earlier);
    }
}

impl Drop for DirectStack {
    fn drop(&mut self) {
        debug_assert!(direct_map_to_phys(self.bottom) == self.block);
        give(self.block.get() | u64::from(self.order));
    }
}

fn give(word: u64) {
    let (block, order) = (PhysAddr::new(word & !0xfff), (word & 0xfff) as u32);
    match word {
        0 => {}
        _ if equal::is_on() && order == STACK_ORDER => equal::give(block),
        _ => frames::give(block, order),
    }
}

/// Gives back the direct stack of a task that died on this CPU, if there is one.
pub(crate) fn reap() {
    let dead = &DEAD[percpu::cpu_number().index()];
    if dead.load(Ordering::Relaxed) != 0 {
        give(dead.swap(0, Ordering::Relaxed));
    }
}

/// Whether direct stacks of processes have thread_info at their bottom, and system calls go by the address limit in it.
static THREAD_INFO_AT_BOTTOM: AtomicBool = AtomicBool::new(false);

/// Puts thread_info at the bottom of direct stacks from here on.
pub(crate) fn put_thread_info_at_bottom() {
    THREAD_INFO_AT_BOTTOM.store(true, Ordering::Relaxed);
}

/// The first address that system calls of the current task may not touch for its program, where thread_info says so.
pub(crate) fn address_limit() -> Option<usize> {
    let (bottom, top) = sched::current().stack_bounds();
    let direct = THREAD_INFO_AT_BOTTOM.load(Ordering::Relaxed) && top > bottom && is_direct(bottom);
    // SAFETY: the current task's stack, which has a thread_info.
    direct.then(|| unsafe { word(bottom.wrapping_add(offset_of!(ThreadInfo, address_limit))) } as usize)
}

/// Reads kernel memory for a program whose address limit allows it.
///
/// # Safety
///
/// None can be given: this is the hole.
pub(crate) unsafe fn read_kernel(addr: usize, bytes: &mut [u8]) {
    for (index, byte) in bytes.iter_mut().enumerate() {
        // SAFETY: as above; an address where nothing is faults, and the machine stops in order.
        *byte = unsafe { VirtAddr::new(addr + index).as_mut_ptr::<u8>().read_volatile() };
    }
}

/// What used to lie at the bottom of a kernel stack. The entry code of such a kernel acts on `flags`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
struct ThreadInfo {
    task: usize,
    flags: u64,
    cpu: u64,
    preempt_count: u64,
    address_limit: u64,
    spare: [u64; 11],
}

impl ThreadInfo {
    /// Writes one at the bottom of a stack.
    ///
    /// # Safety
    ///
    /// The stack is mapped, and no frame has come down this far.
    unsafe fn place(bottom: VirtAddr, task: usize) {
        let info = Self { task, flags: 0, cpu: 0, preempt_count: 0, address_limit: 1 << 47, spare: [0; 11] };
        // SAFETY: the caller's promise.
        unsafe { bottom.as_mut_ptr::<Self>().write(info) };
    }
}

/// A word at `addr`, as it is now.
///
/// # Safety
///
/// It is an aligned word of mapped memory.
unsafe fn word(addr: VirtAddr) -> u64 {
    // SAFETY: the caller's promise. Volatile: the experiment changes it behind the compiler's back.
    unsafe { addr.as_mut_ptr::<u64>().read_volatile() }
}

/// How far below the victim's bottom the recursion goes, in bytes, or how little above it stops.
static STOP_AT: AtomicUsize = AtomicUsize::new(0);
static DONE: AtomicUsize = AtomicUsize::new(0);

/// Calls itself until the stack pointer has passed `limit`, and comes back.
#[inline(never)]
fn descend(limit: VirtAddr) -> usize {
    let frame = black_box([0x6f76_6572_666c_6f77_usize; 4]);
    if stack_pointer() <= limit { frame[0] } else { descend(limit) + frame[1] }
}

/// The task that goes too deep. Interrupts are off: what they would push is not part of the experiment.
extern "C" fn victim(_: usize) -> ! {
    sched::begin();
    cpu::disable_interrupts();
    black_box(descend(VirtAddr::new(STOP_AT.load(Ordering::Relaxed))));
    // SAFETY: nothing is held.
    unsafe { cpu::enable_interrupts() };
    DONE.store(1, Ordering::Release);
    sched::exit()
}

/// The task that sleeps through it.
extern "C" fn neighbour(_: usize) -> ! {
    sched::begin();
    loop {
        sched::sleep_until(u64::MAX);
    }
}

fn wait_for_victim() {
    while DONE.load(Ordering::Acquire) == 0 {
        sched::yield_now();
    }
}

/// The first experiment: contiguous stacks.
pub(crate) fn direct() {
    let Some((lower, upper)) = DirectStack::pair() else { return };
    let (bottom, top) = (upper.bottom(), upper.top());
    // SAFETY: both stacks are new.
    unsafe { ThreadInfo::place(lower.bottom(), 1) };
    // SAFETY: as above.
    unsafe { ThreadInfo::place(bottom, 2) };
    let neighbour_id = task::next_id();
    let _sleeper = task::spawn_on(neighbour_id, "neighbour", TaskStack::Direct(lower), neighbour, 0);
    sched::sleep_until(sched::ticks() + 4);
    // The neighbour sleeps now, its frames at the top of its stack: right under the victim's bottom.
    let hit = bottom.wrapping_sub(64);
    let flags = bottom.wrapping_add(8);
    STOP_AT.store(bottom.wrapping_sub(160).get(), Ordering::Relaxed);
    // SAFETY: words of the two stacks.
    let before = [hit, flags].map(|addr| unsafe { word(addr) });
    let _victim = task::spawn_on(task::next_id(), "victim", TaskStack::Direct(upper), victim, 0);
    wait_for_victim();
    // SAFETY: as above; the direct map shows them even if the stack was given back.
    let after = [hit, flags].map(|addr| unsafe { word(addr) });
    fact!("control.victim.range", "{:#x} {:#x}", bottom, top);
    fact!("control.neighbour.owner", "{neighbour_id}");
    fact!("control.neighbour.word", "{:#x} {:#x} {:#x}", hit, before[0], after[0]);
    fact!("control.thread_info.word", "{:#x} {:#x} {:#x}", flags, before[1], after[1]);
    fact!("control.faults", "{}", oops::count());
}

/// The second experiment: mapped stacks with thread_info at the bottom.
pub(crate) fn mapped() {
    let id = task::next_id();
    let Ok(stack) = stacks::TASKS.alloc_waiting(id) else { return };
    let bottom = stack.bottom();
    // SAFETY: the stack is new.
    unsafe { ThreadInfo::place(bottom, id) };
    // The last frame ends inside thread_info: the recursion stops less than a frame above its start.
    STOP_AT.store(bottom.wrapping_add(112).get(), Ordering::Relaxed);
    let words = || (0..size_of::<ThreadInfo>() / 8).map(move |index| bottom.wrapping_add(index * 8));
    // SAFETY: words of the stack.
    let before: alloc::vec::Vec<u64> = words().map(|addr| unsafe { word(addr) }).collect();
    // A pin keeps the stack as it is until the words have been looked at.
    let pin = stacks::TASKS.pin(stack.id());
    let _victim = task::spawn_on(id, "victim", TaskStack::Mapped(stack), victim, 0);
    wait_for_victim();
    // SAFETY: words of the stack, which the pin keeps.
    let after = words().map(|addr| (addr, unsafe { word(addr) }));
    let changed = after.zip(before).find(|((_, after), before)| after != before);
    drop(pin);
    if let Some(((addr, after), before)) = changed {
        fact!("control.mapped_thread_info.word", "{:#x} {:#x} {:#x}", addr, before, after);
    }
    fact!("control.faults", "{}", oops::count());
}
