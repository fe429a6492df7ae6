//! The per-CPU block: the few words that the entries need before there is anything else, reached through GS.
//!
//! In the kernel GS's base is the address of this CPU's block; in user mode the block's address waits in
//! `KERNEL_GS_BASE` and the entries exchange the two. The first word of a block is its own address, so that one
//! instruction turns GS into a reference.
//!
//! Every field is an atomic word used with relaxed ordering: a block is written by its own CPU (and before that CPU
//! runs, by the one that starts it), other CPUs may look, and a look may be late. So each access is sound wherever it
//! comes from; what migration does to its *meaning* is said at each function.
//!
//! Callable in any context once `install` has run on the CPU. The entries on IST stacks do not rely on that: see
//! `ist.S`.

use core::arch::asm;
use core::mem::{offset_of, size_of};
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicUsize, Ordering::Relaxed};

use vmstack::{Cpu, VirtAddr};

use super::gdt::Ist;

/// How many CPUs the kernel can use.
pub(crate) const MAX_CPUS: usize = 64;

/// One CPU's block.
///
/// The order of the fields is the entries' business: the offsets below are handed to the assembler.
#[derive(Debug)]
#[repr(C, align(128))]
pub(crate) struct PerCpu {
    /// The address of this block; null until `install`.
    this: AtomicPtr<PerCpu>,
    cpu: AtomicU32,
    apic_id: AtomicU32,
    /// A word of the scheduler's that stands for the current task; this layer never looks into it.
    current: AtomicUsize,
    /// Where SYSCALL puts the stack pointer. The TSS's rsp0 says the same to interrupts.
    kernel_stack_top: AtomicUsize,
    /// Where the SYSCALL entry keeps the user's stack pointer for three instructions.
    user_rsp: AtomicUsize,
    irq_stack_top: AtomicUsize,
    /// The link below the frame of the interrupt that went from a task's stack to the interrupt stack.
    irq_link: AtomicUsize,
    /// Interrupt handlers that have begun and not ended. Zero: on a task's stack, or on an IST stack above one.
    irq_depth: AtomicU32,
    /// How many reasons there are not to switch tasks.
    preempt_count: AtomicU32,
    /// Sections in which nobody is killed that have begun and not ended.
    vital: AtomicU32,
    /// What is to be done before the next return to user mode: `task::flags`. Other CPUs set bits of it.
    flags: AtomicU32,
    /// Where the header of each IST stack lies, so that Rust can read its flags.
    ist_headers: [AtomicUsize; Ist::COUNT],
    /// CR2 and the preemption count of what an NMI interrupted.
    nmi_cr2: AtomicUsize,
    nmi_preempt_count: AtomicU32,
}

/// Offset of the word that SYSCALL loads the stack pointer from, in bytes.
pub(crate) const KERNEL_STACK_TOP: usize = offset_of!(PerCpu, kernel_stack_top);
/// Offset of the SYSCALL entry's scratch word, in bytes.
pub(crate) const USER_RSP: usize = offset_of!(PerCpu, user_rsp);
/// Offset of the interrupt stack's top, in bytes.
pub(crate) const IRQ_STACK_TOP: usize = offset_of!(PerCpu, irq_stack_top);
/// Offset of the link to the interrupted stack, in bytes.
pub(crate) const IRQ_LINK: usize = offset_of!(PerCpu, irq_link);
/// Offset of the interrupt nesting depth, in bytes.
pub(crate) const IRQ_DEPTH: usize = offset_of!(PerCpu, irq_depth);
/// Offset of the address of the #DF stack's header, in bytes.
pub(crate) const DF_HEADER: usize = offset_of!(PerCpu, ist_headers) + Ist::DoubleFault.index() * size_of::<usize>();
/// Offset of the flags that are tested before a return to user mode, in bytes.
pub(crate) const FLAGS: usize = offset_of!(PerCpu, flags);
/// The bit of the flags that asks for a switch of tasks: the only one that means something on the way back into the kernel.
pub(crate) const NEED_RESCHED: u32 = 1;
const PREEMPT_COUNT: usize = offset_of!(PerCpu, preempt_count);
pub(super) const VITAL: usize = offset_of!(PerCpu, vital);
/// Offset of the word that stands for the current task, in bytes.
pub(crate) const CURRENT: usize = offset_of!(PerCpu, current);
const CPU: usize = offset_of!(PerCpu, cpu);

const _: () = assert!(offset_of!(PerCpu, this) == 0, "`mov %gs:0` must give the block's address");

static BLOCKS: [PerCpu; MAX_CPUS] = [const { PerCpu::new() }; MAX_CPUS];

