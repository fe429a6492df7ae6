//! Grace periods: CPU 0 unpublishes an object, waits, and frees it; CPU 1 looks for it in reader sections meanwhile. Loom reports a
//! free that is not ordered after every read.

/// The models, for one of the two versions of the protocol.
macro_rules! models {
    ($version:ident) => {
        use loom::cell::UnsafeCell;
        use loom::model::Builder;
        use loom::sync::Arc;
        use loom::sync::atomic::{AtomicUsize, Ordering};
        use loom::thread;

        use crate::models::$version::periods::{IDLE, Periods};

        struct Scene {
            periods: Periods<2>,
            published: AtomicUsize,
            object: UnsafeCell<u32>,
        }

        impl Scene {
            fn new(passed: [u64; 2]) -> Arc<Self> {
                let published = AtomicUsize::new(1);
                Arc::new(Self { periods: Periods::new(passed), published, object: UnsafeCell::new(1) })
            }

            /// A reader section of CPU 1.
            fn read(&self) {
                if self.published.load(Ordering::Acquire) != 0 {
                    self.object.with(|object| {
                        // SAFETY: this is what is tried.
                        assert_eq!(unsafe { *object }, 1, "it was freed");
                    });
                }
            }

            /// CPU 0 unpublishes, waits for the period `later` after its own word's, and frees.
            fn replace(&self, less: u64) {
                self.published.store(0, Ordering::Relaxed);
                let number = self.periods.number_after(0) - less;
                while self.periods.over() < number {
                    self.periods.pass(0);
                    if !self.periods.end() && !self.periods.begin() {
                        thread::yield_now();
                    }
                }
                self.object.with_mut(|object| {
                    // SAFETY: this is what is tried.
                    unsafe { *object = 0 };
                });
            }

            /// CPU 1 has left a section.
            fn pass(&self) {
                self.periods.pass(1);
                self.periods.end();
            }
        }

        fn check(run: impl Fn() + Sync + Send + 'static) {
            let mut builder = Builder::new();
            builder.preemption_bound = Some(3);
            builder.check(run);
        }

        /// CPU 1 is busy, reads twice, and halts.
        pub(super) fn busy(less: u64) {
            check(move || {
                let scene = Scene::new([0, 0]);
                let other = Arc::clone(&scene);
                let reader = thread::spawn(move || {
                    other.periods.begin();
                    other.pass();
                    other.read();
                    other.pass();
                    other.read();
                    other.periods.enter_idle(1);
                    other.periods.end();
                });
                scene.replace(less);
                reader.join().expect("the reader ends");
            });
        }

        /// CPU 1 is idle, wakes up, reads, and halts again.
        pub(super) fn waking() {
            check(|| {
                let scene = Scene::new([0, IDLE]);
                let other = Arc::clone(&scene);
                let reader = thread::spawn(move || {
                    other.periods.leave_idle(1);
                    other.read();
                    other.periods.enter_idle(1);
                    other.periods.end();
                });
                scene.replace(0);
                reader.join().expect("the reader ends");
            });
        }

        /// It is the waking CPU that unpublishes and frees, and the other one that drives periods on meanwhile.
        pub(super) fn waking_writer() {
            check(|| {
                let scene = Scene::new([IDLE, 0]);
                let other = Arc::clone(&scene);
                let reader = thread::spawn(move || {
                    for _ in 0..2 {
                        other.periods.begin();
                        other.pass();
                        other.read();
                    }
                    other.periods.enter_idle(1);
                    other.periods.end();
                });
                scene.periods.leave_idle(0);
                scene.replace(0);
                reader.join().expect("the reader ends");
            });
        }
    };
}

mod as_it_is {
    models!(sound);
}

mod without_fences {
    #![allow(dead_code, reason = "two of three models are tried")]
    models!(unfenced);
}

#[test]
fn an_object_is_freed_after_the_sections_of_a_busy_cpu() {
    as_it_is::busy(0);
}

#[test]
fn an_object_is_freed_after_the_sections_of_a_cpu_that_wakes_up() {
    as_it_is::waking();
}

#[test]
fn an_object_that_a_waking_cpu_frees_is_freed_after_all_sections() {
    as_it_is::waking_writer();
}

#[test]
#[should_panic(expected = "")]
fn to_wait_for_the_next_period_only_is_not_enough() {
    as_it_is::busy(1);
}

#[test]
#[should_panic(expected = "")]
fn without_fences_a_cpu_that_wakes_up_reads_what_was_freed() {
    without_fences::waking();
}

#[test]
fn a_busy_cpu_needs_no_fence() {
    without_fences::busy(0);
}
