//! [`Machine`]: memory, an address range and a stack area, in one value.
//!
//! Several machines live side by side in a process, each with stacks of its own kind. Everything that a machine took from
//! the process goes back when it is dropped; only the signal handler stays, and passes on what it gets.
//!
//! Contexts: task; counting walks tables, so its time grows with the machine.

use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

use std::sync::Arc;

use vmstack::{InitError, Node, Phase, Platform, StackArea, StackFault, VirtAddr, VirtRange};

use crate::arch::PAGE_SIZE;
use crate::config::Config;
use crate::cpu::{Cpu, CpuError};
use crate::division::Division;
use crate::frames::{FrameCount, Frames};
use crate::limit;
use crate::memory::Memory;
use crate::names::Names;
use crate::online::Online;
use crate::plain::Plain;
use crate::platform::{Hosted, HostedError};
use crate::registry::{MACHINES, Registration, STACKS};
use crate::signal;
use crate::space::Space;
use crate::sys::{Errno, page_size};
use crate::task::TaskId;

/// Why a machine could not be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum MachineError {
    /// The page size of this system, in bytes, is not the one that the port was compiled for.
    PageSize {
        /// The system's.
        page: usize,
    },
    /// The number of frames is zero, or above what a frame number can count.
    Frames,
    /// A system call failed.
    System {
        /// What it was for.
        what: &'static str,
        /// What it said.
        errno: Errno,
    },
    /// The area could not be initialised.
    Area(InitError<HostedError>),
    /// The vmalloc could not be initialised.
    Vmalloc(vmstack_vmalloc::InitError<HostedError>),
    /// This thread cannot be a CPU.
    Cpu(CpuError),
    /// The process has as many machines as the fault handler can tell apart.
    TooManyMachines {
        /// How many that is.
        max: usize,
    },
}

impl fmt::Display for MachineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PageSize { page } => write!(f, "the system's pages are {page} bytes, and the port's {PAGE_SIZE}"),
            Self::Frames => write!(f, "a machine has between 1 and {} frames", u32::MAX - 1),
            Self::System { what, errno } => write!(f, "no {what}: {errno}"),
            Self::Area(error) => fmt::Display::fmt(error, f),
            Self::Vmalloc(error) => fmt::Display::fmt(error, f),
            Self::Cpu(error) => fmt::Display::fmt(error, f),
            Self::TooManyMachines { max } => {
                write!(f, "there are {max} machines already, as many as can be told apart")
            }
        }
    }
}

impl core::error::Error for MachineError {}

/// A slot, for showing.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct SlotState {
    /// Its number.
    pub index: u32,
    /// The phase of its life.
    pub phase: Phase,
    /// Who has the stack, or had it last.
    pub owner: String,
    /// The deepest use that was measured in any life, in bytes.
    pub used: usize,
}

/// A machine in a process: memory, a stack area, CPUs that come and go.
#[derive(Debug)]
pub struct Machine {
    /// First, so that the fault handler forgets the area before it goes.
    _registration: Registration<StackArea<Hosted>>,
    area: Arc<StackArea<Hosted>>,
    config: Config,
    online: Online,
    tasks: AtomicU64,
}

static MACHINES_MADE: AtomicU64 = AtomicU64::new(0);

/// A number that no other machine of this process has or had.
pub(crate) fn next_machine() -> u64 {
    MACHINES_MADE.fetch_add(1, Ordering::Relaxed)
}

impl Machine {
    /// Makes a machine as `config` says.
    ///
    /// # Errors
    ///
    /// [`MachineError`]; then nothing is kept, but for the signal handler.
    pub fn new(config: &Config) -> Result<Self, MachineError> {
        check_page_size()?;
        let platform = build_platform(config)?;
        let range = platform.space.range();
        let area = StackArea::new(platform);
        let shape = config.area(range);
        // SAFETY: the range was reserved for this area, and goes back when the area is dropped.
        unsafe { area.init(&shape) }.map_err(MachineError::Area)?;
        area.set_scrub(config.scrub);
        area.set_budget(config.budget);
        let area = Arc::new(area);
        let too_many = MachineError::TooManyMachines { max: MACHINES };
        let registration = STACKS.add(range, Arc::clone(&area)).ok_or(too_many)?;
        signal::install().map_err(system("signal handler"))?;
        let (online, tasks) = (Online::new(config.cpus), AtomicU64::new(0));
        Ok(Self { _registration: registration, area, config: *config, online, tasks })
    }