impl PerCpu {
    const fn new() -> Self {
        Self {
            this: AtomicPtr::new(ptr::null_mut()),
            cpu: AtomicU32::new(0),
            apic_id: AtomicU32::new(0),
            current: AtomicUsize::new(0),
            kernel_stack_top: AtomicUsize::new(0),
            user_rsp: AtomicUsize::new(0),
            irq_stack_top: AtomicUsize::new(0),
            irq_link: AtomicUsize::new(0),
            irq_depth: AtomicU32::new(0),
            preempt_count: AtomicU32::new(0),
            vital: AtomicU32::new(0),
            flags: AtomicU32::new(0),
            ist_headers: [const { AtomicUsize::new(0) }; Ist::COUNT],
            nmi_cr2: AtomicUsize::new(0),
            nmi_preempt_count: AtomicU32::new(0),
        }
    }

    /// The number of this block's CPU.
    pub(crate) fn cpu(&self) -> Cpu {
        Cpu::new(self.cpu.load(Relaxed))
    }

    /// The local APIC id of this block's CPU, as MADT and `apic::send_ipi` have it.
    pub(crate) fn apic_id(&self) -> u32 {
        self.apic_id.load(Relaxed)
    }

    /// Says where SYSCALL enters. `gdt::set_kernel_stack` says it to interrupts too, and is what to call.
    pub(super) fn set_kernel_stack_top(&self, top: VirtAddr) {
        self.kernel_stack_top.store(top.get(), Relaxed);
    }

    /// The end of the stack that interrupt handlers run on.
    pub(crate) fn irq_stack_top(&self) -> VirtAddr {
        VirtAddr::new(self.irq_stack_top.load(Relaxed))
    }

    /// Puts the interrupt stack's end at `top`, aligned to 16 bytes. Takes effect at the next interrupt that finds
    /// depth 0.
    pub(crate) fn set_irq_stack_top(&self, top: VirtAddr) {
        self.irq_stack_top.store(top.get(), Relaxed);
    }

    /// How many interrupt handlers have begun on this CPU and not ended.
    pub(crate) fn irq_depth(&self) -> u32 {
        self.irq_depth.load(Relaxed)
    }

    /// The link under the frame of what the interrupt stack's first handler interrupted: a walk of frame pointers goes on with it.
    pub(crate) fn interrupted_link(&self) -> VirtAddr {
        VirtAddr::new(self.irq_link.load(Relaxed))
    }

    /// How many reasons there are not to switch tasks on this CPU.
    pub(crate) fn preempt_count(&self) -> u32 {
        self.preempt_count.load(Relaxed)
    }

    /// Sets the count of reasons: for the scheduler, which gives each task its own, and for a task that was killed.
    pub(crate) fn set_preempt_count(&self, count: u32) {
        self.preempt_count.store(count, Relaxed);
    }

    /// The word that the entries test before they return to user mode: not zero, and they call `hooks::before_return`.
    pub(crate) fn flags(&self) -> &AtomicU32 {
        &self.flags
    }

    /// Asks for a switch of tasks, or takes the request back. Any CPU may ask; an IPI makes it heard.
    pub(crate) fn set_need_resched(&self, wanted: bool) {
        if wanted {
            self.flags.fetch_or(NEED_RESCHED, Relaxed);
        } else {
            self.flags.fetch_and(!NEED_RESCHED, Relaxed);
        }
    }

    /// Sets the word that stands for this CPU's current task.
    pub(crate) fn set_current(&self, task: usize) {
        self.current.store(task, Relaxed);
    }

    /// Keeps what an NMI's handler may change and never put back.
    pub(super) fn keep_for_nmi(&self, cr2: VirtAddr) {
        self.nmi_cr2.store(cr2.get(), Relaxed);
        self.nmi_preempt_count.store(self.preempt_count(), Relaxed);
    }

    /// Puts back the preemption count that was kept, and gives the CR2.
    pub(super) fn put_back_after_nmi(&self) -> VirtAddr {
        self.set_preempt_count(self.nmi_preempt_count.load(Relaxed));
        VirtAddr::new(self.nmi_cr2.load(Relaxed))
    }

    /// Where the header of IST stack `ist` lies; address 0 if the CPU has none yet.
    pub(super) fn ist_header(&self, ist: Ist) -> VirtAddr {
        VirtAddr::new(self.ist_headers[ist.index()].load(Relaxed))
    }

    /// Notes where the header of IST stack `ist` lies.
    pub(super) fn set_ist_header(&self, ist: Ist, header: VirtAddr) {
        self.ist_headers[ist.index()].store(header.get(), Relaxed);
    }
}

