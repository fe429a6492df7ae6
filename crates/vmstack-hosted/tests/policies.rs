//! What a machine is told of its cache: when stacks are cleared, and how many may be kept.

use vmstack::{KernelStack, Scrub};
use vmstack_hosted::{Config, Hosted, Machine};

const SIZE: usize = 16 << 10;
const WORD: usize = size_of::<usize>();

/// The word so many bytes below the top of `stack`.
fn word(stack: &KernelStack<'_, Hosted>, depth: usize) -> *mut usize {
    stack.top().wrapping_sub(depth).as_mut_ptr()
}

/// What the next owner of a stack reads where the last one wrote, at the top and at the bottom.
fn left_behind(scrub: Scrub) -> [usize; 2] {
    let machine = Machine::new(&Config::new(4, SIZE).scrub(scrub)).expect("a machine");
    let _cpu = machine.cpu().expect("a CPU");
    let places = [WORD, SIZE];
    let first = machine.area().alloc(0).expect("a stack");
    let slot = first.id().slot();
    for depth in places {
        // SAFETY: a word of a stack that is ours.
        unsafe { word(&first, depth).write_volatile(depth) };
    }
    drop(first);
    let next = machine.area().alloc(0).expect("a stack");
    assert_eq!(next.id().slot(), slot, "the stack that came back last goes out first");
    // SAFETY: as above.
    places.map(|depth| unsafe { word(&next, depth).read_volatile() })
}

#[test]
fn a_stack_reads_as_zero_by_every_policy_but_none() {
    for scrub in [Scrub::Dirty, Scrub::Whole, Scrub::OnExit] {
        assert_eq!(left_behind(scrub), [0, 0], "{scrub:?}");
    }
    assert_eq!(left_behind(Scrub::None), [WORD, SIZE]);
}

/// How many ready stacks are kept when 200 have come back.
fn kept(config: Config) -> usize {
    let machine = Machine::new(&config).expect("a machine");
    let _cpu = machine.cpu().expect("a CPU");
    let stacks: Vec<_> = (0..200).map(|_| machine.area().alloc(0).expect("a stack")).collect();
    drop(stacks);
    let counters = machine.area().counters();
    let kept = counters.held as usize / SIZE;
    assert_eq!(machine.area().recount().ready, kept, "{counters:?}");
    assert_eq!(machine.frames().taken, machine.area().recount().metadata_pages + kept * (SIZE >> 12));
    kept
}

#[test]
fn what_is_kept_is_bounded_by_the_budget_and_the_rest_goes_back_to_the_memory() {
    let config = Config::new(256, SIZE);
    assert_eq!(kept(config), 200, "there is no limit unless said otherwise");
    assert!(kept(config.budget(32)) <= 32 + 2 * 8);
    assert!(kept(config.budget(0)) <= 2 * 8, "a CPU keeps two magazines");
}
