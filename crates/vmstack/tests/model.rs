//! The life of stacks against a model: any sequence of operations on any CPU of any node, with failures, late acknowledgements,
//! interrupts and pins, leaves what the invariants say.

mod fake;

use core::cell::RefCell;
use core::sync::atomic::Ordering;
use fake::cpus::interrupted_by;
use fake::{Area, Fake, Flush, SIZE, Stack, area_of, assert_guarded, assert_held_is_right, give_everything_back};
use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};
use proptest::test_runner::Config;
use vmstack::{AllocError, Node, Phase, Pin, Platform, Scrub, StackId, VirtAddr};

const MIB: usize = 1 << 20;
const CPUS: usize = 3;

#[derive(Clone, Debug)]
enum Op {
    Alloc,
    AllocIn,
    AllocOn(usize),
    Free(usize),
    FreeIn(usize),
    HandOver(usize),
    Reap,
    ReapIn,
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

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![2 => owners_op(), 1 => kernels_op()]
}

/// What happens to one stack.
fn owners_op() -> impl Strategy<Value = Op> {
    let n = any::<usize>;
    prop_oneof![
        6 => Just(Op::Alloc),
        2 => Just(Op::AllocIn),
        3 => (0..4_usize).prop_map(Op::AllocOn),
        6 => n().prop_map(Op::Free),
        3 => n().prop_map(Op::FreeIn),
        2 => n().prop_map(Op::HandOver),
        2 => n().prop_map(Op::Pin),
        2 => n().prop_map(Op::Unpin),
        5 => (n(), 0..SIZE).prop_map(|(i, at)| Op::Write(i, at)),
        1 => (n(), 0..SIZE).prop_map(|(i, at)| Op::WriteAround(i, at)),
    ]
}

/// What happens to an area.
fn kernels_op() -> impl Strategy<Value = Op> {
    prop_oneof![
        2 => Just(Op::Reap),
        1 => Just(Op::ReapIn),
        8 => (0..CPUS).prop_map(Op::RunOn),
        1 => (0..4_isize).prop_map(Op::FailIn),
        1 => Just(Op::Drain),
        1 => Just(Op::Trim),
        1 => Just(Op::Pressure),
        2 => Just(Op::Answer),
        1 => Just(Op::LeaveCpu),
        1 => prop_oneof![Just(usize::MAX), 0..40_usize].prop_map(Op::SetBudget),
        1 => prop_oneof![Just(Scrub::Dirty), Just(Scrub::Whole)].prop_map(Op::SetScrub),
    ]
}

/// What should be true, kept the simple way.
struct Model<'h, 'f> {
    fake: &'f Fake,
    area: &'f Area<'f>,
    nodes: usize,
    cpu: usize,
    live: Vec<Stack<'f>>,
    pins: Vec<(StackId, Pin<'f, &'f Fake>)>,
    dead: Vec<Option<StackId>>,
    /// The stacks that interrupt handlers hold.
    handlers: &'h RefCell<Vec<Stack<'f>>>,
}

fn pick<T>(items: &[T], n: usize) -> Option<usize> {
    (!items.is_empty()).then(|| n % items.len())
}

