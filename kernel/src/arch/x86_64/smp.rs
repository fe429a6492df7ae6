//! Starting the other CPUs: INIT, STARTUP, and a mailbox in which each finds what it needs.
//!
//! One CPU is started at a time, by the boot CPU. The mailbox names the one that is waited for; a CPU that comes takes
//! its own name out in one atomic step, and only then reads the rest. One that comes after it was given up finds
//! another name, and parks itself: it never stands on a stack that was given to somebody else.
//!
//! Every wait is bounded, so a CPU that does not come costs a second and is reported.

use core::arch::global_asm;
use core::fmt;
use core::mem::offset_of;
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use vmstack::{Cpu, PhysAddr, VirtAddr};

use super::apic::{self, ApicError, Message, Target};
use super::cpu;
use super::features::Features;
use super::gdt::{self, CpuStacks};
use super::layout::{PAGE_SIZE, phys_to_virt};
use super::percpu;
use super::pit;

/// In `awaited`: nobody. No xAPIC has this id.
const NOBODY: u32 = u32::MAX;
/// In `awaited`: the CPU has come.
const CLAIMED: u32 = u32::MAX - 1;
/// The no-execute bit of EFER.
const EFER_NXE: u32 = 1 << 11;
/// After INIT, in microseconds: Intel SDM volume 3, 9.4.4.1.
const AFTER_INIT: u64 = 10_000;
/// After STARTUP, in microseconds, before it is repeated.
const AFTER_STARTUP: u64 = 200;
/// How long a CPU is waited for, in steps.
const STEPS: u32 = 10_000;
/// The length of a step, in microseconds.
const STEP: u64 = 100;

/// What a CPU that comes needs before it can run Rust.
#[repr(C)]
struct Mailbox {
    awaited: AtomicU32,
    efer: AtomicU32,
    root: AtomicU64,
    stack: AtomicU64,
    cpu: AtomicU64,
    set_up: AtomicBool,
}

static MAILBOX: Mailbox = Mailbox {
    awaited: AtomicU32::new(NOBODY),
    efer: AtomicU32::new(0),
    root: AtomicU64::new(0),
    stack: AtomicU64::new(0),
    cpu: AtomicU64::new(0),
    set_up: AtomicBool::new(false),
};

global_asm!(
    include_str!("trampoline.S"),
    mailbox = sym MAILBOX,
    awaited = const offset_of!(Mailbox, awaited),
    efer = const offset_of!(Mailbox, efer),
    root = const offset_of!(Mailbox, root),
    stack = const offset_of!(Mailbox, stack),
    cpu = const offset_of!(Mailbox, cpu),
    claimed = const CLAIMED,
    ap_start = sym ap_start,
    options(att_syntax)
);

unsafe extern "C" {
    static trampoline_start: u8;
    static trampoline_end: u8;
}

/// Why a CPU does not run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum SmpError {
    /// The kernel has no block for this CPU.
    TooManyCpus(Cpu),
    /// This is no page below 1 MiB.
    BadTrampoline(PhysAddr),
    /// The message could not be sent.
    Apic(ApicError),
    /// It never came. Its stacks are the caller's again.
    Absent(Cpu),
    /// It came, and got no further. Its stacks are in use for good.
    Stuck(Cpu),
}

impl fmt::Display for SmpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooManyCpus(cpu) => write!(f, "CPU {cpu} is more than the kernel can use ({})", percpu::MAX_CPUS),
            Self::BadTrampoline(page) => write!(f, "{page:?} is no page below 1 MiB, where a CPU could begin"),
            Self::Apic(error) => write!(f, "a CPU could not be started: {error}"),
            Self::Absent(cpu) => write!(f, "CPU {cpu} did not come"),
            Self::Stuck(cpu) => write!(f, "CPU {cpu} came, but was not set up in time"),
        }
    }
}

