//! Tasks that die while the device has their stack, and whoever has that stack next.
//!
//! ```text
//!   task      ask ── the device is told to copy a part ── dies
//!   script                                                  └── who has its frames? ── the rest is copied ── ended ── who reads zero?
//! ```
//!
//! The device is told to go on by whoever polls. So what it copies after the death it surely copies after the death.

use alloc::vec::Vec;
use core::hint::black_box;
use core::mem::MaybeUninit;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use vmstack::{Direction, DmaPolicy, DmaRequest, Located, Phase, PhysAddr, VirtAddr};

use super::super::script::Victim;
use super::super::stack::{exhaust_stack, own_stack};
use super::bytes::{DEVICES, OURS, Stretch, VICTIMS, load_device};
use super::engine::{self, Ticket};
use super::facts;
use crate::arch::layout::PAGE_SIZE;
use crate::dma::DOOR;
use crate::mm::{frames, tables};
use crate::stacks::{Stack, TASK_STACK, TASKS};
use crate::task::sched;
use crate::{boot, fact, pressure, println};

/// What the device is asked to write: more than it copies at once, over the end of the lowest page, which the task never uses.
const BYTES: usize = 1536;
/// Where that begins: bytes above the bottom of the stack.
const OFFSET: usize = PAGE_SIZE - BYTES / 2;
/// Pages of a stack.
const PAGES: usize = TASK_STACK / PAGE_SIZE;
/// Stacks and frames that others take meanwhile.
const STACKS: usize = 48;
const FRAMES: usize = 2048;
/// Stacks that are taken until the one that was looked for is among them.
const SEARCHED: usize = 1024;

/// How long a stack is waited for that nobody stands on any more, in ticks.
const PATIENCE: u64 = 100;

/// How a task ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Death {
    Overflow,
    Exit,
}

impl Death {
    const fn word(self) -> &'static str {
        match self {
            Self::Overflow => "overflow",
            Self::Exit => "exit",
        }
    }
}

/// The number of the request of the task that dies; zero if it was refused.
static TICKET: AtomicUsize = AtomicUsize::new(0);
/// Where its stack begins.
static LOW: AtomicUsize = AtomicUsize::new(0);
/// The frames of its stack.
static OWN_FRAMES: [AtomicU64; PAGES] = [const { AtomicU64::new(0) }; PAGES];

/// Asks for a part of the current task's own stack, for the device to write.
fn ask_to_write(offset: usize, bytes: usize) -> Option<Ticket> {
    let request = DmaRequest::new(own_stack().0.wrapping_add(offset), bytes, Direction::FromDevice);
    match engine::submit(&request) {
        Ok(passed) => {
            facts::passed("write", &passed);
            Some(passed.ticket)
        }
        Err(error) => {
            facts::refused("write", &error);
            None
        }
    }
}

/// The frames of the stack that begins at `low`.
fn frames_of(low: VirtAddr) -> impl Iterator<Item = PhysAddr> {
    (0..PAGES).filter_map(move |page| tables::translate(low.wrapping_add(page * PAGE_SIZE)))
}

/// Notes where the current task's stack is: once it is dead, nobody can ask it.
fn note_stack() {
    LOW.store(own_stack().0.get(), Ordering::Relaxed);
    OWN_FRAMES
        .iter()
        .zip(frames_of(own_stack().0))
        .for_each(|(place, frame)| place.store(frame.get(), Ordering::Relaxed));
}

/// Asks, and has the device begin.
fn ask_and_begin() {
    note_stack();
    let asked = ask_to_write(OFFSET, BYTES);
    engine::poll();
    TICKET.store(asked.map_or(0, |ticket| ticket.0), Ordering::Relaxed);
}

/// The frames that the dead task's stack had.
fn dead_frames() -> [PhysAddr; PAGES] {
    OWN_FRAMES.each_ref().map(|frame| PhysAddr::new(frame.load(Ordering::Relaxed)))
}

pub(super) fn in_mid_transfer() {
    on_one_cpu(|| [Death::Overflow, Death::Exit].into_iter().for_each(die));
}

