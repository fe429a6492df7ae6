//! The control: a driver that computes the bus address of a stack, as if it lay in the direct map, or its frames side by side.
//!
//! ```text
//!   by the direct map       address - start of the direct map, cut to what the device reaches     some frame or other
//!   by the first frame      frame of the first page + offset                                      right, to the end of the first page
//! ```
//!
//! Nothing here asks the door, and nothing else in the kernel computes like that. The frames that are hit belong to the script, which holds every other
//! frame of the machine, so that no two are side by side; they are filled with a pattern, and looked at afterwards. Then the same transfer by the
//! library, under each policy.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};

use vmstack::{Direction, DmaPolicy, DmaRequest, PhysAddr, VirtAddr};

use super::super::script::Victim;
use super::bytes::{DEVICES, OURS, Stretch, VICTIMS, in_device, load_device};
use super::{engine, facts};
use crate::arch::edu_dma::REACH;
use crate::arch::layout::{DIRECT_MAP, PAGE_SIZE};
use crate::dma::DOOR;
use crate::mm::fragments::Fragments;
use crate::mm::{frames, tables};
use crate::stacks::{Stack, TASKS};
use crate::task::{TaskStack, sched};
use crate::{fact, println};

/// Stacks that are tried until one has victims that the script can own.
const TRIES: usize = 1024;

/// A bus address by the direct map's arithmetic, cut by a device that reaches so far.
const fn by_direct_map(addr: VirtAddr) -> PhysAddr {
    PhysAddr::new(addr.get().wrapping_sub(DIRECT_MAP.get()) as u64 & REACH)
}

/// The frame that an address is in.
const fn frame_of(bus: PhysAddr) -> PhysAddr {
    PhysAddr::new(bus.get() & !(PAGE_SIZE as u64 - 1))
}

/// A transfer, where a driver that computes has it go, and what is hit there.
#[derive(Clone, Copy, Debug)]
struct Wrong {
    name: &'static str,
    /// What was meant: in the lowest page of a stack, and the next one.
    meant: Stretch,
    /// What was computed.
    bus: PhysAddr,
    /// What is hit, of a frame that the script owns.
    victim: Stretch,
    /// Where in the transfer that is.
    skip: usize,
}

impl Wrong {
    /// By the direct map: all of it goes elsewhere.
    fn by_direct_map(bottom: VirtAddr) -> Self {
        const BYTES: usize = 512;
        let meant = Stretch::new(bottom.wrapping_add(64), BYTES);
        let bus = by_direct_map(meant.at);
        Self { name: "direct-map", meant, bus, victim: Stretch::of_frame(bus, BYTES), skip: 0 }
    }

    /// By the frame of the first page, as if the next one followed it: what is behind the end of the page goes elsewhere. None without a frame.
    fn by_first_frame(bottom: VirtAddr) -> Option<Self> {
        const BYTES: usize = 1024;
        let meant = Stretch::new(bottom.wrapping_add(PAGE_SIZE - BYTES / 2), BYTES);
        let bus = tables::translate(meant.at)?;
        let victim = Stretch::of_frame(bus.wrapping_add(BYTES as u64 / 2), BYTES / 2);
        Some(Self { name: "first-frame", meant, bus, victim, skip: BYTES / 2 })
    }

    /// The frame that is hit.
    const fn frame(&self) -> PhysAddr {
        frame_of(self.bus.wrapping_add(self.skip as u64))
    }

    fn prepare(&self) {
        self.meant.fill(OURS);
        self.victim.fill_from(VICTIMS, self.skip);
    }

    /// The transfer as it was computed, each way: how many bytes are right, and how many are the victim's.
    fn compute(&self) {
        let Self { name, meant: Stretch { bytes, .. }, .. } = *self;
        self.prepare();
        self.transfer(false);
        let [right, victims] = in_device(bytes, [OURS, VICTIMS]);
        fact!("dma.arithmetic", "{name} read {bytes} {right} {victims}");
        load_device(DEVICES, bytes);
        self.transfer(true);
        let (right, hit) = (self.meant.like(DEVICES), self.victim.like_from(DEVICES, self.skip));
        fact!("dma.arithmetic", "{name} write {bytes} {right} {hit}");
    }