/// Starts the CPU with the local APIC id `apic_id` as number `cpu`, on the page tables of the CPU that runs this. When
/// it is set up it calls `ap_main(cpu)` on `stacks.kernel`, interrupts off; this returns at about the same time.
///
/// # Context
///
/// The boot CPU, one call at a time, with `apic::init` done. Waits for up to two seconds.
///
/// # Errors
///
/// `SmpError`; only after `Stuck` are the stacks lost.
///
/// # Safety
///
/// 1. `trampoline` is a page of memory that nobody else uses until this returns. After `Absent` it stays so for good: a
///    CPU that comes late still begins there.
/// 2. `stacks` are the ends of mapped stacks of at least a page, aligned to 16 bytes, that nobody else uses.
/// 3. `cpu` and `apic_id` are in use by no running CPU.
pub(crate) unsafe fn start_cpu(
    cpu: Cpu,
    apic_id: u32,
    stacks: &CpuStacks,
    trampoline: PhysAddr,
) -> Result<(), SmpError> {
    let page = startup_page(trampoline)?;
    let block = percpu::prepare(cpu, apic_id).ok_or(SmpError::TooManyCpus(cpu))?;
    // SAFETY: (2), and (3): the CPU does not run yet.
    unsafe { gdt::set_stacks(block, stacks) };
    // SAFETY: (1).
    unsafe { copy_trampoline(trampoline) };
    fill_mailbox(cpu, apic_id, stacks.kernel);
    let woken = wake(apic_id, page);
    // Whether the mailbox could be taken back is what tells a CPU that never came from one that got stuck.
    let came = MAILBOX.awaited.swap(NOBODY, Ordering::AcqRel) == CLAIMED;
    woken.map_err(SmpError::Apic)?;
    match (came, came && wait_for(|| MAILBOX.set_up.load(Ordering::Acquire))) {
        (true, true) => Ok(()),
        (true, false) => Err(SmpError::Stuck(cpu)),
        (false, _) => Err(SmpError::Absent(cpu)),
    }
}

/// What a STARTUP message calls the page at `trampoline`.
fn startup_page(trampoline: PhysAddr) -> Result<u8, SmpError> {
    let page = PAGE_SIZE as u64;
    let aligned = trampoline.get().is_multiple_of(page);
    u8::try_from(trampoline.get() / page).ok().filter(|_| aligned).ok_or(SmpError::BadTrampoline(trampoline))
}

/// Copies the trampoline to the page at `to`.
///
/// # Safety
///
/// The page is memory that nobody else uses.
unsafe fn copy_trampoline(to: PhysAddr) {
    let start = &raw const trampoline_start;
    let bytes = VirtAddr::of(&raw const trampoline_end).distance(VirtAddr::of(start));
    // SAFETY: the source is in .rodata, between two labels, shorter than a page; the target is the caller's promise.
    unsafe { ptr::copy_nonoverlapping(start, phys_to_virt(to).as_mut_ptr(), bytes) };
}

/// Puts into the mailbox what the next CPU needs, and at last its name.
fn fill_mailbox(cpu: Cpu, apic_id: u32, stack: VirtAddr) {
    let nx = Features::of_boot_cpu().has(Features::NX);
    MAILBOX.efer.store(if nx { EFER_NXE } else { 0 }, Ordering::Relaxed);
    MAILBOX.root.store(cpu::read_cr3().get(), Ordering::Relaxed);
    MAILBOX.stack.store(stack.get() as u64, Ordering::Relaxed);
    MAILBOX.cpu.store(cpu.index() as u64, Ordering::Relaxed);
    MAILBOX.set_up.store(false, Ordering::Relaxed);
    MAILBOX.awaited.store(apic_id, Ordering::Release);
}

/// Sends what wakes a CPU, and waits until it has come or is given up.
fn wake(apic_id: u32, page: u8) -> Result<(), ApicError> {
    let target = Target::One(apic_id);
    let came = || MAILBOX.awaited.load(Ordering::Acquire) == CLAIMED;
    apic::send(target, Message::Init)?;
    pit::wait(AFTER_INIT);
    apic::send(target, Message::Startup(page))?;
    pit::wait(AFTER_STARTUP);
    if !came() {
        apic::send(target, Message::Startup(page))?;
    }
    wait_for(came);
    Ok(())
}

/// Waits for `condition`, for a second at most; whether it came true.
fn wait_for(condition: impl Fn() -> bool) -> bool {
    (0..STEPS).any(|_| condition() || !pit::wait(STEP)) && condition()
}

/// Where a CPU enters Rust: sets itself up as the boot CPU did, says so, and goes to work.
extern "C" fn ap_start(cpu: usize) -> ! {
    let number = Cpu::new(u32::try_from(cpu).unwrap_or(NOBODY));
    let Some(block) = percpu::of(number) else { cpu::halt_forever() };
    // SAFETY: `start_cpu` prepared the block and its stacks for this CPU, after the boot CPU had filled the interrupt
    // table.
    unsafe { super::load_tables(block) };
    if apic::init().is_err() {
        // Not announced: the boot CPU reports this one as stuck.
        cpu::halt_forever();
    }
    MAILBOX.set_up.store(true, Ordering::Release);
    crate::ap_main(cpu)
}
