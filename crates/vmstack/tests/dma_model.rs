//! The door against a model: any areas, any requests, and devices that read and write by physical address. Every refusal is judged by an
//! oracle that walks over everything (`oracle`), and every byte is compared with a model that keeps bytes.

#![expect(clippy::undocumented_unsafe_blocks, reason = "a test says what it does by failing")]

mod fake;
mod oracle;

use core::cell::RefCell;
use std::rc::Rc;

use fake::{Fake, Flush, read};
use oracle::{Asked, Pool, Where};
use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};
use proptest::test_runner::Config;
use vmstack::{
    AreaConfig, Direction, DmaDoor, DmaPolicy, DmaRequest, ExternalStack, KernelStack, Passage, Platform, Refusal,
    StackArea, StackKind, Transfer, TransferList, VirtAddr, VirtRange,
};

const MIB: usize = 1 << 20;
const PAGE: usize = 4096;
const HIGH: u64 = 1 << 32;
const POOL: Pool = Pool { last: 2 * HIGH + MIB as u64 - 1, largest: 64 << 10 };
/// Where the pages of the scattered memory are: some side by side, one nowhere.
const SCATTERED: [Option<usize>; 8] = [Some(3), Some(4), Some(0), None, Some(6), Some(7), Some(1), Some(2)];
/// The pages of the stack that was there before, between two guards.
const BOOT: [Option<usize>; 4] = [None, Some(5), Some(2), None];

type Area<'f> = StackArea<&'f Fake>;
type Bytes = Rc<RefCell<Vec<u8>>>;

/// A request: about bytes near something, for a device that can do so much.
#[derive(Clone, Copy, Debug)]
struct Near {
    place: usize,
    away: isize,
    bytes: usize,
    direction: Direction,
    align: usize,
    near: bool,
    segments: usize,
}

#[derive(Clone, Debug)]
enum Op {
    Alloc(usize),
    Free(usize),
    Drain,
    Policy(DmaPolicy),
    Write(usize, usize, u8),
    Request(Near),
    List(Vec<Near>),
    /// A device writes so many bytes of a transfer.
    Device(usize, usize, u8),
    Finish(usize),
    Cancel(usize),
}

fn near() -> impl Strategy<Value = Near> {
    let away = prop_oneof![4 => -70_isize..70, 2 => -5_000_isize..5_000, 1 => -70_000_isize..70_000];
    let bytes = prop_oneof![
        1 => Just(0),
        8 => 1..70_usize,
        8 => 1..5_000_usize,
        4 => 1..70_000_usize,
        1 => (0..70_000_usize).prop_map(|less| usize::MAX - less),
    ];
    let direction = prop_oneof![Just(Direction::ToDevice), Just(Direction::FromDevice), Just(Direction::Both)];
    let align = prop_oneof![6 => Just(1_usize), 1 => Just(64_usize), 1 => Just(4096_usize), 1 => Just(8192_usize)];
    let segments = prop_oneof![4 => Just(usize::MAX), 1 => 1..4_usize];
    let rest = (prop_oneof![9 => Just(false), 1 => Just(true)], segments);
    (any::<usize>(), away, bytes, direction, align, rest).prop_map(
        |(place, away, bytes, direction, align, (near, segments))| Near {
            place,
            away,
            bytes,
            direction,
            align,
            near,
            segments,
        },
    )
}

fn op() -> impl Strategy<Value = Op> {
    let n = any::<usize>;
    let policy = prop_oneof![Just(DmaPolicy::Refuse), Just(DmaPolicy::Bounce), Just(DmaPolicy::Map)];
    prop_oneof![
        4 => (0..2_usize).prop_map(Op::Alloc),
        3 => n().prop_map(Op::Free),
        1 => Just(Op::Drain),
        3 => policy.prop_map(Op::Policy),
        4 => (n(), n(), any::<u8>()).prop_map(|(i, at, byte)| Op::Write(i, at, byte)),
        20 => near().prop_map(Op::Request),
        3 => proptest::collection::vec(near(), 1..5).prop_map(Op::List),
        8 => (n(), n(), any::<u8>()).prop_map(|(i, bytes, byte)| Op::Device(i, bytes, byte)),
        7 => n().prop_map(Op::Finish),
        2 => n().prop_map(Op::Cancel),
    ]
}

/// Memory that the model keeps: a stack in one life, or some that is no stack's.
#[derive(Clone)]
struct Memory {
    start: usize,
    bytes: Bytes,
}

