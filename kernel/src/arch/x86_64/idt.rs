//! The interrupt descriptor table: one for all CPUs, 256 gates to the stubs in `entry.S`.
//!
//! Every gate is an interrupt gate: handlers begin with interrupts off. `int3` may be executed by user mode; every
//! other `int n` from there is a general protection fault.

use core::arch::asm;
use core::cell::UnsafeCell;
use core::mem::size_of;

use vmstack::VirtAddr;

use super::frame::vector;
use super::gdt::{self, Ist};

const GATES: usize = 256;
/// The distance from one stub to the next, in bytes; `entry.S` aligns them so.
const STUB_BYTES: usize = 16;
/// Present, interrupt gate, privilege level 0.
const KERNEL_GATE: u8 = 0x8e;
/// Present, interrupt gate, privilege level 3.
const USER_GATE: u8 = 0xee;

unsafe extern "C" {
    static trap_stubs: u8;
    static double_fault_entry: u8;
    static nmi_entry: u8;
    static machine_check_entry: u8;
    static debug_entry: u8;
}

/// A gate: Intel SDM volume 3, 6.14.1.
#[derive(Clone, Copy)]
#[repr(C)]
struct Gate {
    offset_low: u16,
    selector: u16,
    ist: u8,
    kind: u8,
    offset_middle: u16,
    offset_high: u32,
    zero: u32,
}

impl Gate {
    const MISSING: Self =
        Self { offset_low: 0, selector: 0, ist: 0, kind: 0, offset_middle: 0, offset_high: 0, zero: 0 };

    fn new(entry: VirtAddr, kind: u8, ist: Option<Ist>) -> Self {
        let offset = entry.get();
        Self {
            offset_low: offset as u16,
            selector: gdt::KERNEL_CODE,
            ist: ist.map_or(0, |ist| ist.index() as u8 + 1),
            kind,
            offset_middle: (offset >> 16) as u16,
            offset_high: (offset >> 32) as u32,
            zero: 0,
        }
    }

    /// The gate of vector `number`.
    fn of(number: usize) -> Self {
        let stub = VirtAddr::of(&raw const trap_stubs).wrapping_add(number * STUB_BYTES);
        match number as u64 {
            vector::DEBUG => Self::new(VirtAddr::of(&raw const debug_entry), KERNEL_GATE, Some(Ist::Debug)),
            vector::NMI => Self::new(VirtAddr::of(&raw const nmi_entry), KERNEL_GATE, Some(Ist::Nmi)),
            vector::BREAKPOINT => Self::new(stub, USER_GATE, None),
            vector::DOUBLE_FAULT => {
                Self::new(VirtAddr::of(&raw const double_fault_entry), KERNEL_GATE, Some(Ist::DoubleFault))
            }
            vector::MACHINE_CHECK => {
                Self::new(VirtAddr::of(&raw const machine_check_entry), KERNEL_GATE, Some(Ist::MachineCheck))
            }
            _ => Self::new(stub, KERNEL_GATE, None),
        }
    }
}

#[repr(C, align(4096))]
struct Table(UnsafeCell<[Gate; GATES]>);

// SAFETY: written once by the boot CPU before any CPU loads it, and only read by hardware after that.
unsafe impl Sync for Table {}

static TABLE: Table = Table(UnsafeCell::new([Gate::MISSING; GATES]));

#[repr(C, packed)]
struct Pointer {
    limit: u16,
    base: usize,
}

/// Fills in the table: once, on the boot CPU, before any CPU loads it.
///
/// # Safety
///
/// No CPU has loaded the table.
pub(super) unsafe fn fill() {
    let table = TABLE.0.get().cast::<Gate>();
    for number in 0..GATES {
        // SAFETY: `number` is within the table.
        let slot = unsafe { table.add(number) };
        // SAFETY: nobody reads or writes the table yet (the caller's promise).
        unsafe { slot.write(Gate::of(number)) };
    }
}

/// Loads the table on the CPU that runs this.
///
/// # Safety
///
/// The table is filled in, this CPU's GDT and TSS are loaded, and its per-CPU block is installed.
pub(super) unsafe fn load() {
    let limit = (GATES * size_of::<Gate>() - 1) as u16;
    let pointer = Pointer { limit, base: VirtAddr::of(TABLE.0.get()).get() };
    // SAFETY: the table is static and whole; its gates name the kernel's code segment and this CPU's IST stacks.
    unsafe { asm!("lidt [{}]", in(reg) &raw const pointer, options(readonly, nostack, preserves_flags)) };
}
