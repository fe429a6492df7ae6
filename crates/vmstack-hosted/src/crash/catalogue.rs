//! The names of the crashes, and what each is.
//!
//! LKDTM's names where LKDTM has one (Linux, `drivers/misc/lkdtm`). `NAME:WORD` is a variant of `NAME`. Context: any.

use super::stage::Scene;
use super::ways;

/// What a victim does.
pub(super) type Way = fn(&Scene<'_>);

/// Which slot a victim has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Seat {
    /// The lowest.
    First,
    /// Any, among others that are used.
    Among,
    /// The highest.
    Last,
}

/// How a crash is provoked.
#[derive(Clone, Copy, Debug)]
pub(super) enum Plan {
    /// Each way in a machine of its own.
    Each(&'static [(Seat, Way)]),
    /// One victim on each of so many CPUs, at the same moment.
    OnAll(usize, Way),
    /// So many victims one after the other, on so many CPUs.
    Series { cpus: usize, victims: usize, way: Way },
    /// A stack pointer after the other, each with every kind of event.
    Sweep,
}

/// How many overflows are a storm.
const STORM: usize = 10_000;
/// How many CPUs take part where all do.
const CPUS: usize = 4;

pub(super) const NAMES: &[&str] = &[
    "EXHAUST_STACK",
    "EXHAUST_STACK:trait-objects",
    "EXHAUST_STACK:closures",
    "EXHAUST_STACK:mutual",
    "STACK_GUARD_PAGE_LEADING",
    "STACK_GUARD_PAGE_TRAILING",
    "FIRST_SLOT_BELOW",
    "LAST_SLOT_ABOVE",
    "BIG_FRAME:page",
    "BIG_FRAME:stack",
    "BIG_FRAME:guard",
    "OVERFLOW_IN_MEMCPY",
    "JUMP_TO_OTHER_GUARD",
    "WILD_POINTER",
    "UNDERFLOW",
    "OVERFLOW_AT_EVERY_OFFSET",
    "OVERFLOW_ON_ALL_CPUS",
    "OVERFLOW_STORM",
    "EXEC_STACK",
];

/// What the crash called `name` is.
pub(super) fn find(name: &str) -> Option<Plan> {
    Some(match name {
        "EXHAUST_STACK" => Plan::Each(&[(Seat::Among, ways::recursion)]),
        "EXHAUST_STACK:trait-objects" => Plan::Each(&[(Seat::Among, ways::trait_objects)]),
        "EXHAUST_STACK:closures" => Plan::Each(&[(Seat::Among, ways::closures)]),
        "EXHAUST_STACK:mutual" => Plan::Each(&[(Seat::Among, ways::mutual_recursion)]),
        "STACK_GUARD_PAGE_LEADING" => Plan::Each(&[(Seat::Among, ways::read_below)]),
        "STACK_GUARD_PAGE_TRAILING" => Plan::Each(&[(Seat::Among, ways::read_above)]),
        "FIRST_SLOT_BELOW" => Plan::Each(&[(Seat::First, ways::recursion), (Seat::First, ways::read_first_byte)]),
        "LAST_SLOT_ABOVE" => Plan::Each(&[(Seat::Last, ways::pop_from_empty), (Seat::Last, ways::read_last_byte)]),
        "BIG_FRAME:page" => Plan::Each(&[(Seat::Among, ways::frames_over_a_page)]),
        "BIG_FRAME:stack" => Plan::Each(&[(Seat::Among, ways::frame_over_the_stack)]),
        "BIG_FRAME:guard" => Plan::Each(&[(Seat::Among, ways::frame_over_the_guard)]),
        "OVERFLOW_IN_MEMCPY" => Plan::Each(&[(Seat::Among, ways::fill_in_a_leaf)]),
        "JUMP_TO_OTHER_GUARD" => Plan::Each(&[(Seat::Among, ways::touch_the_guard_of_another)]),
        "WILD_POINTER" => Plan::Each(&[(Seat::Among, ways::read_mid_guard)]),
        "UNDERFLOW" => Plan::Each(&[(Seat::Among, ways::pop_from_empty)]),
        "OVERFLOW_AT_EVERY_OFFSET" => Plan::Sweep,
        "OVERFLOW_ON_ALL_CPUS" => Plan::OnAll(CPUS, ways::recursion),
        "OVERFLOW_STORM" => Plan::Series { cpus: CPUS, victims: STORM, way: ways::recursion },
        "EXEC_STACK" => Plan::Each(&[(Seat::Among, ways::execute_stack)]),
        _ => return None,
    })
}
