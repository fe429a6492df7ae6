//! [`Areas`]: memory, an address range and a vmalloc, in one value; and [`AreaCpu`], a thread that uses it.
//!
//! ```
//! use vmstack_hosted::{Areas, AreasConfig};
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let areas = Areas::mapped(&AreasConfig::new(64 << 20))?;
//!     let _cpu = areas.cpu()?;
//!     let area = areas.vmalloc().vzalloc(5000)?;
//!     let at = area.start().as_mut_ptr::<u8>();
//!     // SAFETY: the area is ours, mapped, and has 5,000 bytes.
//!     unsafe { at.add(4999).write(1) };
//!     Ok(())
//! }
//! ```
//!
//! A fault in the range is named by the signal handler (`signal`): a task that made it is killed, and its [`Outcome`](crate::Outcome) says what it
//! touched; elsewhere the process dies of it, and standard error says what it was.
//!
//! Contexts: task.

use core::fmt;
use core::ptr::NonNull;

use std::rc::Rc;
use std::sync::Arc;

use vmstack::Cpu as CpuNumber;
use vmstack_vmalloc::Vmalloc;

use crate::alternate::AlternateStack;
use crate::arch::PAGE_SIZE;
use crate::cpu::CpuError;
use crate::frames::FrameCount;
use crate::machine::{MachineError, check_page_size, next_machine, system};
use crate::mapped::{MOST_FRAMES, Mapped};
use crate::memory::Ram;
use crate::online::Online;
use crate::paged::{Backing, Paged};
use crate::registry::{AREAS, MACHINES, Registration};
use crate::runs::RunTable;
use crate::signal;
use crate::tabled::Tabled;
use crate::thread::{self, CpuState};

/// What one leaf table maps, in bytes.
const CHUNK: usize = PAGE_SIZE * (PAGE_SIZE / 8);

/// What is asked of a vmalloc in this process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AreasConfig {
    bytes: usize,
    frames: usize,
    cpus: usize,
}

impl AreasConfig {
    /// `bytes` of addresses, rounded up to what one leaf table maps, for one CPU, and as many frames.
    #[must_use]
    pub const fn new(bytes: usize) -> Self {
        let bytes = bytes.next_multiple_of(CHUNK);
        Self { bytes, frames: bytes / PAGE_SIZE, cpus: 1 }
    }

    /// How many threads can be CPUs at a time.
    #[must_use]
    pub const fn cpus(self, cpus: usize) -> Self {
        Self { cpus, ..self }
    }

    /// How many frames its memory has.
    #[must_use]
    pub const fn frames(self, frames: usize) -> Self {
        Self { frames, ..self }
    }

    fn frame_count(&self) -> Result<u32, MachineError> {
        let fits = self.frames != 0 && self.frames <= MOST_FRAMES;
        u32::try_from(self.frames).ok().filter(|_| fits).ok_or(MachineError::Frames)
    }
}

/// A vmalloc in this process.
pub struct Areas<B: Backing> {
    /// First, so that the fault handler forgets the vmalloc before it goes.
    _registration: Option<Registration<Vmalloc<Paged<Mapped>>>>,
    vmalloc: Arc<Vmalloc<Paged<B>>>,
    online: Online,
}

impl Areas<Mapped> {
    /// One whose areas are mapped by the host.
    ///
    /// # Errors
    ///
    /// [`MachineError`]; then nothing is kept, but for the signal handler.
    pub fn mapped(config: &AreasConfig) -> Result<Self, MachineError> {
        let backing = Mapped::new(config.bytes, CHUNK).map_err(system("address space"))?;
        let mut areas = Self::new(config, backing)?;
        let range = areas.vmalloc.pager().backing.range();
        let too_many = MachineError::TooManyMachines { max: MACHINES };
        areas._registration = Some(AREAS.add(range, Arc::clone(&areas.vmalloc)).ok_or(too_many)?);
        signal::install().map_err(system("signal handler"))?;
        Ok(areas)
    }
}

impl Areas<Tabled> {
    /// One whose page tables are memory that nobody walks: to measure (`tabled`).
    ///
    /// # Errors
    ///
    /// [`MachineError`]; then nothing is kept.
    pub fn tabled(config: &AreasConfig) -> Result<Self, MachineError> {
        let backing = Tabled::new(config.bytes, CHUNK, config.cpus).map_err(system("address space"))?;
        Self::new(config, backing)
    }
}