impl Memory {
    fn at(addr: VirtAddr, bytes: usize) -> Self {
        Self { start: addr.get(), bytes: Rc::new(RefCell::new(read(addr, bytes))) }
    }

    fn has(&self, addr: usize) -> bool {
        (self.start..self.start + self.bytes.borrow().len()).contains(&addr)
    }
}

/// A transfer, and what the device should see of it.
struct Flying<'a, 'f> {
    transfer: Transfer<'a, &'f Fake>,
    asked: Asked,
    direction: Direction,
    memory: Memory,
    /// The copy, if it bounced.
    copy: Option<Vec<u8>>,
}

impl Flying<'_, '_> {
    fn offset(&self) -> usize {
        self.asked.addr - self.memory.start
    }

    fn expected(&self) -> Vec<u8> {
        let whole = self.memory.bytes.borrow();
        self.copy.clone().unwrap_or_else(|| whole[self.offset()..self.offset() + self.asked.bytes].to_vec())
    }

    fn written(&mut self, bytes: &[u8]) {
        let offset = self.offset();
        match &mut self.copy {
            Some(copy) => copy[..bytes.len()].copy_from_slice(bytes),
            None => self.memory.bytes.borrow_mut()[offset..offset + bytes.len()].copy_from_slice(bytes),
        }
    }
}

struct Model<'a, 'f> {
    fake: &'f Fake,
    areas: &'a [&'a Area<'f>; 3],
    door: &'a DmaDoor<'a, &'f Fake>,
    live: Vec<(KernelStack<'a, &'f Fake>, Memory)>,
    /// What is no stack's, and the stack that was there before.
    others: [Memory; 3],
    /// Where requests are about.
    places: Vec<usize>,
    flying: Vec<Flying<'a, 'f>>,
}

fn pick<T>(items: &[T], n: usize) -> Option<usize> {
    (!items.is_empty()).then(|| n % items.len())
}

impl<'a, 'f> Model<'a, 'f> {
    fn run(&mut self, op: &Op) {
        match op {
            Op::Alloc(area) => self.alloc(*area),
            Op::Free(n) => {
                if let Some(i) = pick(&self.live, *n) {
                    self.live.swap_remove(i);
                }
            }
            Op::Drain => self.areas[..2].iter().for_each(|area| area.drain()),
            Op::Policy(policy) => self.door.set_policy(*policy),
            Op::Write(n, at, byte) => self.write(*n, *at, *byte),
            Op::Request(near) => self.request(near),
            Op::List(list) => self.list(list),
            Op::Device(n, bytes, byte) => self.device(*n, *bytes, *byte),
            Op::Finish(n) => self.finish(*n),
            Op::Cancel(n) => {
                if let Some(i) = pick(&self.flying, *n) {
                    unsafe { self.flying.swap_remove(i).transfer.cancel() };
                }
            }
        }
    }

    fn alloc(&mut self, area: usize) {
        let Ok(stack) = self.areas[area].alloc(1) else { return };
        let (bottom, bytes) = (stack.bottom(), stack.top().distance(stack.bottom()));
        assert!(self.fake.reads_zero(bottom, bytes), "INV-ZERO");
        let held = self.flying.iter().find(|flying| flying.copy.is_none() && flying.memory.has(bottom.get()));
        assert!(held.is_none(), "INV-LIVE: a device has it");
        self.live.push((stack, Memory::at(bottom, bytes)));
    }

    fn write(&mut self, n: usize, at: usize, byte: u8) {
        if let Some(i) = pick(&self.live, n) {
            let memory = &self.live[i].1;
            let at = at % memory.bytes.borrow().len();
            self.fake.write(VirtAddr::new(memory.start + at), byte);
            memory.bytes.borrow_mut()[at] = byte;
        }
    }

    fn asked(&self, near: &Near) -> (Asked, DmaRequest) {
        let addr = self.places[near.place % self.places.len()].wrapping_add_signed(near.away);
        let reach = if near.near { HIGH - 1 } else { u64::MAX };
        let asked = Asked { addr, bytes: near.bytes, align: near.align, reach, segments: near.segments };
        let request = DmaRequest::new(VirtAddr::new(addr), near.bytes, near.direction).aligned(near.align);
        (asked, request.reaching(reach).in_segments(near.segments))
    }