/// A task dies while the device writes its stack. Others take stacks and frames; the device goes on; and then the stack is somebody's again.
fn die(death: Death) {
    load_device(DEVICES, BYTES);
    let act: fn() = match death {
        Death::Overflow => || {
            ask_and_begin();
            exhaust_stack();
        },
        Death::Exit => ask_and_begin,
    };
    let Some(victim) = Victim::start(act) else { return };
    victim.wait();
    let low = VirtAddr::new(LOW.load(Ordering::Relaxed));
    let ticket = Ticket(TICKET.load(Ordering::Relaxed));
    if ticket.0 == 0 {
        return;
    }
    let word = death.word();
    let begun = engine::begun();
    fact!("dma.dead", "{word} {} {BYTES} {begun}", fate_of(low));
    let strangers = Strangers::take();
    engine::poll_to_the_last_byte();
    fact!("dma.arrived", "{word} {} {}", BYTES - begun, arrived_behind(begun));
    fact!("dma.end", "{word} {}", engine::wait(ticket).word());
    strangers.say(word);
    drop(strangers);
    say_next_owner(word, low);
}

/// What has become of the stack that begins at `low`, once nobody stands on it.
fn fate_of(low: VirtAddr) -> &'static str {
    let end = sched::ticks() + PATIENCE;
    loop {
        let phase = match TASKS.locate(low, 1) {
            Located::Stack(span) | Located::Idle(span) => span.stack.phase,
            _ => return "nowhere",
        };
        match phase {
            phase if phase == Phase::Pinned as u8 => return "pinned",
            phase if phase != Phase::Live as u8 && phase != Phase::Dead as u8 => return "given-back",
            _ if sched::ticks() > end => return "kept",
            _ => sched::yield_now(),
        }
    }
}

/// How many bytes of the device's the frames have that were the dead task's, of those behind the first `begun`: they lie in the page above the lowest.
/// What is in these frames if nobody kept them is not ours to ask.
fn arrived_behind(begun: usize) -> usize {
    if DOOR.policy() != DmaPolicy::Map {
        return 0;
    }
    let [_, next, ..] = dead_frames();
    let start = (OFFSET + begun).saturating_sub(PAGE_SIZE);
    Stretch::of_frame(next.wrapping_add(start as u64), BYTES - begun).like_from(DEVICES, begun)
}

/// Stacks and frames of others, taken while the device has a dead task's.
struct Strangers {
    stacks: Vec<Stack>,
    frames: Vec<PhysAddr>,
}

impl Strangers {
    /// Takes them after everything that lies idle was given back: so what is free is handed out.
    fn take() -> Self {
        pressure::give_everything_back();
        let stacks = (0..STACKS).filter_map(|_| TASKS.alloc_waiting(0).ok()).collect();
        let frames: Vec<_> = (0..FRAMES).filter_map(|_| frames::take(0)).collect();
        frames.iter().for_each(|&frame| Stretch::of_frame(frame, PAGE_SIZE).fill(VICTIMS));
        Self { stacks, frames }
    }

    /// How many of them are, or have, a frame that was the dead task's.
    fn shared(&self) -> usize {
        let dead = dead_frames();
        let of_stacks = self.stacks.iter().flat_map(|stack| frames_of(stack.bottom()));
        of_stacks.chain(self.frames.iter().copied()).filter(|frame| dead.contains(frame)).count()
    }

    /// How many bytes of them are not what they were.
    fn altered(&self) -> usize {
        let stacks = self.stacks.iter().map(|stack| Stretch::new(stack.bottom(), TASK_STACK).not_zero());
        let frames = self.frames.iter().map(|&frame| PAGE_SIZE - Stretch::of_frame(frame, PAGE_SIZE).like(VICTIMS));
        stacks.chain(frames).sum()
    }

    /// Says how many stacks and frames there are, how many of them the dead task had, and how many bytes are not as they were.
    fn say(&self, word: &str) {
        let (stacks, frames) = (self.stacks.len(), self.frames.len());
        fact!("dma.strangers", "{word} {stacks} {frames} {} {}", self.shared(), self.altered());
    }
}

impl Drop for Strangers {
    fn drop(&mut self) {
        self.frames.drain(..).for_each(|frame| frames::give(frame, 0));
    }
}

/// Takes stacks until the one that begins at `low` is among them, and says whether it was, how many of its frames it had
/// before, and how many bytes of all of them are not zero.
fn say_next_owner(word: &str, low: VirtAddr) {
    let mut taken: Vec<Stack> = Vec::new();
    while taken.len() < SEARCHED && taken.last().is_none_or(|stack| stack.bottom() != low) {
        match TASKS.alloc_waiting(0) {
            Ok(stack) => taken.push(stack),
            Err(error) => return println!("vmstack: no stack: {error}"),
        }
    }
    let found = taken.last().is_some_and(|stack| stack.bottom() == low);
    let dirty: usize = taken.iter().map(|stack| Stretch::new(stack.bottom(), TASK_STACK).not_zero()).sum();
    let kept = frames_of(low).zip(dead_frames()).filter(|(now, then)| now == then).count();
    fact!("dma.next", "{word} {} {kept} {dirty}", u8::from(found));
}

