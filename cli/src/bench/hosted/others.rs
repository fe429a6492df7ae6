//! How others have a stack: their own code, as it comes.
//!
//! wasmtime's is `wasmtime-fiber` 34, the last of that name: the strategy of its successor `wasmtime-internal-fiber` (48) is the same, line by
//! line, but that brings 47 crates, a compiler's environment among them (this: 15). wasmtime's pooling allocator is part of wasmtime itself, and not here.
//!
//! A contender that can have no stack touches none: it would be fast, and wrong, so it stops the benchmark with what it said.

use core::hint::black_box;
use core::ptr;

use corosensei::stack::{DefaultStack, Stack};
use vmstack::VirtAddr;
use wasmtime_fiber::FiberStack;

use super::super::native::Contender;
use super::{SIZE, touch};

/// The size of a guard, in bytes.
const GUARD: usize = 4 << 10;
/// How many stacks a pool has to begin with. It is used as a stack: the last one that came back goes out first.
const POOL: usize = 64;

/// All of them, in the order in which they are shown.
pub(super) fn all() -> [Contender<'static>; 6] {
    [
        contender("corosensei", "corosensei's DefaultStack, new and dropped", corosensei),
        pool("pool", "a Vec pool of corosensei's stacks, as they were left", |_| ()),
        pool("pool_zero", "a Vec pool of corosensei's stacks, reading as zero", clear),
        contender("wasmtime", "wasmtime's FiberStack, new and dropped", wasmtime),
        contender("mmap", "mmap, mprotect, munmap", mmap),
        contender("malloc", "malloc and free, no guard", malloc),
    ]
}

/// `once`, again and again.
fn contender(name: &'static str, label: &'static str, once: impl Fn() + 'static) -> Contender<'static> {
    Contender { name, label, run: Box::new(move |count| (0..count).for_each(|_| once())) }
}

fn touch_coroutine(stack: &DefaultStack) {
    // SAFETY: the stack is mapped up to its base, as its type says, and ours.
    unsafe { touch(VirtAddr::new(stack.base().get())) };
}

fn new_coroutine() -> DefaultStack {
    DefaultStack::new(SIZE).unwrap_or_else(|error| panic!("corosensei has no stack: {error}"))
}

fn corosensei() {
    touch_coroutine(&new_coroutine());
}

/// Makes a stack read as zero.
fn clear(stack: &DefaultStack) {
    let bottom = ptr::with_exposed_provenance_mut::<u8>(stack.base().get() - SIZE);
    // SAFETY: it has `SIZE` bytes below its base, which are ours.
    unsafe { ptr::write_bytes(bottom, 0, SIZE) };
    black_box(bottom);
}

/// A `Vec` of stacks: the last one is taken, made ready, touched and put back.
fn pool(name: &'static str, label: &'static str, make_ready: fn(&DefaultStack)) -> Contender<'static> {
    let mut pool: Vec<DefaultStack> = (0..POOL).map(|_| new_coroutine()).collect();
    let run = move |count| {
        for _ in 0..count {
            let stack = pool.pop().unwrap_or_else(new_coroutine);
            make_ready(&stack);
            touch_coroutine(&stack);
            // Whoever holds a stack may do anything with the pool: it cannot be assumed to be as before.
            black_box(&mut pool).push(stack);
        }
    };
    Contender { name, label, run: Box::new(run) }
}

fn wasmtime() {
    let stack = FiberStack::new(SIZE, true).unwrap_or_else(|error| panic!("wasmtime has no stack: {error}"));
    // SAFETY: it is mapped up to its top, and ours.
    stack.top().into_iter().for_each(|top| unsafe { touch(VirtAddr::of(top)) });
}

pub(super) fn mmap() {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a mapping at an address that the kernel chooses takes the place of no other.
    let guard = unsafe { libc::mmap(ptr::null_mut(), GUARD + SIZE, libc::PROT_NONE, flags, -1, 0) };
    assert_ne!(guard, libc::MAP_FAILED, "mmap");
    let bottom = guard.wrapping_byte_add(GUARD);
    // SAFETY: the mapping is ours, and nobody uses it.
    let opened = unsafe { libc::mprotect(bottom, SIZE, libc::PROT_READ | libc::PROT_WRITE) };
    assert_eq!(opened, 0, "mprotect");
    // SAFETY: it is mapped from its bottom to its top, and ours.
    unsafe { touch(VirtAddr::of(bottom.wrapping_byte_add(SIZE))) };
    // SAFETY: the mapping is ours, whole, and nobody uses it any more.
    let gone = unsafe { libc::munmap(guard, GUARD + SIZE) };
    assert_eq!(gone, 0, "munmap");
}

fn malloc() {
    // SAFETY: asks for memory.
    let bottom = black_box(unsafe { libc::malloc(SIZE) });
    assert!(!bottom.is_null(), "malloc");
    // SAFETY: it has `SIZE` bytes, aligned to more than a word, and is ours.
    unsafe { touch(VirtAddr::of(bottom.wrapping_byte_add(SIZE))) };
    // SAFETY: it came from `malloc`, and nobody uses it any more.
    unsafe { libc::free(bottom) };
}

#[cfg(test)]
mod tests {
    use super::{all, new_coroutine, touch_coroutine};

    #[test]
    fn every_contender_can_have_a_stack_and_touch_its_top_page() {
        for mut contender in all() {
            (contender.run)(3);
        }
    }

    #[test]
    fn a_pool_that_clears_hands_out_zeroes() {
        let stack = new_coroutine();
        touch_coroutine(&stack);
        super::clear(&stack);
        use corosensei::stack::Stack;
        let word = core::ptr::with_exposed_provenance::<usize>(stack.base().get()).wrapping_sub(1);
        // SAFETY: the word at the top of a stack that is ours.
        assert_eq!(unsafe { core::ptr::read_volatile(word) }, 0);
    }
}
