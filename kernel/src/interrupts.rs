//! Interrupts: what each vector means, and the messages between CPUs.
//!
//! | vector | what |
//! | --- | --- |
//! | the timer's | a tick |
//! | `POKE` | another CPU queued a task: an idle CPU wakes up and looks |
//! | `FORGET` | another CPU changed the user memory that this one runs on: forget it |
//! | `LOOK` | another CPU raised a flag of the task here: the way out of the handler looks |
//! | `GIVE_BACK` | another CPU is short of memory: give back the stacks that are kept ready here |
//! | `SHOOTDOWN` | another CPU unmapped stacks: flush, then acknowledge |
//! | a [`Source`]'s | raised on purpose by a crash script: counted, and the device is told |
//!
//! Handlers run on the CPU's interrupt stack, with interrupts off.

use core::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use arrayvec::ArrayVec;
use vmstack::Cpu;

use crate::arch::acpi::Madt;
use crate::arch::apic::{self, Message, Target};
use crate::arch::cpu;
use crate::arch::edu;
use crate::arch::frame::TrapFrame;
use crate::arch::ioapic::{IoApic, Route};
use crate::arch::percpu::{self, MAX_CPUS, PerCpu};
use crate::arch::provoke;
use crate::mm::memory::active;
use crate::process::signal::timers;
use crate::stacks::shootdown;
use crate::sync::{AnyLock, SpinLock, rcu};
use crate::task::sched;
use crate::{crash, pressure};

const POKE: u8 = apic::VECTOR_IPI;
const SHOOTDOWN: u8 = apic::VECTOR_IPI + 1;
const LOOK: u8 = apic::VECTOR_IPI + 2;
const FORGET: u8 = apic::VECTOR_IPI + 3;
const GIVE_BACK: u8 = apic::VECTOR_IPI + 4;

/// Where interrupts come from that are raised on purpose: a vector each, and what serves it.
#[derive(Debug)]
pub(crate) struct Source {
    /// In facts.
    pub(crate) name: &'static str,
    pub(crate) vector: u8,
    /// Tells the device that it was heard, so that it lets go of its line.
    acknowledge: fn(),
    served: AtomicU32,
}

impl Source {
    const fn new(name: &'static str, vector: u8, acknowledge: fn()) -> Self {
        Self { name, vector, acknowledge, served: AtomicU32::new(0) }
    }

    /// How often it was served.
    pub(crate) const fn served(&self) -> &AtomicU32 {
        &self.served
    }

    /// The same for an interrupt whose handler runs, and for one that is found undelivered.
    fn serve(&self) {
        crash::in_interrupt();
        (self.acknowledge)();
        self.served.fetch_add(1, Ordering::Relaxed);
    }
}

/// A message from a CPU, to itself or to another.
pub(crate) static IPI: Source = Source::new("ipi", apic::VECTOR_PROVOKED, || ());
/// A device's message.
pub(crate) static MESSAGE: Source = Source::new("message", apic::VECTOR_PROVOKED + 1, edu::acknowledge);
/// A device's line, triggered by level.
pub(crate) static LINE: Source = Source::new("line", apic::VECTOR_PROVOKED + 2, edu::acknowledge);
static SOURCES: [&Source; 3] = [&IPI, &MESSAGE, &LINE];

/// The lines of the machine: the I/O APICs that they end in, and how they are wired.
#[derive(Debug)]
struct Lines {
    io_apics: ArrayVec<IoApic, 8>,
    madt: Madt,
}

static LINES: SpinLock<Option<Lines>> = SpinLock::new("interrupt-lines", None);

/// The lock of the lines.
pub(crate) fn lock() -> &'static dyn AnyLock {
    &LINES
}

/// Takes the I/O APICs that `madt` lists, all lines held back.
///
/// # Safety
///
/// Called once, on the final tables; the table is this machine's.
pub(crate) unsafe fn init_lines(madt: &Madt) {
    // SAFETY: the addresses are those of I/O APICs, which `mm::tables` maps uncached, and nobody else takes them.
    let io_apics = madt.io_apics().iter().map(|&info| unsafe { IoApic::new(info) }).collect();
    *LINES.lock_or_reset(|_| None) = Some(Lines { io_apics, madt: *madt });
}

/// Lets the legacy line `irq` interrupt the CPU with `apic_id`, with `vector`. False if there is no such line.
pub(crate) fn route_line(irq: u8, vector: u8, apic_id: u32) -> bool {
    let mut lines = LINES.lock_or_reset(|_| None);
    let Some(Lines { io_apics, madt }) = lines.as_mut() else { return false };
    let wired = madt.legacy_line(irq);
    let route = Route::legacy(wired, vector, apic_id);
    ROUTED.store(wired.gsi, Ordering::Relaxed);
    ROUTED_LINE.store(u64::from(irq) | u64::from(vector) << 8 | u64::from(apic_id) << 16, Ordering::Relaxed);
    io_apics.iter_mut().any(|io_apic| io_apic.route(wired.gsi, route))
}

