//! QEMU's educational device, a PCI card that interrupts when it is told to (QEMU's docs/specs/edu.txt).
//!
//! | register | write | read |
//! | --- | --- | --- |
//! | 0x24 | | why it interrupts: bits that were raised and not acknowledged |
//! | 0x60 | raises an interrupt for these bits | |
//! | 0x64 | acknowledges these bits; when none is left, the line goes down | |
//!
//! It interrupts in one of two ways, as its configuration says: by its line, which is triggered by level and stays up until it is
//! acknowledged, or by a message, which is a store to the local APIC's address. It copies memory, too: `edu_dma`.
//!
//! [`acknowledge`] may be called in any context; an [`Edu`] is used by one CPU at a time.

use core::fmt;
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use pci_types::capability::{MsiCapability, PciCapability, TriggerMode};
use pci_types::{Bar, CommandRegister, EndpointHeader};
use vmstack::{PhysAddr, VirtAddr};

use super::pci::ConfigPorts;
use super::provoke::Store;

/// The device's numbers: vendor, device.
const NUMBERS: (u16, u16) = (0x1234, 0x11e8);
const STATUS: usize = 0x24;
const RAISE: usize = 0x60;
const ACKNOWLEDGE: usize = 0x64;
/// The bit that is raised. Any would do.
const REASON: u32 = 1;
/// How many bytes of its registers are used.
const REGISTER_BYTES: usize = 0x1000;
/// Where messages to local APICs go: Intel SDM volume 3, 11.11.1. The APIC's id is in bits 12 to 19.
const MESSAGES: u64 = 0xfee0_0000;

/// Where the registers are, as a virtual address; zero if there is no device.
static REGISTERS: AtomicUsize = AtomicUsize::new(0);

/// The device, able to interrupt.
pub(crate) struct Edu {
    ports: ConfigPorts,
    header: EndpointHeader,
    message: MsiCapability,
    line: u8,
}

impl Edu {
    /// Finds the device and turns it on; `map` maps its registers, uncached.
    ///
    /// # Safety
    ///
    /// What `map` returns shows the physical addresses that it is given, uncached, for ever.
    pub(crate) unsafe fn find(map: impl FnOnce(PhysAddr, usize) -> Option<VirtAddr>) -> Option<Self> {
        let ports = ConfigPorts::shared();
        let found = ports.find(NUMBERS.0, NUMBERS.1)?;
        let mut header = EndpointHeader::from_header(found, ports)?;
        let message = header.capabilities(ports).find_map(|capability| match capability {
            PciCapability::Msi(message) => Some(message),
            _ => None,
        })?;
        let registers = match header.bar(0, ports)? {
            Bar::Memory32 { address, .. } => PhysAddr::new(u64::from(address)),
            Bar::Memory64 { address, .. } => PhysAddr::new(address),
            Bar::Io { .. } => return None,
        };
        // A message is a store of the device's own: it must be master of the bus.
        let wanted = CommandRegister::MEMORY_ENABLE | CommandRegister::BUS_MASTER_ENABLE;
        header.update_command(ports, |command| (command | wanted) - CommandRegister::INTERRUPT_DISABLE);
        let (_, line) = header.interrupt(ports);
        REGISTERS.store(map(registers, REGISTER_BYTES)?.get(), Relaxed);
        Some(Self { ports, header, message, line })
    }

    /// The legacy line that firmware wired it to.
    pub(crate) const fn line(&self) -> u8 {
        self.line
    }

    /// From here on it interrupts by its line.
    pub(crate) fn use_line(&mut self) {
        self.message.set_enabled(false, self.ports);
    }

    /// From here on it interrupts by a message of `vector` to the CPU with `apic_id`.
    pub(crate) fn use_message(&mut self, vector: u8, apic_id: u32) {
        let address = MESSAGES | u64::from(apic_id) << 12;
        self.message.set_message_info_lapic(address, vector, TriggerMode::Edge, self.ports);
        self.message.set_enabled(true, self.ports);
    }
}

impl fmt::Debug for Edu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = self.header.header().address();
        f.debug_struct("Edu").field("address", &address).field("line", &self.line).finish_non_exhaustive()
    }
}

/// The register at `offset`, if there is a device. Its width is the caller's to know.
pub(super) fn register<T>(offset: usize) -> Option<*mut T> {
    let base = REGISTERS.load(Relaxed);
    (base != 0).then(|| VirtAddr::new(base).wrapping_add(offset).as_mut_ptr())
}

/// The store that makes the device interrupt.
#[must_use]
pub(crate) fn raise() -> Option<Store> {
    // SAFETY: a register of the device, mapped for ever; it interrupts, and does not touch memory.
    register(RAISE).map(|place| unsafe { Store::new(place, REASON) })
}

/// Tells the device that it was heard. Its line goes down.
pub(crate) fn acknowledge() {
    let (Some(status), Some(done)) = (register::<u32>(STATUS), register::<u32>(ACKNOWLEDGE)) else { return };
    // SAFETY: a register of the device, 32 bits, mapped for ever.
    let reasons = unsafe { status.read_volatile() };
    // SAFETY: as above.
    unsafe { done.write_volatile(reasons) };
}