    fn transfer(&self, writes: bool) {
        // SAFETY: the frames at the address are the stack's, whose task waits, and the victim, which the script owns. This is the control.
        engine::wait(unsafe { engine::submit_unheld(self.bus, self.meant.bytes, writes) });
    }

    /// The same transfer by the library, under each policy: how many bytes are as they must be, and how many of the victim's are not.
    fn pass(&self) {
        let policies = [("refuse", DmaPolicy::Refuse), ("bounce", DmaPolicy::Bounce), ("map", DmaPolicy::Map)];
        let (usual, bytes) = (DOOR.policy(), self.meant.bytes);
        for (policy, set) in policies {
            DOOR.set_policy(set);
            self.prepare();
            let read = self.ask(Direction::ToDevice);
            let right = if read == "refused" { self.meant.like(OURS) } else { in_device(bytes, [OURS])[0] };
            fact!("dma.library", "{} {policy} read {read} {bytes} {right} {}", self.name, self.altered());
            load_device(DEVICES, bytes);
            let wrote = self.ask(Direction::FromDevice);
            let right = self.meant.like(if wrote == "refused" { OURS } else { DEVICES });
            fact!("dma.library", "{} {policy} write {wrote} {bytes} {right} {}", self.name, self.altered());
        }
        DOOR.set_policy(usual);
    }

    fn ask(&self, direction: Direction) -> &'static str {
        match engine::submit(&DmaRequest::new(self.meant.at, self.meant.bytes, direction)) {
            Ok(passed) => {
                engine::wait(passed.ticket);
                passed.passage.word()
            }
            Err(error) => {
                facts::refused(self.name, &error);
                "refused"
            }
        }
    }

    /// How many bytes of the victim are not what they were.
    fn altered(&self) -> usize {
        self.victim.bytes - self.victim.like_from(VICTIMS, self.skip)
    }
}

/// With every other frame of the machine taken: transfers as they are computed, and by the library.
pub(super) fn control() {
    let mut taken = Fragments::all_but_every_other();
    if let Some((stack, wrongs)) = choose(&mut taken) {
        // They are the script's from here on.
        let owned = wrongs.map(|wrong| taken.take(wrong.frame()));
        fact!("dma.victims", "{}", owned.iter().filter(|&&owned| owned).count());
        on(stack, &wrongs);
        wrongs.iter().for_each(|wrong| frames::give(wrong.frame(), 0));
    } else {
        println!("vmstack: no stack has frames of the script's in its way");
    }
    taken.give();
}

/// A stack, and what is hit by who computes where it is: frames that are held, two of them.
fn choose(held: &mut Fragments) -> Option<(Stack, [Wrong; 2])> {
    // Those that will not do are kept, so that others come.
    let mut tried = Vec::new();
    for _ in 0..TRIES {
        let stack = TASKS.alloc_waiting(0).ok()?;
        let wrongs = Wrong::by_first_frame(stack.bottom()).map(|other| [Wrong::by_direct_map(stack.bottom()), other]);
        match wrongs {
            Some(wrongs @ [one, other])
                if one.frame() != other.frame() && held.has(one.frame()) && held.has(other.frame()) =>
            {
                return Some((stack, wrongs));
            }
            _ => tried.push(stack),
        }
    }
    None
}

/// Whether the task waits whose stack it is.
static STAYS: AtomicBool = AtomicBool::new(false);

/// With a task that waits on `stack`: all transfers.
fn on(stack: Stack, wrongs: &[Wrong; 2]) {
    STAYS.store(true, Ordering::Relaxed);
    let owner = Victim::start_on(TaskStack::Mapped(stack), || {
        while STAYS.load(Ordering::Acquire) {
            sched::sleep_until(sched::ticks() + 1);
        }
    });
    let Some(owner) = owner else { return };
    for wrong in wrongs {
        wrong.compute();
        wrong.pass();
    }
    STAYS.store(false, Ordering::Release);
    owner.wait();
}
