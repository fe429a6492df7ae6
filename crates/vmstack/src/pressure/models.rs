//! Announcements that come while another one is answered.

use super::Pressure;
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

#[test]
fn every_announcement_is_answered_by_an_answer_that_comes_after_it() {
    loom::model(|| {
        let shared = Arc::new((Pressure::new(), UnsafeCell::new(0_u32)));
        let other = Arc::clone(&shared);
        let announces = thread::spawn(move || {
            other.1.with_mut(|_| ());
            other.0.announce();
            other.0.announce();
        });
        let mut answered = 0;
        for _ in 0..2 {
            if let Some(announced) = shared.0.since(answered) {
                // What led to it is seen.
                shared.1.with(|_| ());
                assert!(announced > answered, "never backwards");
                answered = announced;
            }
        }
        announces.join().expect("the other CPU does not panic");
        assert_eq!(shared.0.since(answered), (answered != 2).then_some(2), "none is lost, and none is answered twice");
    });
}
