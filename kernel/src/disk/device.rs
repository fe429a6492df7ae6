//! The device: found on the bus, started, stopped.

use alloc::boxed::Box;
use core::mem::MaybeUninit;

use virtio_drivers::queue::VirtQueue;
use virtio_drivers::transport::pci::bus::{Command, PciRoot};
use virtio_drivers::transport::pci::{PciTransport, virtio_device_type};
use virtio_drivers::transport::{DeviceStatus, DeviceType, Transport};

use super::hal::Bus;
use crate::arch::pci::ConfigPorts;
use crate::mm::heap::try_box;
use crate::println;

/// Descriptors of the ring: as many pieces can be in flight.
pub(super) const DESCRIPTORS: usize = 64;
/// The queue that requests go to.
const QUEUE: u16 = 0;
/// How often a device that was reset is asked whether it is.
const PATIENCE: usize = 1 << 24;

bitflags::bitflags! {
    /// What the driver understands (virtio 1.2, 5.2.3 and 6).
    #[derive(Clone, Copy, Debug)]
    struct Feature: u64 {
        /// The disk cannot be written.
        const READ_ONLY = 1 << 5;
        /// The device is not a legacy one.
        const VERSION_1 = 1 << 32;
    }
}

/// A device that runs.
pub(super) struct Running {
    transport: Box<PciTransport>,
    pub(super) queue: VirtQueue<Bus, DESCRIPTORS>,
}

impl Running {
    /// Tells the device that there is something in the queue.
    pub(super) fn notify(&mut self) {
        if self.queue.should_notify() {
            self.transport.notify(QUEUE);
        }
    }

    fn reset(&mut self) {
        self.transport.set_status(DeviceStatus::empty());
        let silent = (0..PATIENCE).any(|_| self.transport.get_status().is_empty());
        assert!(silent, "a disk cannot be stopped, and memory that it has is about to be somebody else's");
    }

    /// Descriptors that are free, and all.
    pub(super) fn descriptors(&self) -> (usize, usize) {
        (self.queue.available_desc(), DESCRIPTORS)
    }
}

/// What there is of a device.
pub(super) enum Device {
    /// None.
    Absent,
    /// It does not run: it touches no memory, and has no queue.
    Stopped(Box<PciTransport>),
    /// It was reset: it touches no memory, and its queue is not freed yet.
    Reset(Box<Running>),
    /// Somebody makes a queue for it.
    Starting,
    Running(Box<Running>),
}

impl Device {
    pub(super) fn running(&mut self) -> Option<&mut Running> {
        match self {
            Self::Running(running) => Some(running),
            _ => None,
        }
    }

    /// Whether it waits for somebody to start it.
    pub(super) const fn is_stopped(&self) -> bool {
        matches!(self, Self::Stopped(_) | Self::Reset(_))
    }

    /// Resets a device that runs: when it says so, it does not touch memory any more (virtio 1.2, 2.4). True if it ran.
    ///
    /// # Panics
    ///
    /// If it never says so: it may write to memory that is somebody else's by then.
    pub(super) fn stop(&mut self) -> bool {
        match core::mem::replace(self, Self::Starting) {
            Self::Running(mut running) => {
                running.reset();
                *self = Self::Reset(running);
                true
            }
            other => {
                *self = other;
                false
            }
        }
    }

    /// Takes it, if it waits for somebody to start it. What is left of its queue is freed.
    pub(super) fn take_stopped(&mut self) -> Option<Stopped> {
        match core::mem::replace(self, Self::Starting) {
            Self::Stopped(transport) => Some(Stopped::Transport(transport)),
            Self::Reset(running) => Some(Stopped::Reset(running)),
            other => {
                *self = other;
                None
            }
        }
    }
}

/// A device that somebody is about to start.
pub(super) enum Stopped {
    Transport(Box<PciTransport>),
    Reset(Box<Running>),
}

impl Stopped {
    /// What it is reached by. A queue that it had is freed.
    pub(super) fn into_transport(self) -> Box<PciTransport> {
        match self {
            Self::Transport(transport) => transport,
            Self::Reset(running) => running.transport,
        }
    }
}

/// Starts a device that is stopped. Without memory for its queue it stays stopped.
pub(super) fn start(stopped: Stopped) -> Device {
    let mut transport = stopped.into_transport();
    let Ok(place) = try_box(MaybeUninit::uninit()) else { return Device::Stopped(transport) };
    transport.begin_init(Feature::all());
    let Ok(mut queue) = VirtQueue::new(&mut *transport, QUEUE, false, false) else {
        return Device::Stopped(transport);
    };
    // Whoever waits looks.
    queue.set_dev_notify(false);
    transport.finish_init();
    Device::Running(Box::write(place, Running { transport, queue }))
}

/// The first disk on the bus, which does not run, and how many sectors it has. It may master the bus from here on, and does not interrupt.
pub(super) fn find() -> Option<(Box<PciTransport>, u64)> {
    let mut root = PciRoot::new(ConfigPorts::shared());
    let (function, _) = root.enumerate_bus(0).find(|(_, info)| virtio_device_type(info) == Some(DeviceType::Block))?;
    root.set_command(function, Command::MEMORY_SPACE | Command::BUS_MASTER | Command::INTERRUPT_DISABLE);
    let transport = PciTransport::new::<Bus, _>(&mut root, function);
    let transport = transport.inspect_err(|error| println!("vmstack: a disk that is not understood: {error}")).ok()?;
    let half = |at| transport.read_config_space::<u32>(at).ok().map(u64::from);
    let capacity = half(0)? | half(4)? << 32;
    Some((Box::new(transport), capacity))
}
