//! Stacks by number against a model: any sequence of operations on any CPU of any node, with failures, late acknowledgements, interrupts
//! and pins. A number is refused exactly where the model says that its slot is somebody's, or where it is on its way.

mod fake;

use core::cell::RefCell;
use core::sync::atomic::Ordering;
use fake::cpus::interrupted_by;
use fake::{
    Area, Fake, Flush, SIZE, Stack, assert_guarded, assert_held_is_right, give_everything_back, numbered_area_of,
};
use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};
use proptest::test_runner::Config;
use std::collections::BTreeSet;
use vmstack::{AllocError, KernelStack, Phase, Pin, Platform, Scrub, StackId};

const MIB: usize = 1 << 20;
const CPUS: usize = 3;

#[derive(Clone, Debug)]
enum Op {
    Alloc(u32),
    AllocWaiting(u32),
    Free(usize),
    HandOver(usize),
    Reap,
    Pin(usize),
    Unpin(usize),
    Write(usize, usize),
    WriteAround(usize, usize),
    RunOn(usize),
    FailIn(isize),
    Drain,
    Trim,
    Pressure,
    Answer,
    LeaveCpu,
    SetBudget(usize),
    SetScrub(Scrub),
}

/// One past the highest number that is asked for: some are out of range.
const NUMBERS: u32 = 200;
/// Handlers have numbers below this.
const HANDLERS: u32 = 16;

fn op() -> impl Strategy<Value = Op> {
    let n = any::<usize>;
    let number = || prop_oneof![3 => 0..8_u32, 1 => 0..NUMBERS];
    let owners = prop_oneof![
        12 => number().prop_map(Op::Alloc),
        1 => number().prop_map(Op::AllocWaiting),
        8 => n().prop_map(Op::Free),
        2 => n().prop_map(Op::HandOver),
        2 => n().prop_map(Op::Pin),
        2 => n().prop_map(Op::Unpin),
        6 => (n(), 0..SIZE).prop_map(|(i, at)| Op::Write(i, at)),
        1 => (n(), 0..SIZE).prop_map(|(i, at)| Op::WriteAround(i, at)),
    ];
    let kernels = prop_oneof![
        2 => Just(Op::Reap),
        6 => (0..CPUS).prop_map(Op::RunOn),
        1 => (0..4_isize).prop_map(Op::FailIn),
        1 => Just(Op::Drain),
        1 => Just(Op::Trim),
        1 => Just(Op::Pressure),
        3 => Just(Op::Answer),
        1 => Just(Op::LeaveCpu),
        1 => prop_oneof![Just(usize::MAX), 0..40_usize].prop_map(Op::SetBudget),
        1 => prop_oneof![Just(Scrub::Dirty), Just(Scrub::Whole)].prop_map(Op::SetScrub),
    ];
    prop_oneof![2 => owners, 1 => kernels]
}

/// What should be true, kept the simple way.
struct Model<'h, 'f> {
    fake: &'f Fake,
    area: &'f Area<'f>,
    slots: u32,
    cpu: usize,
    interrupts: bool,
    live: Vec<Stack<'f>>,
    pins: Vec<(StackId, Pin<'f, &'f Fake>)>,
    dead: Vec<Option<StackId>>,
    /// The stacks that interrupt handlers hold.
    handlers: &'h RefCell<Vec<Stack<'f>>>,
}

fn pick<T>(items: &[T], n: usize) -> Option<usize> {
    (!items.is_empty()).then(|| n % items.len())
}

fn number(id: StackId) -> u32 {
    id.slot().get()
}

