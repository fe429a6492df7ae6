//! The segment descriptors and the task state segment of each CPU, and the IST stacks that the latter names.
//!
//! SYSCALL and SYSRET compute selectors, so the order is fixed: kernel code, kernel data, user data, user code.
//!
//! Four exceptions have a stack of their own, whatever was current: #DF, NMI, #MC, #DB. The page fault has not: it runs
//! on the stack that faulted, so that a stack that is really used up turns it into #DF, and a stray access to a guard
//! does not. The hardware starts an IST stack at the same top each time, nested or not. So each ends in a header that
//! says whose it is and whether it is in use, which the entry reads before it pushes anything (`ist.S`):
//!
//! ```text
//! top          given by whoever made the stack; aligned to 16 bytes
//! top -  8     word 3: how often it was entered while in use (NMI: those were dropped)
//! top - 16     word 2: GS's base of what was interrupted
//! top - 24     word 1: bit 0 set while in use
//! top - 32     word 0: the address of the CPU's per-CPU block   <- the TSS points here
//! below        the frame that the hardware pushes, then the handler's own
//! ```
//!
//! The tables are static, one set a CPU: written before the CPU loads them, or by the CPU itself with interrupts off.

use core::cell::UnsafeCell;
use core::mem::{offset_of, size_of};
use core::ptr;

use vmstack::{Cpu, VirtAddr};
use x86_64::PrivilegeLevel;
use x86_64::instructions::{segmentation::Segment, tables};
use x86_64::registers::segmentation::{CS, DS, ES, SS};
use x86_64::structures::gdt::{Descriptor, GlobalDescriptorTable, SegmentSelector};
use x86_64::structures::tss::TaskStateSegment;

use super::percpu::{self, MAX_CPUS, PerCpu};

/// Selector of the kernel's code segment.
pub(crate) const KERNEL_CODE: u16 = 0x08;
/// Selector of the kernel's data segment.
pub(crate) const KERNEL_DATA: u16 = 0x10;
/// Selector of the user's data segment, with its privilege level.
pub(crate) const USER_DATA: u16 = 0x18 | 3;
/// Selector of the user's code segment, with its privilege level.
pub(crate) const USER_CODE: u16 = 0x20 | 3;
const TASK_STATE: u16 = 0x28;

/// Bytes of the header at the top of an IST stack.
pub(super) const IST_HEADER_BYTES: usize = size_of::<IstHeader>();
/// Offset of the flag in the header, in bytes.
pub(super) const IST_BUSY: usize = offset_of!(IstHeader, busy);
/// Offset of the saved GS base, in bytes.
pub(super) const IST_GS_BASE: usize = offset_of!(IstHeader, gs_base);
/// Offset of the count of nested entries, in bytes.
pub(super) const IST_NESTED: usize = offset_of!(IstHeader, nested);

#[repr(C)]
struct IstHeader {
    block: usize,
    busy: u64,
    gs_base: u64,
    nested: u64,
}

const _: () = assert!(offset_of!(IstHeader, block) == 0, "the entries find the block where the TSS points");

/// An exception that has a stack of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ist {
    /// #DF.
    DoubleFault,
    /// NMI.
    Nmi,
    /// #MC.
    MachineCheck,
    /// #DB.
    Debug,
}

impl Ist {
    /// How many there are.
    pub(crate) const COUNT: usize = 4;
    /// All of them, in the order of their numbers.
    pub(crate) const ALL: [Self; Self::COUNT] = [Self::DoubleFault, Self::Nmi, Self::MachineCheck, Self::Debug];

    /// The index in the TSS's table. The number in an interrupt descriptor is one more, where zero means none.
    pub(crate) const fn index(self) -> usize {
        self as usize
    }
}

/// The stacks that a CPU needs before it can take an interrupt: the end of each, aligned to 16 bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CpuStacks {
    /// What the CPU's first task stands on; also rsp0, until `set_kernel_stack`.
    pub(crate) kernel: VirtAddr,
    /// What interrupt handlers run on.
    pub(crate) interrupt: VirtAddr,
    /// The IST stacks, in the order of `Ist::ALL`.
    pub(crate) ist: [VirtAddr; Ist::COUNT],
}

/// A CPU's descriptor table and task state segment.
struct Tables {
    gdt: UnsafeCell<GlobalDescriptorTable<8>>,
    tss: UnsafeCell<TaskStateSegment>,
}

// SAFETY: the two are written before their CPU runs, and afterwards by that CPU alone with interrupts off; no reference
// outlives either.
unsafe impl Sync for Tables {}

