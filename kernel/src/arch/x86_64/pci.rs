//! PCI configuration space, through the two ports that every PC has for it: an address, and a window to it.
//!
//! Only bus 0, function 0 of each device: what is plugged into the emulated machine directly. What the words mean is the crate
//! `pci_types`'s business.

use pci_types::{ConfigRegionAccess, PciAddress, PciHeader};

use super::cpu::{in32, out32};

const ADDRESS: u16 = 0xcf8;
const WINDOW: u16 = 0xcfc;
const ENABLED: u32 = 1 << 31;
/// How many devices a bus can have.
const DEVICES: u8 = 32;

/// Having a `ConfigPorts` means that nobody else uses the pair of ports: an access takes both of them.
#[derive(Debug)]
pub(super) struct ConfigPorts(());

impl ConfigPorts {
    /// # Safety
    ///
    /// Nobody else has one, and nobody else uses the ports.
    pub(super) const unsafe fn new() -> Self {
        Self(())
    }

    /// The first device of bus 0 with these numbers.
    pub(super) fn find(&self, vendor: u16, device: u16) -> Option<PciHeader> {
        let all = (0..DEVICES).map(|number| PciHeader::new(PciAddress::new(0, 0, number, 0)));
        all.into_iter().find(|header| header.id(self) == (vendor, device))
    }
}

fn select(address: PciAddress, offset: u16) {
    let place = u32::from(address.bus()) << 16 | u32::from(address.device()) << 11 | u32::from(address.function()) << 8;
    // SAFETY: says which word the window shows.
    unsafe { out32(ADDRESS, ENABLED | place | u32::from(offset & 0xfc)) };
}

// `read` and `write` are marked unsafe for what the address may be; what is not there reads as ones.
impl ConfigRegionAccess for ConfigPorts {
    unsafe fn read(&self, address: PciAddress, offset: u16) -> u32 {
        select(address, offset);
        // SAFETY: the window, for which the address was chosen just now; reading configuration space changes nothing.
        unsafe { in32(WINDOW) }
    }

    unsafe fn write(&self, address: PciAddress, offset: u16, value: u32) {
        select(address, offset);
        // SAFETY: the window; what the word does is the caller's promise.
        unsafe { out32(WINDOW, value) };
    }
}
