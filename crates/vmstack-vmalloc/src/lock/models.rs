//! What must hold of the lock, in every order of what CPUs do.

use loom::sync::Arc;
use loom::thread;

use super::Lock;

#[test]
fn one_at_a_time_and_each_sees_what_the_last_one_did() {
    loom::model(|| {
        let lock = Arc::new(Lock::new(0));
        let add = |lock: &Lock<usize>| {
            let mut value = lock.lock(&());
            let before = *value;
            thread::yield_now();
            *value = before + 1;
        };
        let other = {
            let lock = Arc::clone(&lock);
            thread::spawn(move || add(&lock))
        };
        add(&lock);
        other.join().expect("it ends");
        assert_eq!(*lock.lock(&()), 2);
    });
}