static TABLES: [Tables; MAX_CPUS] = [const {
    Tables { gdt: UnsafeCell::new(GlobalDescriptorTable::empty()), tss: UnsafeCell::new(TaskStateSegment::new()) }
}; MAX_CPUS];

/// The descriptors, in the order that SYSCALL and SYSRET demand.
fn descriptors(tss: *const TaskStateSegment) -> GlobalDescriptorTable<8> {
    let mut gdt = GlobalDescriptorTable::empty();
    gdt.append(Descriptor::kernel_code_segment());
    gdt.append(Descriptor::kernel_data_segment());
    gdt.append(Descriptor::user_data_segment());
    gdt.append(Descriptor::user_code_segment());
    // SAFETY: `tss` is an element of `TABLES`, which is static.
    gdt.append(unsafe { Descriptor::tss_segment_unchecked(tss) });
    gdt
}

/// Gives `block`'s CPU its stacks, before that CPU runs or while it is the one that runs this.
///
/// # Safety
///
/// 1. Each address is the end of a mapped, writable stack of at least a page, aligned to 16 bytes, that nothing else
///    uses.
/// 2. The CPU of `block` does not run yet, or runs this with interrupts off and on none of its IST stacks.
pub(super) unsafe fn set_stacks(block: &'static PerCpu, stacks: &CpuStacks) {
    set_rsp0(block.cpu(), stacks.kernel);
    block.set_kernel_stack_top(stacks.kernel);
    block.set_irq_stack_top(stacks.interrupt);
    for ist in Ist::ALL {
        // SAFETY: the caller's two promises, for this stack.
        unsafe { set_ist_stack(block, ist, stacks.ist[ist.index()]) };
    }
}

/// Replaces the IST stack `ist` of `block`'s CPU by the one that ends at `top`.
///
/// # Safety
///
/// As for all of a CPU's stacks: (1) `top` is the end of a mapped, writable stack of at least a page, aligned to 16
/// bytes, that nothing else uses; (2) the CPU of `block` does not run yet, or runs this with interrupts off, standing
/// on no IST stack. An NMI that arrives in between finds the old stack or the new one, both whole.
pub(crate) unsafe fn set_ist_stack(block: &'static PerCpu, ist: Ist, top: VirtAddr) {
    let header = top.wrapping_sub(IST_HEADER_BYTES);
    let fresh = IstHeader { block: VirtAddr::of(ptr::from_ref(block)).get(), busy: 0, gs_base: 0, nested: 0 };
    // SAFETY: (1) the header lies in the stack's last 32 bytes, aligned to 16, and nothing else uses them.
    unsafe { header.as_mut_ptr::<IstHeader>().write_volatile(fresh) };
    block.set_ist_header(ist, header);
    let Some(tables) = TABLES.get(block.cpu().index()) else { return };
    let tss = tables.tss.get().cast::<u8>();
    let offset = offset_of!(TaskStateSegment, interrupt_stack_table) + ist.index() * size_of::<u64>();
    // SAFETY: the offset is that of an element of a table within the TSS.
    let slot = unsafe { tss.add(offset) };
    // SAFETY: (2) nobody else writes this TSS; it is packed to 4 bytes, hence unaligned.
    unsafe { slot.cast::<usize>().write_unaligned(header.get()) };
}

/// Sets where interrupts and exceptions from user mode enter on `cpu`.
fn set_rsp0(cpu: Cpu, top: VirtAddr) {
    let Some(tables) = TABLES.get(cpu.index()) else { return };
    let tss = tables.tss.get().cast::<u8>();
    // SAFETY: the offset is that of the first element of a table within the TSS: rsp0.
    let slot = unsafe { tss.add(offset_of!(TaskStateSegment, privilege_stack_table)) };
    // SAFETY: only the CPU itself, or the one that prepares it, comes here (`set_stacks`, `set_kernel_stack`).
    unsafe { slot.cast::<usize>().write_unaligned(top.get()) };
}

/// Sets where this CPU enters the kernel from user mode, by SYSCALL and by interrupts: the end of the current task's
/// stack.
///
/// # Safety
///
/// Interrupts are off. `top` is the end of a mapped stack, aligned to 16 bytes, on which nobody else stands when this
/// CPU next comes from user mode.
pub(crate) unsafe fn set_kernel_stack(top: VirtAddr) {
    let block = percpu::this_cpu();
    set_rsp0(block.cpu(), top);
    block.set_kernel_stack_top(top);
}

