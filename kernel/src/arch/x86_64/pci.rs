//! PCI configuration space, through the two ports that every PC has for it: an address, and a window to it.
//!
//! Only bus 0, function 0 of each device: what is plugged into the emulated machine directly. What the words mean is the crate
//! `pci_types`'s business.

use pci_types::{ConfigRegionAccess, PciAddress, PciHeader};

use virtio_drivers::transport::pci::bus::{ConfigurationAccess, DeviceFunction};

use super::cpu::{in32, out32};
use crate::sync::{AnyLock, VitalLock};

const ADDRESS: u16 = 0xcf8;
const WINDOW: u16 = 0xcfc;
const ENABLED: u32 = 1 << 31;
/// How many devices a bus can have.
const DEVICES: u8 = 32;

/// Held while the pair of ports is used: an access takes both of them.
static PORTS: VitalLock<()> = VitalLock::new("pci-ports", ());

/// The lock of the ports.
pub(crate) fn lock() -> &'static dyn AnyLock {
    &PORTS
}

/// The way to configuration space. Each access is one, whoever else has a `ConfigPorts`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConfigPorts(());

impl ConfigPorts {
    pub(crate) const fn shared() -> Self {
        Self(())
    }

    /// The first device of bus 0 with these numbers.
    pub(super) fn find(&self, vendor: u16, device: u16) -> Option<PciHeader> {
        let all = (0..DEVICES).map(|number| PciHeader::new(PciAddress::new(0, 0, number, 0)));
        all.into_iter().find(|header| header.id(self) == (vendor, device))
    }
}

/// Says which word the window shows, for whoever holds the lock of the ports.
fn select(address: PciAddress, offset: u16) {
    let place = u32::from(address.bus()) << 16 | u32::from(address.device()) << 11 | u32::from(address.function()) << 8;
    // SAFETY: says which word the window shows.
    unsafe { out32(ADDRESS, ENABLED | place | u32::from(offset & 0xfc)) };
}

// `read` and `write` are marked unsafe for what the address may be; what is not there reads as ones.
impl ConfigRegionAccess for ConfigPorts {
    unsafe fn read(&self, address: PciAddress, offset: u16) -> u32 {
        let _ports = PORTS.lock();
        select(address, offset);
        // SAFETY: the window, for which the address was chosen just now; reading configuration space changes nothing.
        unsafe { in32(WINDOW) }
    }

    unsafe fn write(&self, address: PciAddress, offset: u16, value: u32) {
        let _ports = PORTS.lock();
        select(address, offset);
        // SAFETY: the window; what the word does is the caller's promise.
        unsafe { out32(WINDOW, value) };
    }
}

fn address_of(function: DeviceFunction) -> PciAddress {
    PciAddress::new(0, function.bus, function.device, function.function)
}

impl ConfigurationAccess for ConfigPorts {
    fn read_word(&self, function: DeviceFunction, offset: u8) -> u32 {
        // SAFETY: reading configuration space changes nothing.
        unsafe { self.read(address_of(function), u16::from(offset)) }
    }

    fn write_word(&mut self, function: DeviceFunction, offset: u8, data: u32) {
        // SAFETY: the driver of the device says what the word does.
        unsafe { self.write(address_of(function), u16::from(offset), data) };
    }

    unsafe fn unsafe_clone(&self) -> Self {
        *self
    }
}
