//! Requests at random: a disk reads and writes memory of every sort, on every CPU, and every byte is compared.
//!
//! ```text
//!   list of one request    | front | the piece in question                              | back |     whole sectors
//!                            owned   in a stack, over its pages' ends, over its own ends,  owned
//!                                    in a guard, in a stack that was given back, the heap...
//! ```
//!
//! What is on the disk is known for every byte, so what is read is compared with that, and what is written is read back into a buffer that owns its
//! frames. What should come of a request is known from where its piece was put: it says so before the door is asked. The bytes around a piece must
//! stay what they are.
//!
//! Facts: requests made, those of which a byte was wrong, those refused, those refused wrongly.

use alloc::vec;
use alloc::vec::Vec;
use core::slice;
use core::sync::atomic::{AtomicUsize, Ordering};

use vmstack::{Direction, DmaPolicy, DmaRequest, Refusal, VirtAddr};

use crate::arch::layout::PAGE_SIZE;
use crate::dice::Dice;
use crate::disk::{self, DiskError, NaturalDriver, SECTOR};
use crate::dma::{DOOR, DmaBuffer};
use crate::options::{DiskKind, Options};
use crate::stacks::{self, LARGE, LARGE_STACK, Stack};
use crate::task::{self, sched};
use crate::{boot, fact, println};

mod failing;

/// The longest piece, in bytes.
const LONGEST: usize = 64 << 10;
/// Where what is read lies on the disk, in sectors: from the first.
const READ_SECTORS: usize = 2048;
/// What each task writes to, in sectors, behind that.
const WRITE_SECTORS: usize = LONGEST / SECTOR + 4;
/// Bytes around a piece that are looked at too.
const MARGIN: usize = 64;
/// What memory holds before it is read into.
const BLANK: u8 = 0xa5;

/// How many requests each task makes.
static EACH: AtomicUsize = AtomicUsize::new(0);
/// How many tasks have a stack, and how many have given one back.
static HAVE_STACKS: AtomicUsize = AtomicUsize::new(0);
static HAVE_SEEN_OTHERS: AtomicUsize = AtomicUsize::new(0);
static DONE: AtomicUsize = AtomicUsize::new(0);
static WRONG: AtomicUsize = AtomicUsize::new(0);
static REFUSED: AtomicUsize = AtomicUsize::new(0);
static REFUSED_WRONGLY: AtomicUsize = AtomicUsize::new(0);
static FAILED: AtomicUsize = AtomicUsize::new(0);

