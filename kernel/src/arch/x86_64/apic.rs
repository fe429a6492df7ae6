//! The local APIC of the CPU that runs this: interrupts in, interrupts to other CPUs out, and a timer.
//!
//! xAPIC: registers in memory, at the same physical address on every CPU, seen through the direct map. Whoever makes
//! the final page tables maps that page uncached. x2APIC mode is not used, and an APIC that firmware left in it is
//! refused.
//!
//! The vectors:
//!
//! ```text
//! 0x00 - 0x1f  exceptions
//! 0x20 - 0x2f  spurious interrupts of the legacy controllers (pic.rs)
//! 0x30 - 0xdf  lines of the I/O APICs and messages of devices, as the kernel routes them (ioapic.rs)
//! 0xe0 - 0xee  the kernel's inter-processor interrupts, as it names them
//! 0xef         the timer
//! 0xf0 - 0xfe  what crashes raise on purpose, whatever the source
//! 0xff         spurious: no EOI
//! ```
//!
//! The upper four bits of a vector are its priority. The provoked ones have the highest, and nothing else has it: a task
//! priority of 0xe0 lets them in and everything else wait, so that a crash knows what interrupts it (provoke.rs).
//!
//! Every function may be called in any context once `init` has run, but those that say otherwise.

use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use vmstack::{PhysAddr, VirtAddr};

use super::cpu::{self, InterruptsOff};
use super::layout::phys_to_virt;
use super::msr;
use super::pit;
use super::provoke::Store;

/// The first vector for the kernel's inter-processor interrupts; there are fifteen.
pub(crate) const VECTOR_IPI: u8 = 0xe0;
/// The timer's vector.
pub(crate) const VECTOR_TIMER: u8 = 0xef;
/// The first vector for interrupts that are raised on purpose; there are fifteen. Nothing else has their priority.
pub(crate) const VECTOR_PROVOKED: u8 = 0xf0;
/// The vector of an interrupt that went away before it was delivered. It has no in-service bit, so it is not ended.
pub(crate) const VECTOR_SPURIOUS: u8 = 0xff;

const ID: usize = 0x20;
const TASK_PRIORITY: usize = 0x80;
const END_OF_INTERRUPT: usize = 0xb0;
const SPURIOUS: usize = 0xf0;
const IN_SERVICE: usize = 0x100;
const TRIGGER_MODE: usize = 0x180;
const ERROR_STATUS: usize = 0x280;
const COMMAND_LOW: usize = 0x300;
const COMMAND_HIGH: usize = 0x310;
const LVT_TIMER: usize = 0x320;
const LVT_LINT0: usize = 0x350;
const LVT_LINT1: usize = 0x360;
const LVT_ERROR: usize = 0x370;
const TIMER_INITIAL: usize = 0x380;
const TIMER_CURRENT: usize = 0x390;
const TIMER_DIVIDE: usize = 0x3e0;

const BASE_ENABLED: u64 = 1 << 11;
const BASE_X2APIC: u64 = 1 << 10;
const BASE_ADDRESS: u64 = 0x000f_ffff_ffff_f000;
const SOFTWARE_ENABLED: u32 = 1 << 8;
const MASKED: u32 = 1 << 16;
const PERIODIC: u32 = 1 << 17;
const DELIVER_NMI: u32 = 4 << 8;
const DELIVER_INIT: u32 = 5 << 8;
const DELIVER_STARTUP: u32 = 6 << 8;
const ASSERT: u32 = 1 << 14;
const PENDING: u32 = 1 << 12;
const ALL_BUT_SELF: u32 = 3 << 18;
const DIVIDE_BY_16: u32 = 0b0011;
/// How often the command register is read before a message is taken for lost.
const PATIENCE: u32 = 1_000_000;
/// How long the timer is measured for, in microseconds.
const CALIBRATION: u64 = 10_000;

/// Where the registers are, as a virtual address; zero until `init`.
static REGISTERS: AtomicU64 = AtomicU64::new(0);
/// What the timer counts in a second; zero until measured. One clock drives all CPUs' timers.
static TIMER_HERTZ: AtomicU64 = AtomicU64::new(0);

/// Why the local APIC cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ApicError {
    /// It is in x2APIC mode.
    X2Apic,
    /// `init` has not run.
    NotInitialised,
    /// The interval timer does not count, so the rate of the APIC's timer is unknown.
    NoClock,
    /// A rate of so many interrupts a second cannot be had.
    BadRate(u32),
    /// The message to the CPU with this APIC id was not accepted in time.
    NotDelivered(u32),
}

