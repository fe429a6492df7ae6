//! Two threads, or two processes, that send each other signals, one for one: if one is lost, both wait for ever.
//!
//! They are real-time signals, so each is handled, and several go at once. In every other round who waits does so in the kernel, in the
//! rest in user mode, where it lets others run. Prints `fact signals.exchanged COUNT`; when nothing was heard for some seconds,
//! `fact signals.lost FIRST SECOND`, what came to each, and exit status 1.

use std::process::ExitCode;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use libc::{SIG_BLOCK, c_int, c_void, siginfo_t};
use vmstack_programs::{Ended, spawn, wait};

use crate::sys;

/// How many go at once.
const AT_ONCE: u64 = 10;

/// What each side waits for.
fn signals() -> [c_int; 2] {
    [libc::SIGRTMIN(), libc::SIGRTMIN() + 1]
}

/// Signals that came to each side.
static CAME: [AtomicU64; 2] = [AtomicU64::new(0), AtomicU64::new(0)];

extern "C" fn count(signal: c_int, _: *mut siginfo_t, _: *mut c_void) {
    CAME[usize::from(signal != signals()[0])].fetch_add(1, SeqCst);
}

/// One side, by its number: the first starts.
#[derive(Clone, Copy)]
struct Side(usize);

impl Side {
    fn came(&self) -> u64 {
        CAME[self.0].load(SeqCst)
    }

    /// Waits until `wanted` signals came.
    fn wait_until(&self, wanted: u64) {
        if (wanted / AT_ONCE).is_multiple_of(2) {
            while self.came() < wanted {
                thread::yield_now();
            }
            return;
        }
        let own = signals()[self.0];
        let unblocked = sys::mask(SIG_BLOCK, &[own]);
        while self.came() < wanted {
            sys::suspend(&unblocked);
        }
        sys::mask(libc::SIG_UNBLOCK, &[own]);
    }

    fn run(self, rounds: u64, send: impl Fn(c_int) -> bool) -> bool {
        let other = signals()[1 - self.0];
        let send_all = || (0..AT_ONCE).all(|_| send(other));
        (1..=rounds).all(|round| {
            let sent = self.0 != 0 || send_all();
            self.wait_until(round * AT_ONCE);
            sent && (self.0 == 0 || send_all())
        })
    }
}

const FIRST: Side = Side(0);
const SECOND: Side = Side(1);

fn exchange_threads(rounds: u64) -> bool {
    let first = sys::thread_id();
    let second = AtomicI32::new(0);
    thread::scope(|scope| {
        let other = scope.spawn(|| {
            sys::mask(SIG_BLOCK, &signals()[..1]);
            second.store(sys::thread_id(), SeqCst);
            SECOND.run(rounds, |signal| sys::kill_thread(first, signal))
        });
        sys::mask(SIG_BLOCK, &signals()[1..]);
        while second.load(SeqCst) == 0 {
            thread::yield_now();
        }
        let well = FIRST.run(rounds, |signal| sys::kill_thread(second.load(SeqCst), signal));
        other.join().is_ok_and(|other| other) && well
    })
}

fn exchange_processes(rounds: u64) -> bool {
    let first = sys::process_id();
    let child = spawn(|| i32::from(!SECOND.run(rounds, |signal| sys::kill(first, signal))));
    let Ok(second) = child else { return false };
    let well = FIRST.run(rounds, |signal| sys::kill(second, signal));
    wait(second).is_ok_and(Ended::well) && well
}

/// Ends the process when nothing came for a while.
fn watch() {
    thread::spawn(|| {
        let mut seen = (0, 0);
        loop {
            thread::sleep(Duration::from_secs(10));
            let now = (CAME[0].load(SeqCst), CAME[1].load(SeqCst));
            if now == seen {
                println!("fact signals.lost {} {}", now.0, now.1);
                std::process::exit(1);
            }
            seen = now;
        }
    });
}

pub(crate) fn main(arguments: &[String]) -> ExitCode {
    let Some(count_wanted) = arguments.first().and_then(|count| count.parse::<u64>().ok()) else {
        eprintln!("signals: how many? signals exchange 1000000");
        return ExitCode::from(2);
    };
    signals().into_iter().for_each(|signal| sys::handle(signal, count, libc::SA_RESTART));
    let rounds = count_wanted / 2 / AT_ONCE;
    let well = if arguments.get(1).is_some_and(|who| who == "processes") {
        exchange_processes(rounds)
    } else {
        watch();
        exchange_threads(rounds)
    };
    println!("fact signals.exchanged {}", rounds * 2 * AT_ONCE);
    ExitCode::from(u8::from(!well))
}
