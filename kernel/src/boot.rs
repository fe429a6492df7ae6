//! Bringing the machine up: memory, tables, stacks, the other CPUs, and then the first task.
//!
//! ```text
//!   kernel_main   on the image's boot stack, boot tables: what the loader left, frames, final tables, heap, areas
//!   begin         on CPU 0's idle stack, guarded like all others: the other CPUs, the timer, the first task
//!   ap_main       every other CPU, on its own idle stack
//! ```
//!
//! From `begin` on every CPU has guarded stacks for everything: idle, interrupts, #DF, NMI, #MC, #DB, all from the library.

use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use core::{ptr, slice};

use arrayvec::ArrayVec;
use vmstack::{Cpu, ExternalStack, PhysAddr, StackKind, VirtAddr};

use crate::arch::acpi::Madt;
use crate::arch::gdt::{CpuStacks, Ist};
use crate::arch::layout::{self, Image};
use crate::arch::percpu::{self, MAX_CPUS};
use crate::arch::start_info::StartInfo;
use crate::arch::{self, apic, clock, cpu, gdt, smp, trap};
use crate::fs::archive::Archive;
use crate::mm::frames::{self, FrameRange};
use crate::mm::{heap, tables};
use crate::options::Options;
use crate::stacks::{self, EMERGENCY, IDLE, INTERRUPTS, NMIS, Stack, TASKS};
use crate::sync::{AnyLock, SpinLock, rcu};
use crate::task::sched::TICKS_PER_SECOND;
use crate::task::{TaskStack, names, reference, sched};
use crate::{fs, interrupts, oops, pressure, println, run, symbols, vmalloc};

/// Stretches of memory that the kernel keeps track of while it starts.
type Ranges = ArrayVec<FrameRange, 64>;

/// What `begin` needs of what `kernel_main` found.
#[derive(Debug)]
struct Found {
    options: Options,
    apic_ids: ArrayVec<u32, MAX_CPUS>,
    trampoline: Option<PhysAddr>,
}

static ARCHIVE: (AtomicPtr<u8>, AtomicUsize) = (AtomicPtr::new(ptr::null_mut()), AtomicUsize::new(0));
static FOUND: SpinLock<Option<Found>> = SpinLock::new("boot-found", None);
static CPUS: AtomicUsize = AtomicUsize::new(1);

/// The lock of what `begin` needs.
pub(crate) fn lock() -> &'static dyn AnyLock {
    &FOUND
}

/// The initial file system; empty if the loader brought none.
pub(crate) fn archive() -> Archive {
    let (start, bytes) = (ARCHIVE.0.load(Ordering::Relaxed), ARCHIVE.1.load(Ordering::Acquire));
    if bytes == 0 {
        return Archive::new(&[]);
    }
    // SAFETY: the loader put it there, the frames are reserved, and nobody writes to them.
    Archive::new(unsafe { slice::from_raw_parts(start, bytes) })
}

/// How many CPUs are up.
pub(crate) fn cpus() -> usize {
    CPUS.load(Ordering::Relaxed)
}

fn read(addr: PhysAddr, bytes: usize) -> Option<&'static [u8]> {
    // SAFETY: what the loader and the firmware left is not written to: `reserved` keeps it from the allocator.
    unsafe { layout::boot_bytes(addr, bytes) }
}

/// Stops, for the kernel cannot start: `what` says why.
fn fail(what: core::fmt::Arguments<'_>) -> ! {
    println!("Kernel panic: the kernel cannot start: {what}");
    cpu::exit(17)
}

/// The first Rust code, on the boot CPU.
pub(crate) fn start(start_info: PhysAddr) -> ! {
    // SAFETY: called once, first of all.
    let features = unsafe { arch::init_boot_cpu() }.unwrap_or_else(|error| fail(format_args!("{error}")));
    let info = StartInfo::read(start_info, read).unwrap_or_else(|error| fail(format_args!("{error}")));
    let options = Options::parse(info.command_line())
        .unwrap_or_else(|word| fail(format_args!("the command line has an unknown word, {}", word.0)));
    if options.mode == crate::options::Mode::Program {
        crate::console::leave_to_program();
    }
    let madt = Madt::find(info.rsdp(), read).unwrap_or_else(|error| fail(format_args!("{error}")));
    println!("vmstack: {features}");
    // First, so that whatever goes wrong from here on is reported with names.
    find_archive(&info);
    // SAFETY: called once, on the boot tables.
    unsafe { set_up_memory(&info) };
    // SAFETY: called once, on the final tables.
    unsafe { interrupts::init_lines(&madt) };
    let apic_ids: ArrayVec<u32, MAX_CPUS> = madt.cpus().iter().copied().take(MAX_CPUS).collect();
    // SAFETY: called once, on the final tables.
    unsafe { stacks::init(apic_ids.len().max(1)) }.unwrap_or_else(|error| fail(format_args!("{error}")));
    // SAFETY: called once, on the final tables.
    unsafe { vmalloc::init(apic_ids.len().max(1)) }.unwrap_or_else(|error| fail(format_args!("{error}")));
    register_boot_stacks();
    *FOUND.lock_or_reset(|_| None) = Some(Found { options, apic_ids, trampoline: info.trampoline_page() });
    stand_on_guarded_stacks()
}