/// What is at `place` of the disk, in bytes from its start.
const fn content(place: usize) -> u8 {
    ((place as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8
}

/// Makes them, by one task for each CPU, bounced and mapped.
pub(crate) fn make(options: &Options) {
    match options.disk {
        DiskKind::Good => {}
        DiskKind::Failing => return failing::failing(),
        DiskKind::Silent => return failing::silent(),
    }
    if !disk::is_there() || stacks::make_large().is_err() || !fill() {
        return println!("no disk that can be written, or no memory");
    }
    let cpus = boot::cpus();
    EACH.store(options.count.unwrap_or(1000).div_ceil(2 * cpus), Ordering::Relaxed);
    for policy in [DmaPolicy::Bounce, DmaPolicy::Map] {
        DOOR.set_policy(policy);
        DOOR.look();
        let tasks: Vec<_> = (0..cpus).filter_map(|number| task::spawn_kernel("requests", run, number).ok()).collect();
        while tasks.iter().any(|task| !task.is_over()) {
            sched::yield_now();
        }
        tell(policy);
        fact!(format_args!("requests.natural.{}", word(policy)), "{} {NATURAL}", natural());
    }
    let (state, pool, counters) = (disk::state(), DOOR.pool_usage(), DOOR.counters());
    fact!("requests.disk", "{} {} {} {}", state.descriptors.0, state.descriptors.1, state.flights, state.resets);
    fact!("requests.left", "{} {} {}", pool.in_use, counters.lost, LARGE.recount().pinned);
}

const fn word(policy: DmaPolicy) -> &'static str {
    match policy {
        DmaPolicy::Map => "map",
        _ => "bounce",
    }
}

/// How many requests the crate's own driver makes.
const NATURAL: usize = 64;

/// How many sectors are right that the driver of `virtio-drivers` itself writes from this stack, and reads to it: unchanged, with its headers on its own
/// stack.
fn natural() -> usize {
    let right = disk::with_natural_driver(|driver| {
        let mut dice = Dice::new();
        (0..NATURAL).filter(|i| by_natural_driver(driver, READ_SECTORS + i % WRITE_SECTORS, dice.next())).count()
    });
    right.unwrap_or(0)
}

#[inline(never)]
fn by_natural_driver(driver: &mut NaturalDriver, sector: usize, seed: usize) -> bool {
    let (mut sent, mut got) = ([0_u8; SECTOR], [0_u8; SECTOR]);
    sent.iter_mut().enumerate().for_each(|(i, byte)| *byte = content(seed + i));
    let done = driver.write_blocks(sector, &sent).and_then(|()| driver.read_blocks(sector, &mut got));
    done.is_ok() && sent == got
}

fn tell(policy: DmaPolicy) {
    let [done, wrong, refused, wrongly, failed] =
        [&DONE, &WRONG, &REFUSED, &REFUSED_WRONGLY, &FAILED].map(|count| count.swap(0, Ordering::Relaxed));
    fact!(format_args!("requests.{}", word(policy)), "{done} {wrong} {refused} {wrongly} {failed}");
}

/// Writes what will be read. False if it cannot be.
fn fill() -> bool {
    let Some(mut buffer) = DmaBuffer::new(LONGEST) else { return false };
    let each = LONGEST / SECTOR;
    (0..READ_SECTORS).step_by(each).all(|sector| {
        buffer.iter_mut().enumerate().for_each(|(i, byte)| *byte = content(sector * SECTOR + i));
        disk::write(sector as u64, &buffer, 0..LONGEST).is_ok()
    })
}

extern "C" fn run(number: usize) -> ! {
    sched::begin();
    if let Some(mut maker) = Maker::new(number) {
        (0..EACH.load(Ordering::Relaxed)).for_each(|_| maker.make());
    }
    sched::exit()
}

/// Waits until all tasks have come here.
fn meet(place: &AtomicUsize) {
    place.fetch_add(1, Ordering::AcqRel);
    while !place.load(Ordering::Acquire).is_multiple_of(boot::cpus()) {
        sched::yield_now();
    }
}

/// Where the piece in question is put.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    /// In a stack, anywhere.
    Stack,
    /// In a stack, over the end of a page.
    PageEnd,
    /// In a stack, up to its bottom or its top.
    StackEnd,
    /// On the stack that the task runs on.
    Own,
    Heap,
    Buffer,
    OverTop,
    UnderBottom,
    Guard,
    /// In a stack that was given back.
    GivenBack,
    Nothing,
    /// Beyond the last address.
    Wraps,
}

impl Place {
    const GOOD: [Self; 6] = [Self::Stack, Self::PageEnd, Self::StackEnd, Self::Own, Self::Heap, Self::Buffer];
    const BAD: [Self; 6] = [Self::OverTop, Self::UnderBottom, Self::Guard, Self::GivenBack, Self::Nothing, Self::Wraps];

    /// One of them: one in five is bad.
    fn any(dice: &mut Dice) -> Self {
        let places = if dice.between(0, 4) == 0 { &Self::BAD } else { &Self::GOOD };
        places[dice.between(0, places.len() - 1)]
    }
}

/// A piece, and what should come of it.
#[derive(Debug)]
struct Piece {
    addr: VirtAddr,
    bytes: usize,
    refusal: Option<Refusal>,
}

impl Piece {
    const fn good(addr: VirtAddr, bytes: usize) -> Self {
        Self { addr, bytes, refusal: None }
    }

    const fn bad(addr: VirtAddr, bytes: usize, refusal: Refusal) -> Self {
        Self { addr, bytes, refusal: Some(refusal) }
    }
}

/// One task's means.
struct Maker {
    dice: Dice,
    number: usize,
    stack: Stack,
    given_back: VirtAddr,
    heap: Vec<u8>,
    buffer: DmaBuffer,
    /// What fills the sectors up, in front and behind.
    fringe: DmaBuffer,
    /// What was written is read back to here.
    check: DmaBuffer,
}