impl<'f> Model<'_, 'f> {
    fn got(&mut self, stack: Stack<'f>) {
        assert!(self.fake.reads_zero(stack.bottom(), SIZE), "INV-ZERO");
        assert_guarded(self.fake, &stack);
        let bottom = stack.bottom();
        let handlers = self.handlers.borrow();
        assert!(self.live.iter().chain(handlers.iter()).all(|other| other.bottom() != bottom), "INV-LIVE");
        assert!(self.pins.iter().all(|(_, pin)| pin.bottom() != bottom), "INV-LIVE");
        self.live.push(stack);
    }

    fn alloc_on(&mut self, node: usize) {
        match self.area.alloc_on(Node::new(node as u8), node) {
            Ok(stack) => {
                let wrong =
                    (0..SIZE / 4096).find(|i| self.fake.node_of(stack.bottom().wrapping_add(i * 4096)).index() != node);
                assert_eq!(wrong, None, "a page is on another node than {node}");
                self.got(stack);
            }
            Err(error) => assert_eq!(matches!(error, AllocError::UnknownNode { .. }), node >= self.nodes, "{error:?}"),
        }
    }

    fn take_live(&mut self, n: usize) -> Option<Stack<'f>> {
        pick(&self.live, n).map(|i| self.live.swap_remove(i))
    }

    /// Does what happens to one stack.
    fn owner_does(&mut self, op: &Op) {
        let (fake, area) = (self.fake, self.area);
        match *op {
            Op::Alloc => drop(area.alloc(1).map(|stack| self.got(stack))),
            Op::AllocIn => drop(area.alloc_in(&fake.enter(), 1).map(|stack| self.got(stack))),
            Op::AllocOn(node) => self.alloc_on(node),
            Op::Free(n) => drop(self.take_live(n)),
            Op::FreeIn(n) => drop(self.take_live(n).map(|stack| stack.free_in(&fake.enter()))),
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
                    let addr: VirtAddr = self.live[i].bottom().wrapping_add(at);
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
            Op::ReapIn => area.reap_in(&fake.enter()),
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
            Op::Reap | Op::ReapIn | Op::LeaveCpu => self.dead[self.cpu] = None,
            Op::RunOn(n) => self.cpu = n,
            _ => {}
        }
    }

    /// Stacks that somebody holds: live ones, dead ones not reaped, and given-back ones with a pin.
    fn held(&self) -> usize {
        let mut slots: Vec<_> = self.live.iter().map(|stack| stack.id().slot()).collect();
        slots.extend(self.handlers.borrow().iter().map(|stack| stack.id().slot()));
        slots.extend(self.dead.iter().flatten().map(|id| id.slot()));
        slots.extend(self.pins.iter().map(|(id, _)| id.slot()));
        slots.sort_unstable();
        slots.dedup();
        slots.len()
    }

    fn check(&self, op: &Op, slots: usize) {
        let recount = self.area.recount();
        let sum = recount.free + recount.mapped() + recount.retiring;
        assert_eq!((sum, recount.miscounted, recount.leaked), (slots, 0, 0), "INV-COUNT after {op:?}");
        assert_eq!(recount.live + recount.dead + recount.pinned, self.held(), "after {op:?}");
        assert_eq!(self.fake.mapped_pages(), recount.mapped() * 4 + recount.metadata_pages, "after {op:?}");
        assert_held_is_right(self.area);
    }
}

/// A handler that takes stacks, and gives them back to whatever CPU it interrupts.
fn handle<'f>(fake: &Fake, area: &'f Area<'f>, handlers: &RefCell<Vec<Stack<'f>>>) {
    let (failing, mut stacks) = (fake.fail_in.swap(-1, Ordering::Relaxed), handlers.borrow_mut());
    if stacks.len() < 3 {
        stacks.extend(area.alloc(2).inspect(|stack| assert!(fake.reads_zero(stack.bottom(), SIZE), "INV-ZERO")));
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
    fn any_sequence_keeps_the_invariants(
        ops in proptest::collection::vec(op(), 1..200),
        late in any::<bool>(),
        interrupts in any::<bool>(),
        nodes in 1..4_usize,
        slots in 1_usize..80,
        frames in 12_usize..320,
    ) {
        let flush = if late { Flush::WhenAsked } else { Flush::Now };
        let fake = &Fake::new(CPUS, frames, 8 * MIB, flush).on_nodes(nodes);
        let area = &area_of(fake, slots);
        let handlers = RefCell::new(Vec::new());
        let (live, pins, dead) = (Vec::new(), Vec::new(), vec![None; CPUS]);
        let mut model = Model { fake, area, nodes, cpu: 0, live, pins, dead, handlers: &handlers };
        for op in &ops {
            if interrupts {
                interrupted_by(&|| handle(fake, area, &handlers), || model.owner_does(op));
            } else {
                model.owner_does(op);
            }
            model.check(op, slots);
        }
        drop((model.live, model.pins, handlers.take()));
        give_everything_back(fake, area, CPUS);
        let recount = area.recount();
        assert_eq!((recount.free, recount.retiring), (slots, 0), "when all tasks are gone, all slots are free");
        assert_eq!(fake.frames_free(), frames - recount.metadata_pages, "and all frames");
        let counters = area.counters();
        assert_eq!((counters.allocated, counters.held), (counters.released, 0));
        assert_eq!((counters.populated, counters.unmapped), (counters.retired, counters.retired));
        area.for_each_slot(|_, phase, _, _| assert_eq!(phase, Phase::Free));
    }
}