/// Routes the line that was routed last to the boot CPU, if the CPU with `apic_id` has it: that one goes offline.
pub(crate) fn move_line(apic_id: u32) {
    let line = ROUTED_LINE.load(Ordering::Relaxed);
    let (irq, vector, cpu) = (line as u8, (line >> 8) as u8, (line >> 16) as u32);
    if vector != 0 && cpu == apic_id {
        let boot = percpu::of(Cpu::new(0)).map_or(0, PerCpu::apic_id);
        route_line(irq, vector, boot);
    }
}

/// The line that was routed last: its number, its vector, and the APIC id, from the lowest byte up; zero: none.
static ROUTED_LINE: AtomicU64 = AtomicU64::new(0);

/// How often an NMI's handler came to its end on each CPU.
static NMI_ENDS: [AtomicUsize; MAX_CPUS] = [const { AtomicUsize::new(0) }; MAX_CPUS];

/// How often an NMI's handler came to its end on `cpu`.
pub(crate) fn nmis(cpu: usize) -> usize {
    NMI_ENDS[cpu].load(Ordering::Relaxed)
}

/// An NMI that stops nothing: of a crash script, or of nobody.
pub(crate) fn nmi() {
    crash::in_nmi();
    NMI_ENDS[percpu::cpu_number().index()].fetch_add(1, Ordering::Relaxed);
}

/// How many handlers can be nested on one CPU.
const NESTED: usize = 16;

/// The vectors whose handlers have begun on a CPU and not ended, the outermost first: its own in-service stack. What the APIC
/// has in service beyond these was being delivered when a stack ended.
struct Serving {
    depth: AtomicUsize,
    vectors: [AtomicU8; NESTED],
    /// The preemption count of what the outermost handler interrupted.
    preempt_count: AtomicU32,
}

static SERVING: [Serving; MAX_CPUS] = [const { Serving::new() }; MAX_CPUS];

impl Serving {
    const fn new() -> Self {
        let vectors = [const { AtomicU8::new(0) }; NESTED];
        Self { depth: AtomicUsize::new(0), vectors, preempt_count: AtomicU32::new(0) }
    }

    fn of_this_cpu() -> &'static Self {
        &SERVING[percpu::cpu_number().index()]
    }

    fn begin(&self, vector: u8) {
        let depth = self.depth.load(Ordering::Relaxed);
        if depth == 0 {
            let preempt_count = percpu::this_cpu().preempt_count();
            self.preempt_count.store(preempt_count, Ordering::Relaxed);
            shootdown::awake();
            rcu::note_interrupt(preempt_count);
        }
        if let Some(place) = self.vectors.get(depth) {
            place.store(vector, Ordering::Relaxed);
        }
        self.depth.store(depth + 1, Ordering::Relaxed);
    }

    fn end(&self) {
        self.depth.fetch_sub(1, Ordering::Relaxed);
    }

    /// Drives grace periods on, unless a reader was interrupted.
    fn poll_rcu(&self) {
        if self.depth.load(Ordering::Relaxed) == 1 && self.preempt_count.load(Ordering::Relaxed) == 0 {
            rcu::poll();
        }
    }

    /// The innermost handler's vector.
    fn innermost(&self) -> Option<u8> {
        let depth = self.depth.load(Ordering::Relaxed);
        Some(self.vectors.get(depth.checked_sub(1)?)?.load(Ordering::Relaxed))
    }
}

/// Handles the interrupt in `frame`, and ends it in the APIC.
pub(crate) fn handle(frame: &TrapFrame) {
    let serving = Serving::of_this_cpu();
    serving.begin(frame.vector as u8);
    serve(frame.vector as u8);
    serving.end();
}

/// Gives up the handlers that have begun on this CPU: ends their interrupts, and masks what raised them. Interrupts that were
/// being delivered on top of them are delivered again. The preemption count is what it was before the first of them.
///
/// # Context
///
/// Interrupts off, on a stack that is none of theirs.
pub(crate) fn abandon() {
    let serving = Serving::of_this_cpu();
    percpu::this_cpu().set_preempt_count(serving.preempt_count.load(Ordering::Relaxed));
    while let Some(vector) = apic::in_service().highest() {
        if serving.innermost() == Some(vector) {
            serving.end();
            mask_source(vector);
            end(vector);
        } else {
            deliver_again(vector);
        }
    }
    // Handlers that had ended their interrupts already.
    serving.depth.store(0, Ordering::Relaxed);
}

/// Masks what raises `vector`, so that a handler which overflows does not do so again at once.
///
/// The timer and the messages between CPUs are not masked: the machine cannot do without them, and nothing but the kernel itself
/// raises them. A device's message is the device's to hold back: there is no mask between it and the CPU.
fn mask_source(vector: u8) {
    if vector == LINE.vector {
        mask_line(true);
    }
}