impl Maker {
    fn new(number: usize) -> Option<Self> {
        let stack = LARGE.alloc(number).ok();
        // What is given back now stays nobody's: all of them have theirs.
        meet(&HAVE_STACKS);
        let other = LARGE.alloc(number).ok().map(|stack| stack.bottom());
        meet(&HAVE_SEEN_OTHERS);
        let (stack, other) = stack.zip(other)?;
        Some(Self {
            dice: Dice::numbered(number),
            number,
            stack,
            given_back: other,
            heap: vec![0; LONGEST + 2 * MARGIN],
            buffer: DmaBuffer::new(LONGEST + 2 * MARGIN)?,
            fringe: DmaBuffer::new(4 * SECTOR)?,
            check: DmaBuffer::new(LONGEST + 2 * SECTOR)?,
        })
    }

    /// Makes one.
    // In a frame of its own: a piece may lie in it.
    #[inline(never)]
    fn make(&mut self) {
        let mut own = [BLANK; 1024 + 2 * MARGIN];
        let piece = self.piece(VirtAddr::of(own.as_mut_ptr()).wrapping_add(MARGIN));
        let front = self.dice.between(0, SECTOR);
        let total = (front + piece.bytes.min(LONGEST)).next_multiple_of(SECTOR).max(SECTOR);
        let right = match piece.refusal {
            Some(refusal) => self.make_refused(&piece, refusal, front),
            None if self.dice.between(0, 1) == 0 => self.read(&piece, front, total),
            None => self.write(&piece, front, total),
        };
        DONE.fetch_add(1, Ordering::Relaxed);
        if !right {
            WRONG.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A length: short ones are as frequent as long ones.
    fn length(&mut self, most: usize) -> usize {
        let bits = self.dice.between(0, most.ilog2() as usize);
        self.dice.between(1 << bits >> 1, 1 << bits).clamp(1, most)
    }

    fn piece(&mut self, own: VirtAddr) -> Piece {
        let place = Place::any(&mut self.dice);
        let (bottom, top, bytes) = (self.stack.bottom(), self.stack.top(), self.length(LONGEST));
        let at = |offset| bottom.wrapping_add(offset);
        match place {
            Place::Stack => Piece::good(at(self.dice.between(MARGIN, LARGE_STACK - MARGIN - bytes)), bytes),
            Place::PageEnd => {
                let page = PAGE_SIZE * self.dice.between(1, (LARGE_STACK - LONGEST) / PAGE_SIZE - 1);
                let before = self.dice.between(0, bytes.min(PAGE_SIZE - MARGIN));
                Piece::good(at(page - before), bytes)
            }
            Place::StackEnd if self.dice.between(0, 1) == 0 => Piece::good(bottom, bytes),
            Place::StackEnd => Piece::good(top.wrapping_sub(bytes), bytes),
            Place::Own => Piece::good(own, bytes.min(1024)),
            Place::Heap => Piece::good(VirtAddr::of(self.heap.as_ptr()).wrapping_add(MARGIN), bytes),
            Place::Buffer => Piece::good(VirtAddr::of(self.buffer.as_ptr()).wrapping_add(MARGIN), bytes),
            Place::OverTop => {
                let above = self.dice.between(1, bytes.max(2) - 1);
                let bytes = bytes.max(2);
                Piece::bad(top.wrapping_sub(bytes - above), bytes, Refusal::AcrossTop { above })
            }
            Place::UnderBottom => {
                let (bytes, below) = (bytes.max(2), self.dice.between(1, bytes.max(2) - 1));
                Piece::bad(bottom.wrapping_sub(below), bytes, Refusal::AcrossBottom { below })
            }
            Place::Guard => Piece::bad(bottom.wrapping_sub(LARGE_STACK), bytes, Refusal::Guard),
            Place::GivenBack => Piece::bad(self.given_back, bytes, Refusal::Idle),
            Place::Nothing => Piece::bad(bottom, 0, Refusal::Empty),
            Place::Wraps => {
                Piece::bad(VirtAddr::new(usize::MAX - (bytes.max(2) / 2 - 1)), bytes.max(2), Refusal::Wraps)
            }
        }
    }

    /// The list of a request: the piece between the fringes.
    fn list(&self, piece: &Piece, front: usize, total: usize) -> Vec<DmaRequest> {
        let fringe = VirtAddr::of(self.fringe.as_ptr());
        let back = total.saturating_sub(front + piece.bytes);
        let parts = [(fringe, front), (piece.addr, piece.bytes), (fringe.wrapping_add(2 * SECTOR), back)];
        let parts = parts.into_iter().enumerate().filter(|(i, (_, bytes))| *i == 1 || *bytes != 0);
        parts.map(|(_, (addr, bytes))| DmaRequest::new(addr, bytes, Direction::Both)).collect()
    }

    /// One that must be refused, for this reason. What is refused alone is a whole number of sectors, by its fringe; a length that does not
    /// exist is not.
    fn make_refused(&mut self, piece: &Piece, refusal: Refusal, front: usize) -> bool {
        let total = (front.max(1) + piece.bytes).next_multiple_of(SECTOR);
        let list = self.list(piece, front.max(1), total);
        // SAFETY: nothing of it reaches the device, or the memory is this task's.
        let result = unsafe { disk::read_raw(0, &list) };
        REFUSED.fetch_add(1, Ordering::Relaxed);
        let right =
            matches!(result, Err(DiskError::Refused(error)) if error.refusal == refusal && error.addr == piece.addr);
        if !right {
            REFUSED_WRONGLY.fetch_add(1, Ordering::Relaxed);
            println!("{piece:x?}: {result:x?}");
        }
        true
    }

    fn read(&mut self, piece: &Piece, front: usize, total: usize) -> bool {
        let sector = self.dice.between(0, READ_SECTORS - total / SECTOR);
        blank(piece);
        let list = self.list(piece, front, total);
        // SAFETY: the memory is this task's, and nobody else looks at it.
        if let Err(error) = unsafe { disk::read_raw(sector as u64, &list) } {
            return fail(piece, error);
        }
        let first = sector * SECTOR + front;
        bytes(piece).iter().enumerate().all(|(i, byte)| *byte == content(first + i)) && is_blank_around(piece)
    }

    fn write(&mut self, piece: &Piece, front: usize, total: usize) -> bool {
        let (sector, seed) = ((READ_SECTORS + self.number * WRITE_SECTORS) as u64, self.dice.next());
        blank(piece);
        bytes_mut(piece).iter_mut().enumerate().for_each(|(i, byte)| *byte = content(seed + i));
        let list = self.list(piece, front, total);
        // SAFETY: as in `read`.
        let written = unsafe { disk::write_raw(sector, &list) };
        if let Err(error) = written.and_then(|()| disk::read(sector, &mut self.check, 0..total)) {
            return fail(piece, error);
        }
        let there = &self.check[front..front + piece.bytes];
        there.iter().enumerate().all(|(i, byte)| *byte == content(seed + i)) && is_blank_around(piece)
    }
}

#[cold]
fn fail(piece: &Piece, error: DiskError) -> bool {
    FAILED.fetch_add(1, Ordering::Relaxed);
    println!("{piece:x?}: {error}");
    false
}

/// The bytes of a piece that is memory of this task's.
fn bytes(piece: &Piece) -> &[u8] {
    // SAFETY: the piece lies in memory that its maker owns, and nobody writes to it now.
    unsafe { slice::from_raw_parts(piece.addr.as_mut_ptr(), piece.bytes) }
}

#[expect(clippy::mut_from_ref, reason = "a piece is an address and a length: its maker owns the memory")]
fn bytes_mut(piece: &Piece) -> &mut [u8] {
    // SAFETY: as above.
    unsafe { slice::from_raw_parts_mut(piece.addr.as_mut_ptr(), piece.bytes) }
}

/// Makes it and what is around it blank.
fn blank(piece: &Piece) {
    bytes_mut(piece).fill(BLANK);
    around(piece).into_iter().for_each(|around| bytes_mut(&around).fill(BLANK));
}

fn is_blank_around(piece: &Piece) -> bool {
    around(piece).into_iter().all(|around| bytes(&around).iter().all(|byte| *byte == BLANK))
}

/// What is around a piece, as far as it is its maker's: in a stack there is none past its ends.
fn around(piece: &Piece) -> [Piece; 2] {
    let end = piece.addr.wrapping_add(piece.bytes);
    let has = |addr| LARGE.locate(addr, MARGIN) == vmstack::Located::Outside || LARGE.stack_at(addr).is_some();
    let below = piece.addr.wrapping_sub(MARGIN);
    let room = |addr| if has(addr) { MARGIN } else { 0 };
    [Piece::good(below, room(below)), Piece::good(end, room(end))]
}
