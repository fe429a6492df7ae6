//! Two CPUs want buffers of one word, one of which a third gives back.

use super::{Taken, WORDS};
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::AtomicU64;
use loom::thread;

struct Pool {
    taken: Taken,
    /// Stand for the memory of two buffers: loom reports an access that no hand-over orders.
    buffers: [UnsafeCell<u32>; 2],
}

impl Pool {
    /// With `free` buffers of two.
    fn new(free: usize) -> Arc<Self> {
        let taken = Taken([(); WORDS].map(|()| AtomicU64::new(u64::MAX)));
        taken.free_first(free);
        Arc::new(Self { taken, buffers: [(); 2].map(|()| UnsafeCell::new(0)) })
    }

    /// Takes one, uses it, and gives it back. Says whether there was one.
    fn bounce(&self) -> bool {
        let Some(index) = self.taken.take() else { return false };
        self.buffers[index].with_mut(|_| ());
        self.taken.give(index);
        true
    }
}

#[test]
fn a_buffer_is_one_users_at_a_time_and_what_it_did_comes_before_the_next() {
    loom::model(|| {
        let pool = Pool::new(1);
        let others: Vec<_> = (0..2)
            .map(|_| {
                let other = Arc::clone(&pool);
                thread::spawn(move || other.bounce())
            })
            .collect();
        others.into_iter().for_each(|other| drop(other.join().expect("nobody panics")));
        assert_eq!(pool.taken.count(1), 0, "all are back");
    });
}

#[test]
fn nobody_is_refused_while_there_is_one_for_each() {
    loom::model(|| {
        let pool = Pool::new(2);
        let other = Arc::clone(&pool);
        let other = thread::spawn(move || other.bounce());
        assert!(pool.bounce(), "there are two");
        assert!(other.join().expect("nobody panics"), "there are two");
        assert_eq!(pool.taken.count(2), 0, "all are back");
    });
}