    /// Makes this thread a CPU.
    ///
    /// # Errors
    ///
    /// [`CpuError`]; then nothing is kept.
    pub fn cpu(&self) -> Result<Cpu<'_>, CpuError> {
        Cpu::new(self)
    }

    /// The stack area, to use the library by hand. Allocating and freeing wants a thread that is a CPU.
    #[must_use]
    pub fn area(&self) -> &StackArea<Hosted> {
        &self.area
    }

    pub(crate) fn platform(&self) -> &Hosted {
        self.area.platform()
    }

    pub(crate) const fn cpus(&self) -> usize {
        self.config.cpus
    }

    pub(crate) const fn stack_size(&self) -> usize {
        self.config.stack_size
    }

    pub(crate) const fn measures(&self) -> bool {
        self.config.measure
    }

    pub(crate) fn next_task(&self) -> TaskId {
        TaskId::new(self.tasks.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// How many tasks were ever started.
    pub(crate) fn tasks_started(&self) -> usize {
        self.tasks.load(Ordering::Relaxed) as usize
    }

    pub(crate) const fn online(&self) -> &Online {
        &self.online
    }

    /// The text of a fault in this machine's stacks.
    #[must_use]
    pub fn report(&self, fault: &StackFault) -> String {
        self.area.report(fault).to_string()
    }

    /// Counts the frames, by looking at each.
    #[must_use]
    pub fn frames(&self) -> FrameCount {
        self.platform().memory.recount()
    }

    /// Takes every free frame with an even number, until the value is dropped: the worst that fragmentation can do to who
    /// wants two in a row.
    #[must_use]
    pub fn fragment(&self) -> Fragmentation<'_> {
        Fragmentation { machine: self, frames: Some(self.platform().memory.frames.take_every_other()) }
    }

    /// The simulated NUMA node that the memory at `addr` is on, if something is mapped there.
    #[must_use]
    pub fn node_of(&self, addr: VirtAddr) -> Option<Node> {
        let platform = self.platform();
        platform.space.frame(addr).map(|frame| platform.memory.frames.node(frame))
    }

    /// The pages between the stacks that this process could access, as the kernel's list of mappings tells. It should be
    /// none (INV-GUARD). `None` if the list cannot be read.
    #[must_use]
    pub fn open_guard_pages(&self) -> Option<usize> {
        let geometry = self.area.geometry()?;
        let (range, stride) = (geometry.slot_range(), geometry.stride());
        let in_guard = |addr: &VirtAddr| {
            let offset = addr.distance(range.start());
            offset % stride < geometry.guard() || offset / stride >= geometry.slots()
        };
        Some(limit::accessible_pages(range, PAGE_SIZE)?.iter().filter(|addr| in_guard(addr)).count())
    }

    /// The slots that were ever used.
    #[must_use]
    pub fn slots(&self) -> Vec<SlotState> {
        let mut slots = Vec::new();
        self.area.for_each_slot(|slot, phase, owner, used| {
            let mut name = String::new();
            if owner != 0 && self.platform().write_owner(owner, &mut name).is_err() {
                name.clear();
            }
            slots.push(SlotState { index: slot.get(), phase, owner: name, used });
        });
        slots
    }
}

/// Memory of a machine in which no two free frames lie side by side, until this is dropped.
#[derive(Debug)]
pub struct Fragmentation<'m> {
    machine: &'m Machine,
    frames: Option<Frames>,
}

impl Drop for Fragmentation<'_> {
    fn drop(&mut self) {
        self.frames.take().into_iter().for_each(|frames| self.machine.platform().memory.frames.give(frames));
    }
}

pub(crate) fn check_page_size() -> Result<(), MachineError> {
    match page_size() {
        PAGE_SIZE => Ok(()),
        page => Err(MachineError::PageSize { page }),
    }
}

fn build_platform(config: &Config) -> Result<Hosted, MachineError> {
    let shape = config.area(VirtRange::EMPTY);
    // Checks the shape too, before tables are made by these numbers.
    let bytes =
        StackArea::<Hosted>::bytes_needed(&shape).map_err(|error| MachineError::Area(InitError::Geometry(error)))?;
    let frames = config.frame_count().ok_or(MachineError::Frames)?;
    let id = next_machine();
    let memory = Memory::new(frames, config.plain, config.nodes, id).map_err(system("memory"))?;
    let plain = (config.plain != 0).then(|| Plain::new(&memory.ram, frames, config.plain as usize));
    let plain = plain.transpose().map_err(system("memory for drivers"))?;
    let space = Space::new(bytes).map_err(system("address space"))?;
    let cpus = Division::new(config.cpus as u32, config.nodes);
    Ok(Hosted::new(id, cpus, memory, plain, space, Names::new(config.slots)))
}

pub(crate) fn system(what: &'static str) -> impl FnOnce(Errno) -> MachineError {
    move |errno| MachineError::System { what, errno }
}