impl fmt::Display for ApicError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::X2Apic => write!(f, "firmware left the local APIC in x2APIC mode, which this kernel does not use"),
            Self::NotInitialised => write!(f, "the local APIC is not set up yet"),
            Self::NoClock => write!(f, "the interval timer does not count: the APIC timer's rate is unknown"),
            Self::BadRate(hertz) => write!(f, "the APIC timer cannot interrupt {hertz} times a second"),
            Self::NotDelivered(id) => write!(f, "APIC {id} did not accept a message"),
        }
    }
}

/// Whom an inter-processor interrupt is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Target {
    /// The CPU with this local APIC id.
    One(u32),
    /// Every CPU but the sender, those that were never started included (they ignore all but INIT and STARTUP).
    AllButSelf,
}

/// What an inter-processor interrupt is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Message {
    /// An interrupt of this vector, from 32.
    Fixed(u8),
    /// A non-maskable interrupt.
    Nmi,
    /// To the state after reset, waiting for `Startup`.
    Init,
    /// Out of that state, in real mode, at this page of 4 KiB.
    Startup(u8),
}

impl Message {
    /// The low half of the command that sends it.
    fn command(self) -> u32 {
        let kind = match self {
            Self::Fixed(vector) => u32::from(vector),
            Self::Nmi => DELIVER_NMI,
            Self::Init => DELIVER_INIT,
            Self::Startup(page) => DELIVER_STARTUP | u32::from(page),
        };
        kind | ASSERT
    }
}

fn register(offset: usize) -> Option<*mut u32> {
    let base = REGISTERS.load(Relaxed);
    (base != 0).then(|| VirtAddr::new(base as usize).wrapping_add(offset).as_mut_ptr())
}

/// Reads a register; zero before `init`.
fn read(offset: usize) -> u32 {
    // SAFETY: a register of this CPU's APIC, 32 bits, aligned to 16, mapped uncached.
    register(offset).map_or(0, |register| unsafe { register.read_volatile() })
}

/// Writes a register; nothing before `init`.
fn write(offset: usize, value: u32) {
    if let Some(register) = register(offset) {
        // SAFETY: a register of this CPU's APIC. It sends and takes interrupts; it does not touch memory.
        unsafe { register.write_volatile(value) };
    }
}

/// Where the registers are in physical memory: to be mapped uncached.
#[must_use]
pub(crate) fn registers_at() -> PhysAddr {
    PhysAddr::new(msr::APIC_BASE.read() & BASE_ADDRESS)
}

/// Turns on the local APIC of the CPU that runs this: every source masked, priorities open, spurious vector set.
///
/// The boot CPU's call also masks the legacy controllers.
///
/// # Errors
///
/// `X2Apic`.
pub(crate) fn init() -> Result<(), ApicError> {
    let base = msr::APIC_BASE.read();
    if base & BASE_X2APIC != 0 {
        return Err(ApicError::X2Apic);
    }
    // SAFETY: on, at the address where it is.
    unsafe { msr::APIC_BASE.write(base | BASE_ENABLED) };
    let registers = phys_to_virt(registers_at()).get() as u64;
    if REGISTERS.swap(registers, Relaxed) == 0 {
        super::pic::mask_all();
    }
    for source in [LVT_TIMER, LVT_LINT0, LVT_LINT1, LVT_ERROR] {
        write(source, MASKED);
    }
    write(TASK_PRIORITY, 0);
    write(SPURIOUS, SOFTWARE_ENABLED | u32::from(VECTOR_SPURIOUS));
    write(ERROR_STATUS, 0);
    Ok(())
}

/// The id of this CPU's local APIC.
#[must_use]
pub(crate) fn id() -> u32 {
    read(ID) >> 24
}

/// Ends the interrupt of the highest vector in service. Not for `VECTOR_SPURIOUS` nor an NMI.
pub(crate) fn end_of_interrupt() {
    write(END_OF_INTERRUPT, 0);
}

/// Lets in only vectors whose priority, the upper four bits, is above that of `priority`. Zero lets all in.
pub(crate) fn set_task_priority(priority: u8) {
    write(TASK_PRIORITY, u32::from(priority));
}

/// A set of vectors, as the APIC keeps it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Vectors([u32; 8]);

impl Vectors {
    fn read(first: usize) -> Self {
        Self(core::array::from_fn(|word| read(first + word * 0x10)))
    }