/// Frames, final tables and heap.
///
/// # Safety
///
/// Called once, on the boot tables.
unsafe fn set_up_memory(info: &StartInfo) {
    let usable = info.regions().filter(|region| region.is_usable());
    let memory: Ranges =
        usable.map(|region| FrameRange::inside(region.range.start, region.range.bytes)).take(32).collect();
    let (image, bytes) = Image::linked().physical();
    let mut reserved: Ranges =
        info.in_use().map(|range| FrameRange::around(range.start, range.bytes)).take(32).collect();
    reserved.push(FrameRange::around(image, bytes));
    // The first MiB is for starting CPUs and for what firmware left there.
    reserved.push(FrameRange::around(PhysAddr::new(0), 1 << 20));
    // SAFETY: RAM by the loader's word, less what is in use.
    unsafe { frames::init(&memory, &reserved) };
    // SAFETY: the boot CPU, on the boot tables, with frames.
    unsafe { tables::init(&memory) }
        .unwrap_or_else(|error| fail(format_args!("too little memory for page tables: {error}")));
    // SAFETY: the ranges are the same, and the final tables are in use.
    unsafe { frames::add_high(&memory, &reserved) };
    let heap = heap::init();
    println!("vmstack: {} MiB free, heap {} MiB", frames::free() >> 8, heap >> 20);
    if heap == 0 {
        fail(format_args!("there is no memory for a heap"));
    }
    names::init();
    if !reference::init() {
        fail(format_args!("this CPU's vector registers do not fit into a frame with a task struct"));
    }
    if fs::init().is_err() {
        fail(format_args!("there is no memory for the archive's folders"));
    }
}

fn find_archive(info: &StartInfo) {
    let module = info.modules().next().and_then(|range| read(range.start, range.bytes as usize));
    if let Some(bytes) = module {
        ARCHIVE.0.store(bytes.as_ptr().cast_mut(), Ordering::Relaxed);
        ARCHIVE.1.store(bytes.len(), Ordering::Release);
    }
    if let Some(entry) = archive().find(b"boot/symbols") {
        symbols::init(entry.data);
    }
}

/// Makes the stacks of the image known to reports, and their guards' frames free.
fn register_boot_stacks() {
    for (_, stack) in &arch::stacks::ALL {
        let (bottom, top) = (stack.range().start(), stack.range().end());
        let external = ExternalStack { bottom, top, guard_bytes: layout::PAGE_SIZE, kind: StackKind::Boot, owner: 0 };
        TASKS.register(&external).unwrap_or_else(|error| fail(format_args!("{error}")));
        // Guards take no frame: theirs are unmapped by now, and of use elsewhere.
        stack.guards().into_iter().for_each(|guard| frames::give(layout::image_to_phys(guard), 0));
    }
}

/// A stack of `area` that is used for ever.
fn keep(area: &'static vmstack::StackArea<stacks::Kernel>, cpu: usize) -> VirtAddr {
    let stack =
        area.alloc(names::of_cpu(cpu)).unwrap_or_else(|error| fail(format_args!("CPU {cpu} gets no stack: {error}")));
    let top = stack.top();
    // It belongs to the CPU, which does not end.
    let _ = stack.into_raw();
    top
}

/// The interrupt and emergency stacks of CPU `cpu`, and `kernel` as its first stack.
fn cpu_stacks(cpu: usize, kernel: VirtAddr) -> CpuStacks {
    let ist = Ist::ALL.map(|ist| keep(if ist == Ist::Nmi { &NMIS } else { &EMERGENCY }, cpu));
    CpuStacks { kernel, interrupt: keep(&INTERRUPTS, cpu), ist }
}

