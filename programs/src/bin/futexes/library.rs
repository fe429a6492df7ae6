//! What the C library and Rust's library build on futexes.

use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Barrier, Condvar, Mutex, RwLock};
use std::thread;

use vmstack_programs::checks::{Checks, Outcome, equal};

use crate::sys::SOON;

pub(crate) const CHECKS: &Checks = &[("mutex", mutex), ("condition", condition), ("locks", locks)];

const THREADS: usize = 8;
const TURNS: usize = 5000;

fn mutex() -> Outcome {
    let sum = Mutex::new(0_usize);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for turn in 0..TURNS {
                    let Ok(mut sum) = sum.lock() else { return };
                    *sum += 1;
                    if turn.is_multiple_of(64) {
                        // Held for a while, so that others wait.
                        thread::yield_now();
                    }
                }
            });
        }
    });
    equal("the sum", sum.into_inner().unwrap_or(0), THREADS * TURNS)
}

/// Two threads take turns.
fn condition() -> Outcome {
    let shared = Arc::new((Mutex::new(0_usize), Condvar::new()));
    let play = |me: usize, shared: &(Mutex<usize>, Condvar)| {
        let Ok(mut turn) = shared.0.lock() else { return };
        for _ in 0..TURNS {
            while *turn % 2 != me {
                turn = match shared.1.wait(turn) {
                    Ok(turn) => turn,
                    Err(_) => return,
                };
            }
            *turn += 1;
            shared.1.notify_one();
        }
    };
    let other = Arc::clone(&shared);
    let thread = thread::spawn(move || play(1, &other));
    play(0, &shared);
    thread.join().map_err(|_| "the thread panicked".to_owned())?;
    equal("turns", shared.0.lock().map_or(0, |turn| *turn), 2 * TURNS)
}

/// Read-write locks, barriers, time-outs.
fn locks() -> Outcome {
    let value = RwLock::new((0_usize, 0_usize));
    let barrier = Barrier::new(THREADS);
    let torn = AtomicU32::new(0);
    thread::scope(|scope| {
        for number in 0..THREADS {
            let (value, barrier, torn) = (&value, &barrier, &torn);
            scope.spawn(move || {
                barrier.wait();
                for _ in 0..TURNS / 4 {
                    if number.is_multiple_of(4)
                        && let Ok(mut value) = value.write()
                    {
                        value.0 += 1;
                        value.1 += 1;
                    } else if let Ok(value) = value.read() {
                        torn.fetch_add(u32::from(value.0 != value.1), SeqCst);
                    }
                }
            });
        }
    });
    equal("torn values", torn.load(SeqCst), 0)?;
    equal("writes", value.into_inner().map_or(0, |value| value.0), THREADS.div_ceil(4) * (TURNS / 4))?;
    let (lock, nobody) = (Mutex::new(()), Condvar::new());
    let guard = lock.lock().map_err(|error| error.to_string())?;
    let timed_out = nobody.wait_timeout(guard, SOON).map(|(_, result)| result.timed_out());
    equal("a wait that nobody ends", timed_out.unwrap_or(false), true)
}
