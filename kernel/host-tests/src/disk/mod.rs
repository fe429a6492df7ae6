//! The disk's driver, and a device that misbehaves, as no emulator's does.
//!
//! The driver's files are the kernel's own, and so are the queue, the door and the stacks; the device works on the rings in memory as the test says.
//! Every test is made with stacks that bounce, and with stacks that are mapped. Whatever the device did, in the end nothing is left.

#![expect(clippy::undocumented_unsafe_blocks, reason = "a test says what it does by failing")]

#[path = "../../../src/disk/error.rs"]
#[expect(dead_code, reason = "the rest is said elsewhere")]
mod error;
#[path = "../../../src/disk/flight.rs"]
mod flight;

mod answers;
mod device;
#[path = "../../../../crates/vmstack/tests/fake/mod.rs"]
mod fake;
mod limits;
pub(crate) mod world;

use device::{Chain, DESCRIPTORS, Running};
use error::DiskError;
use flight::{Ask, Data, Flights, Header, Kind, Ticket};
use vmstack::{Direction, DmaPolicy, DmaRequest, VirtAddr};
use world::{Task, World};

const SECTOR: usize = 512;
/// What memory holds before a device writes it.
const OURS: u8 = 0x41;
/// What the device writes.
const DEVICES: u8 = 0x92;
/// When requests should be done.
const END: u64 = 500;

/// A driver and its device.
struct Disk {
    world: &'static World,
    policy: DmaPolicy,
    flights: Flights,
    running: Running,
}

/// Where a task has header, status and data: on its stack, the data over the end of its lowest page.
fn header_of(task: &Task) -> VirtAddr {
    task.stack.bottom().wrapping_add(256)
}

fn status_of(task: &Task) -> VirtAddr {
    task.stack.bottom().wrapping_add(301)
}

fn data_of(task: &Task) -> VirtAddr {
    task.stack.bottom().wrapping_add(4096 - 200)
}

/// The status byte and the data, as the task reads them.
fn seen(task: &Task) -> (u8, Vec<u8>) {
    (fake::read(status_of(task), 1)[0], fake::read(data_of(task), SECTOR))
}

/// What they are before anybody wrote them.
fn untouched() -> (u8, Vec<u8>) {
    (OURS, vec![OURS; SECTOR])
}

fn of_device(status: u8) -> (u8, Vec<u8>) {
    (status, vec![DEVICES; SECTOR])
}

/// The whole sector of a task's data.
fn list_of(task: &Task) -> [DmaRequest; 1] {
    [DmaRequest::new(data_of(task), SECTOR, Direction::Both)]
}

fn each_way(test: impl Fn(&mut Disk)) {
    for policy in [DmaPolicy::Bounce, DmaPolicy::Map] {
        let world = World::new(policy);
        let mut disk = Disk { world, policy, flights: Flights::NONE, running: Running::new() };
        // What is in the bounce buffers from earlier: a status that says all is well.
        let task = Task::new(99);
        let ticket = disk.read(&task).expect("a place");
        disk.end_next(DEVICES);
        assert_eq!((disk.collect(ticket), seen(&task)), (Some(Ok(())), of_device(0)));
        drop(task);
        disk.assert_nothing_is_left();
        test(&mut disk);
        disk.assert_nothing_is_left();
    }
}

impl Disk {
    /// Sends what `task` wants, from its stack.
    fn send(&mut self, task: &Task, kind: Kind, data: &Data<'_>) -> Result<Ticket, DiskError> {
        task.run();
        let bytes = data.bytes().expect("so many there are");
        for (at, bytes) in [(status_of(task), 1), (data_of(task), SECTOR)] {
            (0..bytes).for_each(|i| self.world.fake.write(at.wrapping_add(i), OURS));
        }
        let header = header_of(task).as_mut_ptr::<Header>();
        unsafe { header.write(Header::new(kind, 7)) };
        let ask = Ask::new(kind, unsafe { &*header }, data, bytes, status_of(task).as_mut_ptr());
        self.flights.send(&ask, END, &mut self.running)
    }

    /// Reads a sector to the stack of `task`.
    fn read(&mut self, task: &Task) -> Result<Ticket, DiskError> {
        self.send(task, Kind::Read, &Data::Raw(&list_of(task)))
    }

    /// The chain that the device takes next.
    fn take(&mut self) -> Chain {
        self.running.device.take().expect("something was sent")
    }

    /// The device ends the next chain as it should.
    fn end_next(&mut self, byte: u8) {
        let chain = self.take();
        self.running.device.end(&chain, byte);
    }

    /// What came of a request, when somebody has looked at the queue.
    fn collect(&mut self, ticket: Ticket) -> Option<Result<(), DiskError>> {
        self.flights.poll(&mut self.running);
        self.flights.collect(ticket)
    }

    /// The device is reset, and gets a new queue.
    fn reset(&mut self) {
        self.flights.cancel_all();
        self.running = Running::new();
    }

    /// Whether the device writes the stack itself.
    fn is_mapped(&self) -> bool {
        self.policy == DmaPolicy::Map
    }

    /// Bounce buffers that are taken, stacks that are pinned, transfers that were lost.
    fn held(&self) -> (usize, usize, u64) {
        let (pool, counters) = (self.world.door.pool_usage(), self.world.door.counters());
        (pool.in_use, self.world.area.recount().pinned, counters.lost)
    }

    fn assert_nothing_is_left(&mut self) {
        self.flights.poll(&mut self.running);
        assert_eq!((self.flights.in_use(), self.held()), (0, (0, 0, 0)), "requests; buffers, pins, lost transfers");
        assert_eq!(self.running.queue.available_desc(), DESCRIPTORS);
    }
}
