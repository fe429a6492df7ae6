//! Contexts that switch to each other in a ring, and back to whoever started it.
//!
//! ```text
//!   thread ──> context 7 ──> context 2 ──> context 5 ──> ... ──> thread          a shuffled order, the same for each kind of memory
//!
//!   top of a stack   | link: own context, the next one's |    a line
//!                    | what `switch` saves, a frame      |    two lines
//!                    | ...                               |
//! ```
//!
//! All that a switch touches lies there, so it is the stack's page that matters and no table elsewhere. The lines of stack number *i* begin *i* mod
//! [`COLOURS`] lines lower than the first: without that, all of them would fall into the same few sets of the cache, and more so
//! in large pages than in scattered ones. That is a price too, but not the TLB's.

use core::cell::UnsafeCell;
use core::ptr;

use vmstack::VirtAddr;
use vmstack_arch::{Context, switch};

use super::memory::Memory;

/// How many different places below the top the lines of a stack may begin at.
const COLOURS: usize = 48;
const LINE: usize = 64;

/// What lies at the top of a stack.
#[repr(C, align(64))]
struct Link {
    own: UnsafeCell<Context>,
    next: *const Link,
}

/// A ring of contexts on the stacks of a memory, with this thread in it.
///
/// Having a `Ring` means that every context but this thread's is suspended in its link, on a stack that is its own.
pub(super) struct Ring<'m> {
    /// Where this thread is suspended while the others run: it does not move.
    home: Box<Link>,
    _memory: &'m Memory,
}

impl<'m> Ring<'m> {
    /// A ring of `stacks` contexts, on as many stacks of `memory`, of which it is the only user.
    pub(super) fn new(memory: &'m Memory, stacks: usize) -> Self {
        let mut home = Box::new(Link { own: UnsafeCell::new(Context::empty()), next: ptr::null() });
        let mut next: *const Link = &raw const *home;
        for stack in shuffled(stacks) {
            let below = (stack % COLOURS + 1) * LINE;
            let link = memory.top(stack).wrapping_sub(below).as_mut_ptr::<Link>();
            // SAFETY: (1) the link is a line in the top page of a stack, whose memory is there as long as the ring is; (2) nobody uses it.
            unsafe { link.write(Link { own: UnsafeCell::new(Context::empty()), next }) };
            // SAFETY: (1) what is below the link is mapped and nobody's; (2) a link is aligned to a line.
            let context = unsafe { Context::new(VirtAddr::of(link), pass_on, link.expose_provenance()) };
            // SAFETY: it was just written there, and nobody has seen it.
            unsafe { (*link).own = UnsafeCell::new(context) };
            next = link;
        }
        home.next = next;
        Self { home, _memory: memory }
    }

    /// Lets every context run once, `times` times.
    pub(super) fn go_round(&mut self, times: u32) {
        for _ in 0..times {
            // SAFETY: the ring's contexts are suspended, see its type.
            unsafe { pass(&self.home) };
        }
    }
}

/// Suspends the running context, whose link is `link`, and resumes the next. Returns when the ring has come round.
///
/// # Safety
///
/// The next link's context is suspended, and neither link moves.
#[inline]
unsafe fn pass(link: &Link) {
    // SAFETY: the next link was written before this one, and lives as long.
    let next = unsafe { &*link.next };
    // SAFETY: the next context is suspended on a stack of its own, and this one's place does not move, as the caller knows.
    unsafe { switch(link.own.get(), next.own.get()) };
}

/// What a context does: it resumes the next one, for ever.
extern "C" fn pass_on(link: usize) -> ! {
    // SAFETY: `Ring::new` put the address of this context's own link there, which lives as long as the ring.
    let link = unsafe { &*ptr::with_exposed_provenance::<Link>(link) };
    loop {
        // SAFETY: whoever resumed us has suspended itself, and so have all the others (see `Ring`).
        unsafe { pass(link) };
    }
}

/// The numbers below `count`, each once, in an order that looks like none but is always the same.
fn shuffled(count: usize) -> Vec<usize> {
    let mut numbers: Vec<usize> = (0..count).collect();
    // Xorshift (Marsaglia, 2003): any order will do that no prefetcher follows.
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    for last in (1..count).rev() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        numbers.swap(last, (state % (last as u64 + 1)) as usize);
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::super::memory::{Kind, Memory};
    use super::{Ring, shuffled};

    #[test]
    fn a_ring_comes_round_on_every_kind_of_memory() {
        for memory in Kind::ALL.iter().filter_map(|&kind| Memory::new(kind, 300).ok()) {
            Ring::new(&memory, 300).go_round(10);
            // And again, with a new ring on the same stacks.
            Ring::new(&memory, 300).go_round(1);
        }
    }

    #[test]
    fn the_order_has_each_number_once_and_few_neighbours() {
        let order = shuffled(1000);
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert!(sorted.into_iter().eq(0..1000));
        assert!(order.windows(2).filter(|pair| pair[0].abs_diff(pair[1]) == 1).count() < 10);
        assert_eq!(order, shuffled(1000));
    }
}