impl<B: Backing> Areas<B> {
    fn new(config: &AreasConfig, backing: B) -> Result<Self, MachineError> {
        check_page_size()?;
        let (frames, id, range) = (config.frame_count()?, next_machine(), backing.range());
        let ram = Ram::new(frames).map_err(system("memory"))?;
        let pager = Paged::new(id, ram, RunTable::new(frames, config.cpus, id), backing);
        let vmalloc = Arc::new(Vmalloc::new(pager));
        // SAFETY: the range was reserved for this vmalloc, and goes back when it is dropped.
        unsafe { vmalloc.init(range, config.cpus) }.map_err(MachineError::Vmalloc)?;
        Ok(Self { _registration: None, vmalloc, online: Online::new(config.cpus) })
    }

    /// Makes this thread a CPU.
    ///
    /// # Errors
    ///
    /// [`CpuError`]; then nothing is kept.
    pub fn cpu(&self) -> Result<AreaCpu<'_, B>, CpuError> {
        AreaCpu::new(self)
    }

    /// The vmalloc. Allocating and freeing wants a thread that is a CPU.
    #[must_use]
    pub fn vmalloc(&self) -> &Vmalloc<Paged<B>> {
        &self.vmalloc
    }

    /// Counts the frames, by looking at each.
    #[must_use]
    pub fn frames(&self) -> FrameCount {
        self.vmalloc.pager().recount()
    }
}

impl<B: Backing> fmt::Debug for Areas<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Areas").field("range", &self.vmalloc.pager().backing.range()).finish_non_exhaustive()
    }
}

/// A CPU of a vmalloc: this thread.
///
/// Having one means that this thread has a number which no other thread has, and a stack of its own for its signals. Dropping it leaves to the others what
/// is kept under that number.
pub struct AreaCpu<'a, B: Backing> {
    areas: &'a Areas<B>,
    /// Where the signal handler finds it, so it is freed only after it left the thread's list.
    state: NonNull<CpuState>,
    _alternate_stack: Rc<AlternateStack>,
}

impl<'a, B: Backing> AreaCpu<'a, B> {
    fn new(areas: &'a Areas<B>) -> Result<Self, CpuError> {
        let (id, online) = (areas.vmalloc.pager().id(), &areas.online);
        let cpu = thread::number_in(id);
        if cpu.index() < online.cpus() {
            return Err(CpuError::AlreadyOnline { cpu });
        }
        let alternate_stack = AlternateStack::of_thread().map_err(CpuError::AlternateStack)?;
        let number = online.take().ok_or(CpuError::AllOnline { cpus: online.cpus() })?;
        let state = NonNull::from(Box::leak(Box::new(CpuState::new(id, number))));
        let cpu = Self { areas, state, _alternate_stack: alternate_stack };
        // SAFETY: it is freed in `drop`, after it has left; the pointer keeps this on its thread.
        unsafe { cpu.state().join() };
        Ok(cpu)
    }

    const fn state(&self) -> &CpuState {
        // SAFETY: made in `new`, freed in `drop`, and only ever shared.
        unsafe { self.state.as_ref() }
    }

    /// The number of this CPU.
    #[must_use]
    pub const fn number(&self) -> CpuNumber {
        self.state().number()
    }

    /// Says that this thread looks at no area until it next allocates or frees one: nobody waits for it.
    pub fn idle(&self) {
        self.areas.vmalloc.pager().backing.idles(self.number());
    }
}

impl<B: Backing> Drop for AreaCpu<'_, B> {
    fn drop(&mut self) {
        self.areas.vmalloc.leave_cpu();
        if self.areas.online.goes_last() {
            self.areas.vmalloc.drain();
        }
        self.idle();
        self.state().leave();
        self.areas.online.give(self.number());
        // SAFETY: it was leaked in `new`, and the thread's list does not know it any more.
        drop(unsafe { Box::from_raw(self.state.as_ptr()) });
    }
}

impl<B: Backing> fmt::Debug for AreaCpu<'_, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AreaCpu").field("number", &self.number()).finish_non_exhaustive()
    }
}
