//! The kernel around a disk's driver: stacks on the library's fake platform, a door, and tasks that are numbers.

#![expect(clippy::undocumented_unsafe_blocks, reason = "a test says what it does by failing")]

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;

use vmstack::{DmaDoor, DmaError, DmaPolicy, DmaRequest, KernelStack, PhysAddr, Platform, Transfer, VirtAddr};

use super::fake::{Area, Fake, Flush, area_of};

/// The kernel as the library's platform.
pub(crate) type Kernel = &'static Fake;

const MIB: usize = 1 << 20;
/// Where the bounce buffers are.
const POOL: u64 = 1 << 32;
/// From here on physical memory is the host's own, at the same addresses.
const HOST: u64 = 1 << 40;

thread_local! {
    static WORLD: Cell<Option<&'static World>> = const { Cell::new(None) };
    static CURRENT: Cell<usize> = const { Cell::new(0) };
    static KILLED: RefCell<BTreeSet<usize>> = const { RefCell::new(BTreeSet::new()) };
}

/// What there is in one test.
pub(crate) struct World {
    pub(crate) fake: &'static Fake,
    pub(crate) area: &'static Area<'static>,
    pub(crate) door: DmaDoor<'static, Kernel>,
}

impl World {
    /// The world of this thread from here on.
    pub(crate) fn new(policy: DmaPolicy) -> &'static Self {
        let fake: &'static Fake = Box::leak(Box::new(Fake::new(2, 256, 16 * MIB, Flush::Now)));
        let platform: &'static Kernel = Box::leak(Box::new(fake));
        let area: &'static Area<'static> = Box::leak(Box::new(area_of(fake, 16)));
        let door = DmaDoor::new(platform, Box::leak(Box::new([area])));
        door.set_policy(policy);
        unsafe { door.fill_pool(&fake.region(POOL, MIB)) }.expect("the region is good");
        door.look();
        let world: &'static Self = Box::leak(Box::new(Self { fake, area, door }));
        WORLD.set(Some(world));
        KILLED.take();
        world
    }
}

fn world() -> &'static World {
    WORLD.get().expect("the test has a world")
}

/// A task with a stack.
pub(crate) struct Task {
    pub(crate) id: usize,
    pub(crate) stack: KernelStack<'static, Kernel>,
}

impl Task {
    pub(crate) fn new(id: usize) -> Self {
        Self { id, stack: world().area.alloc(id).expect("there are stacks") }
    }

    /// It runs from here on.
    pub(crate) fn run(&self) {
        CURRENT.set(self.id);
    }

    /// A fault kills it: it goes on with its end, on its stack.
    pub(crate) fn kill(&self) {
        KILLED.with_borrow_mut(|killed| killed.insert(self.id));
    }

    /// It is over, and its stack was given back.
    pub(crate) fn end(self) {
        self.kill();
        self.stack.hand_over(&world().fake.enter());
        world().area.reap();
    }
}

/// What the driver asks of the scheduler.
pub(crate) mod sched {
    pub(crate) struct Current(usize);

    impl Current {
        pub(crate) const fn id(&self) -> usize {
            self.0
        }
    }

    pub(crate) fn current() -> Current {
        Current(super::CURRENT.get())
    }
}

pub(crate) fn goes_on(id: usize) -> bool {
    KILLED.with_borrow(|killed| !killed.contains(&id))
}

/// The door of the test's world.
pub(crate) static DOOR: Door = Door;

pub(crate) struct Door;

impl Door {
    /// # Safety
    ///
    /// As for [`DmaDoor::pass`].
    #[expect(clippy::unused_self, reason = "it stands for the kernel's")]
    #[track_caller]
    pub(crate) unsafe fn pass(&self, request: &DmaRequest) -> Result<Transfer<'static, Kernel>, DmaError> {
        unsafe { world().door.pass(request) }
    }
}

pub(crate) fn phys_to_virt(phys: PhysAddr) -> VirtAddr {
    if phys.get() >= HOST { VirtAddr::new(phys.get() as usize) } else { world().fake.host_of(phys) }
}

/// The physical address of what [`phys_to_virt`] shows there.
pub(crate) fn virt_to_phys(addr: VirtAddr) -> u64 {
    world().fake.translate(addr).map_or(addr.get() as u64, PhysAddr::get)
}

/// What a device reads.
pub(crate) fn device_reads(at: u64, bytes: usize) -> Vec<u8> {
    let host = || super::fake::read(VirtAddr::new(at as usize), bytes);
    if at >= HOST { host() } else { world().fake.device_reads_at(PhysAddr::new(at), bytes) }
}

/// What a device writes.
pub(crate) fn device_writes(at: u64, bytes: &[u8]) {
    if at < HOST {
        return world().fake.device_writes_at(PhysAddr::new(at), bytes);
    }
    let to = VirtAddr::new(at as usize).as_mut_ptr::<u8>();
    unsafe { to.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
}