impl<'f> Model<'_, 'f> {
    /// The numbers whose slots somebody holds: live ones, dead ones not reaped, and given-back ones with a pin.
    fn held(&self) -> BTreeSet<u32> {
        let live = self.live.iter().map(KernelStack::id);
        let dead = self.dead.iter().flatten().copied();
        live.chain(dead).chain(self.pins.iter().map(|(id, _)| *id)).map(number).collect()
    }

    /// The numbers that handlers hold, at this moment.
    fn handlers_hold(&self) -> BTreeSet<u32> {
        self.handlers.borrow().iter().map(|stack| number(stack.id())).collect()
    }

    fn asks(&mut self, asked: u32, waits: bool) {
        let somebodys = self.held().contains(&asked);
        // A handler may have had it just then.
        let perhaps = self.interrupts && asked < HANDLERS;
        let got = if waits { self.area.alloc_numbered_waiting(asked, 1) } else { self.area.alloc_numbered(asked, 1) };
        match got {
            Ok(stack) => {
                assert!(!somebodys && !self.handlers_hold().contains(&asked), "INV-LIVE: {asked} was somebody's");
                assert_eq!(number(stack.id()), asked);
                assert!(self.fake.reads_zero(stack.bottom(), SIZE), "INV-ZERO");
                assert_guarded(self.fake, &stack);
                self.live.push(stack);
            }
            Err(AllocError::NumberTaken { phase: Phase::Retiring | Phase::Recovering, .. }) => assert!(!somebodys),
            Err(AllocError::NumberTaken { phase, .. }) => assert!(somebodys || perhaps, "{asked} is {phase:?}"),
            Err(AllocError::NumberOutOfRange { .. }) => assert!(asked >= self.slots),
            Err(error) => assert!(matches!(error, AllocError::NoFrames(_) | AllocError::NotMapped(_)), "{error:?}"),
        }
    }

    fn take_live(&mut self, n: usize) -> Option<Stack<'f>> {
        pick(&self.live, n).map(|i| self.live.swap_remove(i))
    }

    /// Does what happens to one stack.
    fn owner_does(&mut self, op: &Op) {
        let (fake, area) = (self.fake, self.area);
        match *op {
            Op::Alloc(asked) => self.asks(asked, false),
            Op::AllocWaiting(asked) => self.asks(asked, true),
            Op::Free(n) => drop(self.take_live(n)),
            Op::HandOver(n) => {
                if let Some(stack) = self.take_live(n) {
                    self.dead[self.cpu] = Some(stack.id());
                    stack.hand_over(&fake.enter());
                }
            }
            Op::Pin(n) => {
                if let Some(i) = pick(&self.live, n) {
                    let id = self.live[i].id();
                    self.pins.push((id, area.pin(id).expect("a live stack can be pinned")));
                }
            }
            Op::Unpin(n) => drop(pick(&self.pins, n).map(|i| self.pins.swap_remove(i))),
            Op::Write(n, at) => {
                if let Some(i) = pick(&self.live, n) {
                    fake.write(self.live[i].bottom().wrapping_add(at), 0xee);
                }
            }
            Op::WriteAround(n, at) => {
                if let Some(i) = pick(&self.live, n) {
                    let addr = self.live[i].bottom().wrapping_add(at);
                    area.mark_written(addr);
                    fake.write_around(addr, 0xbb);
                }
            }
            _ => self.kernel_does(op),
        }
    }

    /// Does what happens to the area.
    fn kernel_does(&mut self, op: &Op) {
        let (fake, area) = (self.fake, self.area);
        match *op {
            Op::Reap => area.reap(),
            Op::RunOn(n) => fake.run_on(n),
            Op::FailIn(n) => fake.fail_in.store(n, Ordering::Relaxed),
            Op::Drain => area.drain(),
            Op::Trim => area.trim(),
            Op::Pressure => area.pressure(),
            Op::Answer => area.answer_pressure(),
            Op::LeaveCpu => area.leave_cpu(),
            Op::SetBudget(stacks) => area.set_budget(stacks),
            Op::SetScrub(scrub) => area.set_scrub(scrub),
            _ => unreachable!("{op:?} is its owner's"),
        }
        match *op {
            Op::Reap | Op::LeaveCpu => self.dead[self.cpu] = None,
            Op::RunOn(n) => self.cpu = n,
            _ => {}
        }
    }

    fn check(&self, op: &Op) {
        let recount = self.area.recount();
        let sum = recount.free + recount.mapped() + recount.retiring;
        assert_eq!((sum, recount.miscounted, recount.leaked), (self.slots as usize, 0, 0), "INV-COUNT after {op:?}");
        assert_eq!(
            recount.live + recount.dead + recount.pinned,
            self.held().union(&self.handlers_hold()).count(),
            "after {op:?}"
        );
        assert_eq!(self.fake.mapped_pages(), recount.mapped() * 4 + recount.metadata_pages, "after {op:?}");
        assert_held_is_right(self.area);
    }
}

/// A handler that takes stacks, and gives them back to whatever CPU it interrupts.
fn handle<'f>(fake: &Fake, area: &'f Area<'f>, handlers: &RefCell<Vec<Stack<'f>>>, next: &mut u32) {
    let (failing, mut stacks) = (fake.fail_in.swap(-1, Ordering::Relaxed), handlers.borrow_mut());
    if stacks.len() < 3 {
        *next = (*next + 5) % HANDLERS;
        let stack = area.alloc_numbered(*next, 2);
        stacks.extend(stack.inspect(|stack| assert!(fake.reads_zero(stack.bottom(), SIZE), "INV-ZERO")));
    } else {
        stacks.remove(0);
    }
    if let Some(stack) = stacks.last() {
        fake.write(stack.top().wrapping_sub(1), 0x11);
    }
    fake.fail_in.store(failing, Ordering::Relaxed);
}

proptest! {
    #![proptest_config(Config { cases: 256, ..Config::default() })]

    #[test]
    fn any_sequence_of_numbers_keeps_the_invariants(
        ops in proptest::collection::vec(op(), 1..200),
        late in any::<bool>(),
        interrupts in any::<bool>(),
        nodes in 1..4_usize,
        slots in 1_usize..180,
        frames in 12_usize..320,
    ) {
        let flush = if late { Flush::WhenAsked } else { Flush::Now };
        let fake = &Fake::new(CPUS, frames, 16 * MIB, flush).on_nodes(nodes);
        let area = &numbered_area_of(fake, slots);
        let (handlers, next) = (RefCell::new(Vec::new()), RefCell::new(0));
        let (live, pins, dead) = (Vec::new(), Vec::new(), vec![None; CPUS]);
        let (slots_, cpu, handlers_) = (slots as u32, 0, &handlers);
        let mut model = Model { fake, area, slots: slots_, cpu, interrupts, live, pins, dead, handlers: handlers_ };
        for op in &ops {
            if interrupts {
                interrupted_by(&|| handle(fake, area, &handlers, &mut next.borrow_mut()), || model.owner_does(op));
            } else {
                model.owner_does(op);
            }
            model.check(op);
        }
        drop((model.live, model.pins, handlers.take()));
        give_everything_back(fake, area, CPUS);
        let recount = area.recount();
        assert_eq!((recount.free, recount.retiring), (slots, 0), "when all tasks are gone, all slots are free");
        assert_eq!(fake.frames_free(), frames - recount.metadata_pages, "and all frames");
        let counters = area.counters();
        assert_eq!((counters.allocated, counters.held), (counters.released, 0));
        assert_eq!((counters.populated, counters.unmapped), (counters.retired, counters.retired));
    }
}
