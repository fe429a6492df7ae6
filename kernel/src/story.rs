//! The story: processes overflow and survive, memory is fragmented, areas of any size come and go, and everything is counted again.
//!
//! Facts only: what they mean is judged by the host. The part about processes is `programs/story`, an ordinary program.

use alloc::vec::Vec;
use core::fmt::Write;
use core::ops::ControlFlow;
use core::slice;

use vmstack::Phase;

use crate::arch::layout::PAGE_SIZE;
use crate::balance::{self, Balance};
use crate::control::DirectStack;
use crate::mm::fragments::Fragments;
use crate::mm::heap::OutOfHeap;
use crate::mm::{frames, tables};
use crate::process::exec::Strings;
use crate::process::start;
use crate::stacks::{AREAS, TASK_STACK, TASKS};
use crate::syscall::Errno;
use crate::task::{names, sched};
use crate::text::Text;
use crate::{fact, println};

mod areas;
pub(crate) mod storage;

/// The program that is the story's first process.
const PROGRAM: &[u8] = b"/bin/story";
/// How many stacks are made at once to warm up, and to see what page tables they take.
const MANY: usize = 64;

/// Runs a program to its end.
fn run_program(path: &[u8]) {
    let mut strings = Strings::default();
    let named = strings.arguments.push(path);
    match named.map_err(Errno::from).and_then(|()| start::start(path, &strings)) {
        Ok(process) => {
            process.wait_for_end();
        }
        Err(error) => println!("the story's program cannot be started: {error:?}"),
    }
}

/// Tells it.
pub(crate) fn tell() {
    warm_up();
    sched::settle();
    let before = Balance::take();
    run_program(PROGRAM);
    sched::settle();
    // Before the caches are drained: stacks that were used are what it is about.
    fact!("zero.words", "{}", words_left());
    fragmentation();
    areas::tell();
    fact!("guard.frames", "{}", guard_frames());
    fact!("protection.writable_text", "{}", tables::writable_text());
    let after = Balance::take();
    fact!("balance.frames", "{} {}", before.frames, after.frames);
    fact!("balance.tables", "{} {}", before.tables, after.tables);
    fact!("balance.slots", "{}", after.slots_without_task);
}

/// Uses as many stacks at once as the story will, so that tables and records which are kept for good are there.
fn warm_up() {
    let tables_before = area_tables();
    let stacks: Vec<_> = (0..MANY).filter_map(|_| TASKS.alloc(0).ok()).collect();
    let tables = area_tables() - tables_before;
    fact!("cost.page_table_bytes", "{} {}", stacks.len(), tables * PAGE_SIZE);
}

fn area_tables() -> usize {
    balance::areas().map(|range| tables::kernel().census(range).tables).sum()
}

/// Frames that are mapped where a guard should be: every leaf in the slots of an area that is not in a stack.
fn guard_frames() -> usize {
    AREAS
        .iter()
        .filter_map(|area| area.geometry())
        .map(|geometry| {
            let mut found = 0;
            let walked: ControlFlow<()> = tables::kernel().for_each_leaf(geometry.slot_range(), |leaf| {
                let offset = leaf.at.distance(geometry.slot_range().start()) & (geometry.stride() - 1);
                found += usize::from(offset < geometry.guard());
                ControlFlow::Continue(())
            });
            debug_assert!(walked.is_continue());
            found
        })
        .sum()
}

/// Words that are not zero in stacks which are handed out now: those that the story used before, and new ones (INV-ZERO).
fn words_left() -> usize {
    let stacks: Vec<_> = (0..MANY).filter_map(|_| TASKS.alloc(0).ok()).collect();
    let words = stacks.iter().map(|stack| {
        // SAFETY: the stack is mapped, owned here, and nobody runs on it.
        let words = unsafe { slice::from_raw_parts(stack.bottom().as_mut_ptr::<u64>().cast_const(), TASK_STACK / 8) };
        words.iter().filter(|&&word| word != 0).count()
    });
    words.sum()
}

/// With every other frame taken, asks for a contiguous stack and for a mapped one.
fn fragmentation() {
    let taken = Fragments::all_but_every_other();
    let free = frames::free() * PAGE_SIZE;
    let direct = DirectStack::new();
    let mapped = TASKS.alloc(0);
    fact!("fragmentation.free", "{free}");
    fact!("fragmentation.direct.got", "{}", usize::from(direct.is_some()));
    fact!("fragmentation.virtual.got", "{}", usize::from(mapped.is_ok()));
    drop((direct, mapped));
    taken.give();
}

/// The slots of the task area as facts, a line each, for the drawing: index, state, deepest use, size, owner.
pub(crate) fn slots() -> Result<Vec<u8>, OutOfHeap> {
    let mut text = Text::default();
    let mut whole = Ok(());
    TASKS.for_each_slot(|slot, phase, owner, used| {
        let state = match phase {
            Phase::Free => return,
            Phase::Ready => "ready",
            Phase::Live => "live",
            Phase::Dead => "dead",
            Phase::Retiring => "retiring",
            _ => "leaked",
        };
        let index = slot.get();
        let written = match phase {
            Phase::Live => {
                writeln!(text, "fact area.slot {index} live {used} {TASK_STACK} {owner} {}", names::Name(owner))
            }
            _ => writeln!(text, "fact area.slot {index} {state} {used} {TASK_STACK}"),
        };
        whole = whole.and(written);
    });
    whole.map(|()| text.into_bytes()).map_err(|_| OutOfHeap)
}