/// CPU 0 leaves the stacks of the image.
fn stand_on_guarded_stacks() -> ! {
    let idle = IDLE.alloc(names::of_cpu(0)).unwrap_or_else(|error| fail(format_args!("no idle stack: {error}")));
    let top = idle.top();
    let ends = cpu_stacks(0, top);
    let block = percpu::this_cpu();
    for (ist, end) in Ist::ALL.into_iter().zip(ends.ist) {
        // SAFETY: the stacks are new and this CPU's; it stands on the boot stack, with interrupts off.
        unsafe { gdt::set_ist_stack(block, ist, end) };
    }
    block.set_irq_stack_top(ends.interrupt);
    // SAFETY: interrupts are off, and nobody comes from user mode yet.
    unsafe { gdt::set_kernel_stack(top) };
    let raw = idle.into_raw().get() as usize;
    // SAFETY: the stack is new, and nothing of the boot stack is needed any more.
    unsafe { trap::run_on_stack(top, begin, raw) }
}

/// CPU 0, on its idle stack.
extern "C" fn begin(idle: usize) -> ! {
    become_idle(idle);
    apic::init().unwrap_or_else(|error| fail(format_args!("{error}")));
    let Some(found) = FOUND.lock_or_reset(|_| None).take() else { fail(format_args!("the boot was entered twice")) };
    start_clock();
    if !found.options.mode.counts() {
        start_others(&found);
        start_timer();
        oops::start_reporter();
        pressure::start();
    }
    println!("vmstack: {} CPUs, mode {}", cpus(), found.options.mode.name());
    rcu::start();
    run::spawn(found.options);
    sched::idle()
}

fn become_idle(raw: usize) {
    let raw = vmstack::RawStack::from_word(raw as u64);
    // SAFETY: the word came from `into_raw` of a stack of this area, and is used once.
    let stack: Stack = unsafe { Stack::from_raw(&IDLE, raw) };
    sched::start_idle(TaskStack::Mapped(stack));
    rcu::come();
    stacks::shootdown::cpu_is_up();
}

/// The clock also runs where there is no timer: in boots that count instructions.
fn start_clock() {
    match clock::init() {
        Some(hertz) => println!("vmstack: the clock counts at {hertz} Hz"),
        None => println!("vmstack: the interval timer does not count: the clock's rate is a guess"),
    }
}

fn start_timer() {
    let hertz = apic::calibrate_timer().unwrap_or_else(|error| fail(format_args!("{error}")));
    println!("vmstack: the timer counts at {hertz} Hz");
    apic::start_timer(TICKS_PER_SECOND as u32).unwrap_or_else(|error| fail(format_args!("{error}")));
}

/// Starts the other CPUs, one after the other. One that does not come is said and left.
fn start_others(found: &Found) {
    let Some(trampoline) = found.trampoline else { return };
    let me = apic::id();
    for &apic_id in found.apic_ids.iter().filter(|&&id| id != me) {
        let number = cpus();
        let idle =
            IDLE.alloc(names::of_cpu(number)).unwrap_or_else(|error| fail(format_args!("no idle stack: {error}")));
        let ends = cpu_stacks(number, idle.top());
        AP_STACK.store(idle.into_raw().get() as usize, Ordering::Release);
        // SAFETY: (1) the first MiB is reserved; (2) the stacks are new; (3) the number is the next free one.
        match unsafe { smp::start_cpu(Cpu::new(number as u32), apic_id, &ends, trampoline) } {
            Ok(()) => wait_for_cpu(number),
            Err(error) => println!("vmstack: {error}"),
        }
    }
}

/// The idle stack of the CPU that is being started, as a raw word.
static AP_STACK: AtomicUsize = AtomicUsize::new(0);

fn wait_for_cpu(number: usize) {
    while CPUS.load(Ordering::Acquire) <= number {
        cpu::relax();
    }
}

/// Every other CPU, on its idle stack, set up as the boot CPU is.
pub(crate) fn start_ap() -> ! {
    // SAFETY: it stands on a stack of an area, which both tables map.
    unsafe { tables::load() };
    become_idle(AP_STACK.load(Ordering::Acquire));
    apic::start_timer(TICKS_PER_SECOND as u32).unwrap_or_else(|error| fail(format_args!("{error}")));
    CPUS.fetch_add(1, Ordering::AcqRel);
    sched::idle()
}