    fn lies(&self, asked: &Asked) -> Where {
        let live = |bottom| self.live.iter().any(|(stack, _)| stack.bottom().get() == bottom);
        let shapes = self.areas[..2].iter().filter_map(|area| area.geometry());
        let boot = (self.others[2].start, self.others[2].start + 2 * PAGE);
        let all = shapes.map(|shape| oracle::in_area(asked, shape, live));
        all.chain([oracle::in_registered(asked, boot)]).find(|lies| *lies != Where::Nowhere).unwrap_or(Where::Nowhere)
    }

    fn verdict(&self, asked: &Asked) -> Result<Passage, Refusal> {
        if let Some(refusal) = oracle::nonsense(asked.addr, asked.bytes) {
            return Err(refusal);
        }
        let phys = |addr| self.fake.translate(VirtAddr::new(addr)).map(vmstack::PhysAddr::get);
        oracle::verdict(asked, self.lies(asked), self.door.policy(), POOL, phys)
    }

    fn memory(&self, addr: usize) -> Memory {
        let all = self.live.iter().map(|(_, memory)| memory).chain(&self.others);
        all.into_iter().find(|memory| memory.has(addr)).expect("what passes is memory").clone()
    }

    fn passed(&mut self, transfer: Transfer<'a, &'f Fake>, asked: Asked, direction: Direction) {
        let memory = self.memory(asked.addr);
        let mut flying = Flying { transfer, asked, direction, memory, copy: None };
        if flying.transfer.passage() == Passage::Bounced {
            flying.copy = Some(flying.expected());
        }
        self.compare(&flying);
        self.flying.push(flying);
    }

    fn compare(&self, flying: &Flying<'_, '_>) {
        assert_eq!(self.fake.device_reads(flying.transfer.segments()), flying.expected(), "{:?}", flying.asked);
    }

    fn request(&mut self, near: &Near) {
        let (asked, request) = self.asked(near);
        let expected = self.verdict(&asked);
        match (unsafe { self.door.pass(&request) }, expected) {
            (Ok(transfer), Ok(passage)) => {
                assert_eq!(transfer.passage(), passage, "{asked:?}");
                self.passed(transfer, asked, near.direction);
            }
            (Err(error), Ok(Passage::Bounced)) if matches!(error.refusal, Refusal::PoolExhausted { .. }) => {
                let bounced = self.flying.iter().filter(|flying| flying.copy.is_some()).count();
                assert!(matches!(error.refusal, Refusal::PoolExhausted { buffers } if bounced >= buffers));
            }
            (Err(error), expected) => assert_eq!(Err(error.refusal), expected.map(|_| ()), "{asked:?}"),
            (Ok(transfer), Err(refusal)) => panic!("{transfer:?} passed, and should be refused: {refusal:?}"),
        }
    }

    fn list(&mut self, list: &[Near]) {
        let asked: Vec<_> = list.iter().map(|near| self.asked(near)).collect();
        let requests: Vec<_> = asked.iter().map(|(_, request)| *request).collect();
        let bad = asked.iter().position(|(asked, _)| self.verdict(asked).is_err());
        let usage = self.door.pool_usage();
        let passed: Result<TransferList<'_, _, 4>, _> = unsafe { self.door.pass_list(&requests) };
        match passed {
            Ok(list) => {
                assert_eq!(bad, None, "a list with an entry that should be refused");
                let single: Vec<u8> = list.transfers().flat_map(|one| self.fake.device_reads(one.segments())).collect();
                assert_eq!(self.fake.device_reads(list.segments()), single, "the same bytes in the same order");
                unsafe { list.cancel() };
            }
            Err(error) if matches!(error.refusal, Refusal::PoolExhausted { .. }) => {}
            Err(error) => {
                let expected = bad.map(|bad| (bad, self.verdict(&asked[bad].0).expect_err("it is bad")));
                assert_eq!(Some((error.entry, error.refusal)), expected);
            }
        }
        assert_eq!(self.door.pool_usage(), usage, "nothing is kept");
    }

    /// A device writes the first bytes of what it has, if it may write.
    fn device(&mut self, n: usize, bytes: usize, byte: u8) {
        let Some(i) = pick(&self.flying, n) else { return };
        let flying = &mut self.flying[i];
        if flying.direction.writes() {
            let data = vec![byte; bytes % (flying.asked.bytes + 1)];
            self.fake.device_writes(flying.transfer.segments(), &data);
            flying.written(&data);
        }
        self.compare(&self.flying[i]);
    }

