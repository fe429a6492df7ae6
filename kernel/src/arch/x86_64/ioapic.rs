//! The I/O APICs: which line of the machine interrupts which CPU, with which vector.
//!
//! Two registers in memory, an index and a window, seen through the direct map and mapped uncached. The pair is not
//! atomic: an `IoApic` is used by one CPU at a time, so it takes `&mut self`, and the kernel keeps it behind a lock
//! that turns interrupts off.

use vmstack::PhysAddr;

use super::acpi::{IoApicInfo, Override};
use super::layout::phys_to_virt;

const INDEX: usize = 0x00;
const WINDOW: usize = 0x10;
const VERSION: u32 = 0x01;
const FIRST_LINE: u32 = 0x10;

const ACTIVE_LOW: u32 = 1 << 13;
const LEVEL: u32 = 1 << 15;
const MASKED: u32 = 1 << 16;

/// Where a line leads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Route {
    /// The vector, from 32.
    pub(crate) vector: u8,
    /// The local APIC id of the CPU.
    pub(crate) apic_id: u32,
    /// Triggered by level, not by edge.
    pub(crate) level: bool,
    /// Active when low.
    pub(crate) active_low: bool,
    /// Held back.
    pub(crate) masked: bool,
}

impl Route {
    /// The route of the legacy line `line`, wired as ACPI says, to `vector` on the CPU with `apic_id`.
    #[must_use]
    pub(crate) const fn legacy(line: Override, vector: u8, apic_id: u32) -> Self {
        Self { vector, apic_id, level: line.level, active_low: line.active_low, masked: false }
    }
}

/// An I/O APIC.
#[derive(Debug)]
pub(crate) struct IoApic {
    registers: PhysAddr,
    first_gsi: u32,
    lines: u32,
}

impl IoApic {
    /// Takes the I/O APIC that ACPI describes, and masks all of its lines.
    ///
    /// # Safety
    ///
    /// The address is that of an I/O APIC, mapped uncached at the direct map, and this is the only `IoApic` for it.
    #[must_use]
    pub(crate) unsafe fn new(info: IoApicInfo) -> Self {
        let mut found = Self { registers: info.address, first_gsi: info.first_gsi, lines: 0 };
        found.lines = (found.read(VERSION) >> 16 & 0xff) + 1;
        for line in 0..found.lines {
            found.write(FIRST_LINE + 2 * line, MASKED);
        }
        found
    }

    /// Routes the global system interrupt `gsi`. Returns false if that is not a line of this I/O APIC.
    #[must_use]
    pub(crate) fn route(&mut self, gsi: u32, route: Route) -> bool {
        let Some(line) = gsi.checked_sub(self.first_gsi).filter(|line| *line < self.lines) else { return false };
        let low = u32::from(route.vector)
            | if route.level { LEVEL } else { 0 }
            | if route.active_low { ACTIVE_LOW } else { 0 }
            | if route.masked { MASKED } else { 0 };
        // Masked while the two halves disagree.
        self.write(FIRST_LINE + 2 * line, MASKED);
        self.write(FIRST_LINE + 2 * line + 1, route.apic_id << 24);
        self.write(FIRST_LINE + 2 * line, low);
        true
    }

    /// Holds the global system interrupt `gsi` back, or lets it through. Returns false if that is not a line of this
    /// one.
    #[must_use]
    pub(crate) fn mask(&mut self, gsi: u32, masked: bool) -> bool {
        let Some(line) = gsi.checked_sub(self.first_gsi).filter(|line| *line < self.lines) else { return false };
        let low = self.read(FIRST_LINE + 2 * line);
        self.write(FIRST_LINE + 2 * line, if masked { low | MASKED } else { low & !MASKED });
        true
    }

    fn register(&self, offset: usize) -> *mut u32 {
        phys_to_virt(self.registers).wrapping_add(offset).as_mut_ptr()
    }

    fn read(&mut self, index: u32) -> u32 {
        // SAFETY: a register of the I/O APIC that `new` was promised; `&mut self` keeps the pair together.
        unsafe { self.register(INDEX).write_volatile(index) };
        // SAFETY: as above.
        unsafe { self.register(WINDOW).read_volatile() }
    }

    fn write(&mut self, index: u32, value: u32) {
        // SAFETY: as in `read`.
        unsafe { self.register(INDEX).write_volatile(index) };
        // SAFETY: as in `read`; it routes interrupts, and does not touch memory.
        unsafe { self.register(WINDOW).write_volatile(value) };
    }
}