    /// Whether `vector` is in the set.
    #[must_use]
    pub(crate) fn contains(self, vector: u8) -> bool {
        self.0[usize::from(vector / 32)] & 1 << (vector % 32) != 0
    }

    /// The highest vector in the set.
    #[must_use]
    pub(crate) fn highest(self) -> Option<u8> {
        // Not by asking for each: whoever is killed comes here.
        let (word, bits) = self.0.iter().enumerate().rfind(|(_, bits)| **bits != 0)?;
        Some(word as u8 * 32 + (31 - bits.leading_zeros() as u8))
    }
}

/// The interrupts whose delivery to this CPU has begun and that have not been ended.
#[must_use]
pub(crate) fn in_service() -> Vectors {
    Vectors::read(IN_SERVICE)
}

/// Of the interrupts that this CPU has accepted, those that came by a line which is triggered by level: such a line asks again when
/// its interrupt is ended and the device was not heard.
#[must_use]
pub(crate) fn by_level() -> Vectors {
    Vectors::read(TRIGGER_MODE)
}

/// Sends `message` to `target`.
///
/// # Errors
///
/// `NotDelivered` if the message before, or this one, is not accepted within a bounded time.
pub(crate) fn send(target: Target, message: Message) -> Result<(), ApicError> {
    let (destination, shorthand) = match target {
        Target::One(id) => (id, 0),
        Target::AllButSelf => (0, ALL_BUT_SELF),
    };
    // The command is two registers: a handler that sends in between would change where this goes.
    let _guard = InterruptsOff::new();
    let lost = ApicError::NotDelivered(destination);
    wait_until_sent().then_some(()).ok_or(lost)?;
    write(COMMAND_HIGH, destination << 24);
    write(COMMAND_LOW, message.command() | shorthand);
    wait_until_sent().then_some(()).ok_or(lost)
}

/// The one store that sends `message` to this very CPU; `None` before `init`.
///
/// # Context
///
/// Interrupts off from before this call until the store: a message in between would change where it goes.
#[must_use]
pub(crate) fn to_self(message: Message) -> Option<Store> {
    let command = register(COMMAND_LOW)?;
    write(COMMAND_HIGH, id() << 24);
    // SAFETY: a register of this CPU's APIC. It interrupts this CPU; it does not touch memory.
    Some(unsafe { Store::new(command, message.command()) })
}

fn wait_until_sent() -> bool {
    (0..PATIENCE).any(|_| {
        cpu::relax();
        read(COMMAND_LOW) & PENDING == 0
    })
}

/// Measures the timer's rate, once, and returns it in counts a second. The boot CPU does so before it starts the
/// others.
///
/// # Errors
///
/// `NoClock`, `NotInitialised`.
pub(crate) fn calibrate_timer() -> Result<u64, ApicError> {
    register(0).ok_or(ApicError::NotInitialised)?;
    let known = TIMER_HERTZ.load(Relaxed);
    if known != 0 {
        return Ok(known);
    }
    let _guard = InterruptsOff::new();
    write(TIMER_DIVIDE, DIVIDE_BY_16);
    write(LVT_TIMER, MASKED | u32::from(VECTOR_TIMER));
    write(TIMER_INITIAL, u32::MAX);
    let hertz = pit::calibrate(CALIBRATION, || u64::from(u32::MAX - read(TIMER_CURRENT)));
    write(TIMER_INITIAL, 0);
    let hertz = hertz.filter(|hertz| *hertz != 0).ok_or(ApicError::NoClock)?;
    TIMER_HERTZ.store(hertz, Relaxed);
    Ok(hertz)
}

/// Makes this CPU's timer interrupt no more.
pub(crate) fn stop_timer() {
    write(LVT_TIMER, MASKED | u32::from(VECTOR_TIMER));
    write(TIMER_INITIAL, 0);
}

/// Makes this CPU's timer interrupt `hertz` times a second, at `VECTOR_TIMER`.
///
/// # Errors
///
/// `BadRate`, and what `calibrate_timer` says.
pub(crate) fn start_timer(hertz: u32) -> Result<(), ApicError> {
    let bad = ApicError::BadRate(hertz);
    let counts = calibrate_timer()?.checked_div(u64::from(hertz)).ok_or(bad)?;
    let initial = u32::try_from(counts).ok().filter(|counts| *counts != 0).ok_or(bad)?;
    write(TIMER_DIVIDE, DIVIDE_BY_16);
    write(LVT_TIMER, PERIODIC | u32::from(VECTOR_TIMER));
    write(TIMER_INITIAL, initial);
    Ok(())
}