    fn finish(&mut self, n: usize) {
        let Some(i) = pick(&self.flying, n) else { return };
        let flying = self.flying.swap_remove(i);
        self.compare(&flying);
        let same = |memory: &Memory| Rc::ptr_eq(&memory.bytes, &flying.memory.bytes);
        let alive = self.live.iter().map(|(_, memory)| memory).chain(&self.others).any(same);
        let bounces_back = flying.copy.is_some() && flying.direction.writes();
        if let (true, Some(copy)) = (bounces_back && alive, &flying.copy) {
            let offset = flying.offset();
            flying.memory.bytes.borrow_mut()[offset..offset + copy.len()].copy_from_slice(copy);
        }
        if bounces_back && alive {
            self.fake.wrote(VirtAddr::new(flying.asked.addr), flying.asked.bytes);
        }
        let finished = unsafe { flying.transfer.finish() }.map_err(|error| error.refusal);
        assert_eq!(finished, if bounces_back && !alive { Err(Refusal::Gone) } else { Ok(()) });
    }

    /// Every byte of every stack and of everything else.
    fn check(&self) {
        let live = self.live.iter().map(|(_, memory)| memory);
        for memory in live.chain(&self.others[..1]).chain(&self.others[2..]) {
            let bytes = memory.bytes.borrow();
            assert!(read(VirtAddr::new(memory.start), bytes.len()) == *bytes, "the memory at {:#x}", memory.start);
        }
    }

    fn end(mut self) {
        while !self.flying.is_empty() {
            self.finish(0);
            self.check();
        }
        self.live.clear();
        for area in &self.areas[..2] {
            area.drain();
            let recount = area.recount();
            assert_eq!((recount.live, recount.pinned, recount.miscounted, recount.mapped()), (0, 0, 0, 0), "INV-COUNT");
        }
        assert_eq!((self.door.pool_usage().in_use, self.door.counters().lost), (0, 0), "INV-COUNT");
    }
}

/// Two areas with stacks of different sizes in the two halves of the fake's memory.
fn areas(fake: &Fake) -> [Area<'_>; 3] {
    let half = fake.range().bytes() / 2;
    let init = |start: usize, slots, size| {
        let range = VirtRange::new(fake.range().start().wrapping_add(start), half).expect("it is in the fake's");
        let area = StackArea::new(fake);
        unsafe { area.init(&AreaConfig::new(range, slots, size, 1)) }.expect("the area is initialised");
        area
    };
    [init(0, 5, 16 << 10), init(half, 3, 64 << 10), StackArea::new(fake)]
}

fn against_the_model(ops: &[Op]) {
    let fake = Fake::new(1, 80, 4 * MIB, Flush::Now);
    let (areas, platform) = (areas(&fake), &fake);
    let boot = fake.pages_at(4 * HIGH, &BOOT).wrapping_add(PAGE);
    let top = boot.wrapping_add(2 * PAGE);
    let external = ExternalStack { bottom: boot, top, guard_bytes: PAGE, kind: StackKind::Boot, owner: 3 };
    areas[2].register(&external).expect("there is room");
    let areas = areas.each_ref();
    let door = DmaDoor::new(&platform, &areas);
    unsafe { door.fill_pool(&fake.region(2 * HIGH, MIB)) }.expect("the region is good");
    door.look();
    let (direct, scattered) = (fake.memory_at(HIGH, 32 * PAGE), fake.pages_at(3 * HIGH, &SCATTERED));
    let others = [Memory::at(direct, 32 * PAGE), Memory::at(scattered, 8 * PAGE), Memory::at(boot, 2 * PAGE)];
    let shapes = areas[..2].iter().filter_map(|area| area.geometry());
    let mut places: Vec<usize> = others.iter().flat_map(|memory| [memory.start, memory.start + 2 * PAGE]).collect();
    for shape in shapes {
        let slots = (0..shape.slots()).filter_map(|index| shape.slot(index));
        places.extend(slots.flat_map(|slot| [shape.bottom(slot).get(), shape.top(slot).get()]));
        places.extend([shape.whole_range().start().get(), shape.slot_range().start().get()]);
        places.push(shape.whole_range().end().get());
    }
    let mut model =
        Model { fake: &fake, areas: &areas, door: &door, live: Vec::new(), others, places, flying: Vec::new() };
    for op in ops {
        model.run(op);
        model.check();
    }
    model.end();
}

proptest! {
    #![proptest_config(Config { cases: 48, max_shrink_iters: 4000, ..Config::default() })]

    #[test]
    fn the_door_does_what_the_model_does(ops in proptest::collection::vec(op(), 1..160)) {
        against_the_model(&ops);
    }
}