/// Holds the line back that was routed last, or lets it through again. False if there is none.
pub(crate) fn mask_line(masked: bool) -> bool {
    let gsi = ROUTED.load(Ordering::Relaxed);
    let mut lines = LINES.lock_or_reset(|_| None);
    lines.as_mut().is_some_and(|lines| lines.io_apics.iter_mut().any(|io_apic| io_apic.mask(gsi, masked)))
}

/// The input that [`route_line`] routed last.
static ROUTED: AtomicU32 = AtomicU32::new(u32::MAX);

/// Ends the interrupt in the APIC. A spurious one is not in service: ending it would end another.
fn end(vector: u8) {
    if vector != apic::VECTOR_SPURIOUS {
        apic::end_of_interrupt();
    }
}

/// Ends the interrupt of `vector`, which is in service though its handler never ran, and has it delivered again: by its line, which
/// is up still, or by a message from this CPU to itself. Nothing else of a higher priority is in service.
///
/// Its handler then runs as any other, on the interrupt stack, and can be abandoned as any other.
fn deliver_again(vector: u8) {
    // Before the end of the interrupt, which forgets how it came.
    if !apic::by_level().contains(vector) {
        let sent = apic::send(Target::One(apic::id()), Message::Fixed(vector));
        debug_assert!(sent.is_ok());
    }
    end(vector);
}

/// Serves the interrupts that were being delivered to this CPU when a stack ended: they are in service in the APIC, and their
/// handlers never ran. Returns how many there were. On return each has run to its end, or was abandoned.
///
/// # Context
///
/// Interrupts off, no handler running on this CPU, on a stack with room.
pub(crate) fn serve_undelivered() -> usize {
    // The task may have died of an event for which everything else was held up.
    provoke::let_everything_in();
    let mut served = 0;
    while let Some(vector) = apic::in_service().highest() {
        deliver_again(vector);
        served += 1;
    }
    if served != 0 {
        // Not now: a task that is dying has other things to do first.
        percpu::preempt_disable();
        cpu::take_interrupts();
        percpu::preempt_enable();
    }
    served
}

/// The timer's tick. One CPU's is the machine's.
fn tick() {
    shootdown::pass();
    sched::tick();
    pressure::tick();
    Serving::of_this_cpu().poll_rcu();
    if percpu::cpu_number().index() == 0 {
        timers::tick();
    }
}

fn serve(vector: u8) {
    match vector {
        apic::VECTOR_TIMER => tick(),
        POKE => percpu::this_cpu().set_need_resched(true),
        SHOOTDOWN => shootdown::acknowledge(),
        FORGET => active::hear(),
        GIVE_BACK => pressure::answer(),
        LOOK => {}
        vector => SOURCES.iter().filter(|source| source.vector == vector).for_each(|source| source.serve()),
    }
    end(vector);
}

/// Makes `cpus`, by bit, look at the run queue.
pub(crate) fn poke(cpus: u64) {
    let mut left = cpus;
    while left != 0 {
        let cpu = left.trailing_zeros();
        left &= left - 1;
        if let Some(block) = percpu::of(Cpu::new(cpu)) {
            send_to(Target::One(block.apic_id()), POKE);
        }
    }
}

/// Makes the CPU of `block`, another one, look at its flags.
pub(crate) fn ask_to_look(block: &PerCpu) {
    send_to(Target::One(block.apic_id()), LOOK);
}

/// Makes the other CPUs flush and acknowledge. Does not wait for them.
pub(crate) fn ask_for_shootdown() {
    send(SHOOTDOWN);
}

/// Makes the other CPUs give back the stacks that they keep ready. Does not wait for them.
pub(crate) fn ask_to_give_back() {
    send(GIVE_BACK);
}

/// Makes this CPU flush and acknowledge when it next takes interrupts, as the others do when they are asked: to be counted.
pub(crate) fn ask_self_for_shootdown() {
    send_to(Target::One(apic::id()), SHOOTDOWN);
}

/// Makes CPU number `cpu` forget what it knows of the user memory that it runs on. Does not wait for it.
pub(crate) fn ask_to_forget(cpu: usize) {
    if let Some(block) = percpu::of(Cpu::new(cpu as u32)) {
        send_to(Target::One(block.apic_id()), FORGET);
    }
}

/// Sends `vector` to the other CPUs.
fn send(vector: u8) {
    if shootdown::others_are_up() {
        send_to(Target::AllButSelf, vector);
    }
}

/// Sends `vector` to `target`. An APIC that is busy is asked again: a shootdown that is not heard is never due.
fn send_to(target: Target, vector: u8) {
    const TRIES: usize = 1000;
    let sent = (0..TRIES).any(|_| apic::send(target, Message::Fixed(vector)).is_ok());
    assert!(sent, "the APIC does not send vector {vector:#x}");
}

/// Stops the other CPUs, wherever they are.
pub(crate) fn stop_others() {
    // Nothing can be done about a message that is not delivered by a machine that is being stopped.
    let _ = apic::send(Target::AllButSelf, Message::Nmi);
}
