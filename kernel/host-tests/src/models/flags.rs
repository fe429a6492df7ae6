//! Flags: one CPU raises a flag of a task that another CPU runs, is about to run, or gives up for a third.

/// The models, for one of the two versions of the protocol.
macro_rules! models {
    ($version:ident) => {
        use loom::sync::Arc;
        use loom::sync::atomic::{AtomicBool, AtomicU32, Ordering};
        use loom::thread;

        use crate::models::$version::words::{RELOOK, TaskWords, mark};

        const SIGNAL: u32 = 2;

        struct Scene {
            task: TaskWords,
            cpus: [AtomicU32; 2],
            /// What the flag is raised for.
            pending: AtomicBool,
        }

        impl Scene {
            fn new() -> Arc<Self> {
                let cpus = [AtomicU32::new(0), AtomicU32::new(0)];
                Arc::new(Self { task: TaskWords::new(), cpus, pending: AtomicBool::new(false) })
            }

            fn raise(&self) {
                self.pending.store(true, Ordering::Relaxed);
                if let Some(cpu) = self.task.raise(SIGNAL) {
                    mark(&self.cpus[cpu as usize]);
                }
            }

            /// Whether CPU `cpu`, which runs the task, will act before it returns to user mode.
            fn will_act(&self, cpu: usize) -> bool {
                self.task.look_again(&self.cpus[cpu]);
                self.cpus[cpu].load(Ordering::Relaxed) & SIGNAL != 0
            }
        }

        /// The task comes to a CPU, of which an earlier task's mark is left.
        pub(super) fn switch() {
            loom::model(|| {
                let scene = Scene::new();
                scene.cpus[0].store(RELOOK, Ordering::Relaxed);
                let other = Arc::clone(&scene);
                let raiser = thread::spawn(move || other.raise());
                scene.task.arrive(0, &scene.cpus[0]);
                raiser.join().expect("the raiser ends");
                assert!(scene.will_act(0), "the flag is lost");
            });
        }

        /// The task goes from one CPU to another.
        pub(super) fn migration() {
            loom::model(|| {
                let scene = Scene::new();
                scene.task.arrive(0, &scene.cpus[0]);
                let other = Arc::clone(&scene);
                let raiser = thread::spawn(move || other.raise());
                let other = Arc::clone(&scene);
                // From CPU to CPU through the run queue's lock: here, through the end of a thread.
                let first = thread::spawn(move || other.task.leave());
                first.join().expect("the first CPU ends");
                scene.task.arrive(1, &scene.cpus[1]);
                raiser.join().expect("the raiser ends");
                assert!(scene.will_act(1), "the flag is lost");
            });
        }

        /// The task lowers the flag, and looks at what it was raised for, while it is raised again.
        pub(super) fn lowering() {
            loom::model(|| {
                let scene = Scene::new();
                scene.task.arrive(0, &scene.cpus[0]);
                let other = Arc::clone(&scene);
                let raiser = thread::spawn(move || other.raise());
                scene.task.look_again(&scene.cpus[0]);
                scene.task.lower(SIGNAL, &scene.cpus[0]);
                let seen = scene.pending.load(Ordering::Relaxed);
                raiser.join().expect("the raiser ends");
                assert!(seen || scene.will_act(0), "neither the flag nor what it was raised for");
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
fn a_flag_that_is_raised_during_a_switch_is_seen() {
    as_it_is::switch();
}

#[test]
fn a_flag_that_is_raised_during_a_migration_is_seen() {
    as_it_is::migration();
}

#[test]
fn who_lowers_a_flag_sees_what_it_was_raised_for_or_the_flag_again() {
    as_it_is::lowering();
}

#[test]
#[should_panic(expected = "the flag is lost")]
fn without_fences_a_flag_that_is_raised_during_a_switch_is_lost() {
    without_fences::switch();
}

#[test]
#[should_panic(expected = "the flag is lost")]
fn without_fences_a_flag_that_is_raised_during_a_migration_is_lost() {
    without_fences::migration();
}
