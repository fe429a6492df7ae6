//! Shootdowns: CPU 0 takes an entry away, begins a shootdown, and frees the frame if that is over; CPU 1 uses the frame through a TLB
//! meanwhile. Loom reports a free that is not ordered after every use.

/// The models, for one of the two versions of the protocol.
macro_rules! models {
    ($version:ident) => {
        use core::cell::Cell;

        use loom::cell::UnsafeCell;
        use loom::sync::Arc;
        use loom::sync::atomic::{AtomicBool, Ordering};
        use loom::thread;

        use crate::models::$version::epochs::Epochs;

        struct Scene {
            epochs: Epochs<2>,
            /// The page-table entry: whether it maps the frame.
            entry: AtomicBool,
            frame: UnsafeCell<u32>,
        }

        /// CPU 1's, with the one entry that matters.
        struct Tlb {
            knows: Cell<bool>,
        }

        impl Scene {
            fn new() -> Arc<Self> {
                let (entry, frame) = (AtomicBool::new(true), UnsafeCell::new(1));
                Arc::new(Self { epochs: Epochs::new(), entry, frame })
            }

            /// CPU 1 writes to the page, if its TLB knows it, or the entry is there.
            fn touch(&self, tlb: &Tlb) {
                tlb.knows.set(tlb.knows.get() || self.entry.load(Ordering::Relaxed));
                if tlb.knows.get() {
                    self.frame.with_mut(|frame| {
                        // SAFETY: this is what is tried.
                        unsafe { *frame += 1 };
                    });
                }
            }

            /// CPU 1 looks where it switches tasks, or hears a message.
            fn look(&self, tlb: &Tlb) {
                if self.epochs.is_behind(1) {
                    self.epochs.pass(1, || tlb.knows.set(false));
                }
            }

            /// CPU 1 goes on after it was away.
            fn come(&self, tlb: &Tlb) {
                self.epochs.come(1, || tlb.knows.set(false));
            }

            /// CPU 0 unmaps the page, asks `times` whether all have flushed, and gives the frame to somebody else if so.
            fn reclaim(&self, times: usize) {
                self.entry.store(false, Ordering::Relaxed);
                let number = self.epochs.begin();
                assert!(self.epochs.pass_own(0, number), "CPU 0 is the only one that begins any");
                let answers: Vec<bool> = (0..times).map(|_| self.epochs.is_over(number, 2)).collect();
                assert!(answers.is_sorted(), "once over, always over");
                if answers.contains(&true) {
                    self.frame.with_mut(|frame| {
                        // SAFETY: this is what is tried.
                        unsafe { *frame = 0 };
                    });
                }
            }
        }

        /// CPU 1 is busy, and looks between two uses.
        pub(super) fn busy() {
            loom::model(|| {
                let scene = Scene::new();
                scene.epochs.come(0, || ());
                scene.epochs.come(1, || ());
                let other = Arc::clone(&scene);
                let user = thread::spawn(move || {
                    let tlb = Tlb { knows: Cell::new(false) };
                    other.touch(&tlb);
                    other.look(&tlb);
                    other.touch(&tlb);
                    other.epochs.leave(1);
                });
                scene.reclaim(2);
                user.join().expect("the user ends");
            });
        }

        /// CPU 1 idles, with the page in its TLB, and comes back.
        pub(super) fn waking() {
            loom::model(|| {
                let scene = Scene::new();
                scene.epochs.come(0, || ());
                let other = Arc::clone(&scene);
                let user = thread::spawn(move || {
                    let tlb = Tlb { knows: Cell::new(true) };
                    other.come(&tlb);
                    other.touch(&tlb);
                    other.epochs.leave(1);
                });
                scene.reclaim(2);
                user.join().expect("the user ends");
            });
        }

        /// CPU 1 uses the page, and idles.
        pub(super) fn leaving() {
            loom::model(|| {
                let scene = Scene::new();
                scene.epochs.come(0, || ());
                scene.epochs.come(1, || ());
                let other = Arc::clone(&scene);
                let user = thread::spawn(move || {
                    other.touch(&Tlb { knows: Cell::new(false) });
                    other.epochs.leave(1);
                });
                scene.reclaim(1);
                user.join().expect("the user ends");
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
fn a_frame_is_freed_after_a_busy_cpu_has_flushed() {
    as_it_is::busy();
}

#[test]
fn a_frame_is_not_touched_by_a_cpu_that_wakes_up_after_it_was_freed() {
    as_it_is::waking();
}

#[test]
fn a_frame_is_freed_after_the_last_use_by_a_cpu_that_goes_to_sleep() {
    as_it_is::leaving();
}

#[test]
#[should_panic(expected = "")]
fn without_fences_a_cpu_that_wakes_up_touches_what_was_freed() {
    without_fences::waking();
}

#[test]
fn a_cpu_that_only_looks_needs_no_fence() {
    without_fences::busy();
}