/// The block of `cpu`, or `None` if there is no such CPU.
pub(crate) fn of(cpu: Cpu) -> Option<&'static PerCpu> {
    BLOCKS.get(cpu.index())
}

/// Fills in the block of `cpu`, before that CPU uses it.
pub(super) fn prepare(cpu: Cpu, apic_id: u32) -> Option<&'static PerCpu> {
    let block = of(cpu)?;
    block.this.store(ptr::from_ref(block).cast_mut(), Relaxed);
    block.cpu.store(u32::try_from(cpu.index()).unwrap_or(0), Relaxed);
    block.apic_id.store(apic_id, Relaxed);
    Some(block)
}

/// Points GS of the CPU that runs this at `block`, for kernel and user mode alike.
///
/// # Safety
///
/// `block` was prepared for this CPU, and nothing here uses GS for anything else.
pub(super) unsafe fn install(block: &'static PerCpu) {
    let base = VirtAddr::of(ptr::from_ref(block));
    // SAFETY: GS's base becomes the block of this CPU (the caller's promise); it is canonical, being in the image.
    unsafe { super::msr::GS_BASE.write(base.get() as u64) };
    // SAFETY: `swapgs` towards user mode will exchange the base for the user's; the first user base is set by then.
    unsafe { super::msr::KERNEL_GS_BASE.write(0) };
}

/// The block of the CPU that runs this.
///
/// Once interrupts are on and preemption too, the caller may be on another CPU by the next line, and still hold this
/// one's block: sound, but perhaps not what was meant. The functions below are single instructions and do not have that
/// gap.
pub(crate) fn this_cpu() -> &'static PerCpu {
    let block: *const PerCpu;
    // SAFETY: GS's base is a `PerCpu` whose first word is readable (`install`, and `ist.S` for its entries).
    unsafe { asm!("mov {}, gs:[0]", out(reg) block, options(nostack, preserves_flags, readonly)) };
    // SAFETY: the word is the address of an element of `BLOCKS`, which is static and made of atomics.
    unsafe { &*block }
}

/// The number of the CPU that runs this: of the moment, unless migration is off.
pub(crate) fn cpu_number() -> Cpu {
    let number: usize;
    // SAFETY: a load from this CPU's block, at the offset of `cpu`. The upper half of the register becomes zero.
    unsafe { asm!("mov {0:e}, gs:[{1}]", out(reg) number, const CPU, options(nostack, preserves_flags, readonly)) };
    Cpu::from_index(number)
}

/// The word that stands for the current task. It is the caller's own whichever CPU the caller is on.
pub(crate) fn current_task() -> usize {
    let task: usize;
    // SAFETY: a load from this CPU's block, at the offset of `current`.
    unsafe { asm!("mov {0}, gs:[{1}]", out(reg) task, const CURRENT, options(nostack, preserves_flags, readonly)) };
    task
}

/// Adds a reason not to switch tasks on this CPU. One instruction: no migration can come between.
pub(crate) fn preempt_disable() {
    // SAFETY: increments a word of this CPU's block; not `nomem`, so that no access moves out of the section it opens.
    unsafe { asm!("inc dword ptr gs:[{0}]", const PREEMPT_COUNT, options(nostack)) };
}

/// How many sections this CPU is in whose end the machine depends on: while there are any, nobody is killed on it.
///
/// Not zero: interrupts are off, and it is the caller's own. Zero: as much can be said of the caller.
pub(crate) fn vital() -> u32 {
    let depth: u32;
    // SAFETY: a load from this CPU's block, at the offset of `vital`.
    unsafe { asm!("mov {0:e}, gs:[{1}]", out(reg) depth, const VITAL, options(nostack, preserves_flags, readonly)) };
    depth
}

/// Begins a section in which nobody is killed. Interrupts are off.
pub(crate) fn vital_enter() {
    // SAFETY: increments a word of this CPU's block; not `nomem`, so that no access moves out of the section it opens.
    unsafe { asm!("inc dword ptr gs:[{0}]", const VITAL, options(nostack)) };
}

/// Ends a section that [`vital_enter`] began.
pub(crate) fn vital_leave() {
    // SAFETY: decrements a word of this CPU's block; not `nomem`, so that no access moves out of the section it closes.
    unsafe { asm!("dec dword ptr gs:[{0}]", const VITAL, options(nostack)) };
}

/// Takes a reason back. Whether a switch is due is for the caller to ask: `this_cpu().need_resched()`.
pub(crate) fn preempt_enable() {
    // SAFETY: decrements a word of this CPU's block; not `nomem`, so that no access moves out of the section it closes.
    unsafe { asm!("dec dword ptr gs:[{0}]", const PREEMPT_COUNT, options(nostack)) };
}