/// Makes SYSCALL enter where interrupts do again, on the CPU that runs this: after `provoke::move_next_entry`.
pub(super) fn restore_kernel_stack() {
    let block = percpu::this_cpu();
    let Some(tables) = TABLES.get(block.cpu().index()) else { return };
    let tss = tables.tss.get().cast::<u8>();
    // SAFETY: the offset is that of the first element of a table within the TSS: rsp0.
    let slot = unsafe { tss.add(offset_of!(TaskStateSegment, privilege_stack_table)) };
    // SAFETY: only this CPU writes its TSS while it runs (`set_kernel_stack`).
    let top = unsafe { slot.cast::<usize>().read_unaligned() };
    block.set_kernel_stack_top(VirtAddr::new(top));
}

/// Loads the tables of `cpu` on the CPU that runs this, and the segment registers from them.
///
/// GS's base is lost with the selector: the per-CPU block is installed after this.
///
/// # Safety
///
/// This CPU is `cpu`; its stacks are set; interrupts are off.
pub(super) unsafe fn load(cpu: Cpu) {
    let Some(tables) = TABLES.get(cpu.index()) else { return };
    // SAFETY: this CPU is the only user of its own tables, and has not loaded them yet (the caller's promise).
    unsafe { tables.gdt.get().write(descriptors(tables.tss.get())) };
    // SAFETY: written just now, static, and not written again.
    let gdt = unsafe { &*tables.gdt.get() };
    gdt.load();
    let kernel_data = SegmentSelector::new(KERNEL_DATA >> 3, PrivilegeLevel::Ring0);
    // SAFETY: the selector is that of 64-bit kernel code in the table just loaded.
    unsafe { CS::set_reg(SegmentSelector::new(KERNEL_CODE >> 3, PrivilegeLevel::Ring0)) };
    // SAFETY: a data segment; long mode ignores its base and limit.
    unsafe { SS::set_reg(kernel_data) };
    // SAFETY: as above.
    unsafe { DS::set_reg(kernel_data) };
    // SAFETY: as above.
    unsafe { ES::set_reg(kernel_data) };
    // SAFETY: the selector is that of this CPU's TSS, filled in by `set_stacks`, and not loaded before.
    unsafe { tables::load_tss(SegmentSelector::new(TASK_STATE >> 3, PrivilegeLevel::Ring0)) };
}

/// The end of IST stack `ist` of `block`'s CPU; address 0 if the CPU has none yet.
pub(crate) fn ist_top(block: &PerCpu, ist: Ist) -> VirtAddr {
    match block.ist_header(ist) {
        header if header == VirtAddr::default() => header,
        header => header.wrapping_add(IST_HEADER_BYTES),
    }
}

/// Whether a handler has begun on IST stack `ist` of `block`'s CPU and not ended.
pub(crate) fn ist_busy(block: &PerCpu, ist: Ist) -> bool {
    read_header(block, ist, IST_BUSY) & 1 != 0
}

/// How often IST stack `ist` of `block`'s CPU was asked for while in use: NMIs that were dropped.
pub(crate) fn ist_nested(block: &PerCpu, ist: Ist) -> u64 {
    read_header(block, ist, IST_NESTED)
}

fn read_header(block: &PerCpu, ist: Ist, offset: usize) -> u64 {
    let header = block.ist_header(ist);
    if header == VirtAddr::default() {
        return 0;
    }
    // SAFETY: the header of a stack that `set_ist_stack` was promised; other CPUs change its words, hence volatile.
    unsafe { header.wrapping_add(offset).as_mut_ptr::<u64>().read_volatile() }
}

/// Takes IST stack `ist` of this CPU for a handler that the hardware did not start there: where the stack ends for it, or
/// `None` if it is in use or not there yet.
///
/// # Context
///
/// Interrupts off: a handler, so that nothing but an NMI comes between.
pub(crate) fn claim_ist(ist: Ist) -> Option<VirtAddr> {
    let block = percpu::this_cpu();
    let header = block.ist_header(ist);
    if header == VirtAddr::default() || ist_busy(block, ist) {
        return None;
    }
    // SAFETY: the header of a stack that `set_ist_stack` was promised, on this CPU.
    unsafe { header.wrapping_add(IST_BUSY).as_mut_ptr::<u64>().write_volatile(1) };
    Some(header)
}

/// Declares IST stack `ist` of this CPU free: whoever had claimed it is back on a stack of its own.
///
/// # Safety
///
/// The handler's frames on that stack are not used again, and this is not called from that stack.
pub(crate) unsafe fn release_ist(ist: Ist) {
    let header = percpu::this_cpu().ist_header(ist);
    if header == VirtAddr::default() {
        return;
    }
    // SAFETY: the header of a stack that `set_ist_stack` was promised, on this CPU.
    unsafe { header.wrapping_add(IST_BUSY).as_mut_ptr::<u64>().write_volatile(0) };
}
