//! The natural client: `virtio-drivers`'s own driver for disks, as it is. It keeps the header and the status of a request on its own stack, and spins
//! until the device is done.

use virtio_drivers::device::blk::VirtIOBlk;
use virtio_drivers::transport::pci::PciTransport;

use super::device::{self, Device};
use super::hal::Bus;
use super::{DISK, start};

/// The crate's driver.
pub(crate) type NaturalDriver = VirtIOBlk<Bus, PciTransport>;

/// Lends the disk to the crate's driver. None if there is no disk, or it does not come up.
///
/// # Context
///
/// Task, while nobody else uses the disk: what is in flight is sent again afterwards.
pub(crate) fn with_natural_driver<R>(act: impl FnOnce(&mut NaturalDriver) -> R) -> Option<R> {
    let stopped = {
        let mut disk = DISK.lock();
        disk.stop();
        disk.device.take_stopped()
    }?;
    let done = VirtIOBlk::new(*stopped.into_transport()).ok().map(|mut driver| act(&mut driver));
    // The driver has reset the device when it went.
    if let Some((transport, _)) = device::find() {
        DISK.lock().device = Device::Stopped(transport);
        start();
    }
    done
}