/// The CPU on which a stack is given back, and asked for again: it comes from that CPU's cache, and so with the frames that it had.
const ONE_CPU: u64 = 1;

fn stay_on(cpus: u64) {
    sched::bind(&sched::current(), cpus);
    sched::go_where_it_may();
}

fn on_one_cpu(script: impl FnOnce()) {
    let usual = sched::cpus_of(&sched::current());
    stay_on(ONE_CPU);
    script();
    stay_on(usual);
}

/// The device writes a page that its task never touches. The task ends; the next one on that stack reads zero.
pub(super) fn then_reuse() {
    on_one_cpu(|| {
        load_device(DEVICES, BYTES);
        let Some(victim) = Victim::start(have_written) else { return };
        victim.wait();
        let low = VirtAddr::new(LOW.load(Ordering::Relaxed));
        fact!("dma.dead", "exit {} {BYTES} {BYTES}", fate_of(low));
        say_next_owner("write", low);
    });
}

/// Has the device write the lowest page, which is read here, and never written.
fn have_written() {
    const AT: usize = 64;
    stay_on(ONE_CPU);
    note_stack();
    let page = Stretch::new(own_stack().0, PAGE_SIZE);
    fact!("dma.untouched", "{}", page.not_zero());
    if let Some(ticket) = ask_to_write(AT, BYTES) {
        fact!("dma.end", "write {}", engine::wait(ticket).word());
        fact!("dma.bytes", "write {BYTES} {}", page.part(AT, BYTES).like(DEVICES));
    }
}

/// Requests of each task that overflows.
const FLIGHTS: usize = 3;
/// How long the buffers in its frame are.
const HEADER: usize = 80;
/// Tasks that have asked.
static READY: AtomicUsize = AtomicUsize::new(0);
/// Whether they are to overflow.
static FALL: AtomicBool = AtomicBool::new(false);
/// Whether somebody is to drive the device on.
static DRIVES: AtomicBool = AtomicBool::new(false);

/// On each CPU a task overflows whose stack the device has three times: it reads a buffer of a frame, and writes another one, and a page that
/// the task never uses. Another task ends what they began.
pub(super) fn overflow_in_flight() {
    READY.store(0, Ordering::Relaxed);
    FALL.store(false, Ordering::Relaxed);
    DRIVES.store(false, Ordering::Relaxed);
    let Some(driver) = Victim::start(drive) else { return };
    let victims: Vec<_> = (0..boot::cpus()).filter_map(|_| Victim::start(overflow_with_flights)).collect();
    while READY.load(Ordering::Acquire) < victims.len() {
        sched::yield_now();
    }
    // While they live.
    let lows: Vec<_> = victims.iter().map(|victim| victim.stack().0).collect();
    FALL.store(true, Ordering::Release);
    victims.iter().for_each(Victim::wait);
    let pinned = lows.iter().filter(|&&low| fate_of(low) == "pinned").count();
    fact!("dma.flights", "{} {} {pinned}", victims.len(), engine::in_table());
    DRIVES.store(true, Ordering::Release);
    driver.wait();
}

fn overflow_with_flights() {
    let mut headers = [const { MaybeUninit::<[u8; HEADER]>::uninit() }; 2];
    let at = VirtAddr::of(black_box(headers.as_mut_ptr()));
    Stretch::new(at, 2 * HEADER).fill(OURS);
    let requests = [
        DmaRequest::new(at, HEADER, Direction::ToDevice),
        DmaRequest::new(at.wrapping_add(HEADER), HEADER, Direction::FromDevice),
        DmaRequest::new(own_stack().0, HEADER, Direction::FromDevice),
    ];
    let asked: [_; FLIGHTS] = requests.map(|request| engine::submit(&request).map(|passed| passed.ticket.0));
    engine::poll();
    let refused = asked.iter().filter(|asked| asked.is_err()).count();
    if refused != 0 {
        println!("vmstack: {refused} requests were refused");
    }
    READY.fetch_add(1, Ordering::AcqRel);
    while !FALL.load(Ordering::Acquire) {
        sched::yield_now();
    }
    exhaust_stack();
    black_box(&mut headers);
}

/// Ends what others began, once they are dead, and says how.
fn drive() {
    while !DRIVES.load(Ordering::Acquire) {
        sched::sleep_until(sched::ticks() + 1);
    }
    let (finished, gone) = engine::wait_for_all();
    fact!("dma.ended", "{finished} {gone}");
}
