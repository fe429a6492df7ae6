//! The console: whole lines, from any CPU, in any context that may wait a little.
//!
//! A line is never broken by another CPU's. The lock knows its owner and is waited for a bounded time (INV-FAULT): who
//! cannot get it prints all the same and says so, for a report that is lost is worse than one that is mixed. Who is killed
//! while it prints gives the lock back like any other; whoever prints next ends its line.
//!
//! With `mode=program` the console (COM1) belongs to the program, and what the kernel says goes to the side channel (COM2).

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicBool, Ordering};

use crate::arch::serial::{self, Port};
use crate::hooks;
use crate::sync::current::{holder, is_of_this_cpu};
use crate::sync::{AnyLock, Holder, Kind, RawLock, State, Still};

static LOCK: RawLock = RawLock::new("console", Kind::Spin);
static QUIET: AtomicBool = AtomicBool::new(false);

/// How often the lock is asked for before it is gone without: about a second under emulation.
const PATIENCE: u64 = 50_000_000;

/// Sends what the kernel prints to the side channel from here on.
pub(crate) fn leave_to_program() {
    QUIET.store(true, Ordering::Relaxed);
}

/// The console's lock, without the patience.
#[derive(Debug)]
struct ConsoleLock;

/// The console's lock.
pub(crate) fn lock() -> &'static dyn AnyLock {
    &ConsoleLock
}

impl AnyLock for ConsoleLock {
    fn state(&self) -> State {
        LOCK.state()
    }

    fn clear_poison(&self) {
        LOCK.clear_poison();
    }

    fn hold(&self, then: fn()) {
        let _console = Console::take();
        then();
    }
}

/// The right to print: lines of several calls stay together.
#[derive(Debug)]
pub(crate) struct Console {
    /// Who holds the lock; `None`: printing without.
    held: Option<Holder<'static>>,
    /// Left after the lock is released.
    _still: Still,
}

impl Console {
    /// Takes the console, or goes without after a bounded time. Nested on one CPU it prints at once.
    pub(crate) fn take() -> Self {
        let still = Still::new();
        if is_of_this_cpu(&LOCK) {
            return Self { held: None, _still: still };
        }
        let holder = holder();
        // Who holds it while the machine is being stopped was stopped, too.
        let stopping = hooks::is_stopping();
        if LOCK.lock_within(&holder, if stopping { PATIENCE / 1000 } else { PATIENCE }) {
            return Self { held: Some(holder), _still: still }.after_the_dead();
        }
        let mut console = Self { held: None, _still: still };
        let words = if stopping { "\n" } else { "[the console was held too long; lines may be mixed]\n" };
        console.write_str(words).ok();
        console
    }

    /// Takes the console, or gives up after a bounded time that is shorter than [`take`](Self::take)'s.
    pub(crate) fn take_soon() -> Option<Self> {
        let still = Still::new();
        if is_of_this_cpu(&LOCK) {
            return Some(Self { held: None, _still: still });
        }
        let holder = holder();
        LOCK.lock_within(&holder, PATIENCE / 10).then(|| Self { held: Some(holder), _still: still }.after_the_dead())
    }

    /// Ends the line of a holder that was killed.
    fn after_the_dead(mut self) -> Self {
        if LOCK.is_poisoned() {
            LOCK.clear_poison();
            self.write_str("\n").ok();
        }
        self
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        if let Some(holder) = self.held {
            LOCK.unlock(&holder);
        }
    }
}

impl Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let port = if QUIET.load(Ordering::Relaxed) { Port::Com2 } else { Port::Com1 };
        if self.held.is_some() {
            serial::write_bytes(port, text.as_bytes());
        } else {
            serial::write_bytes_forced(port, text.as_bytes());
        }
        Ok(())
    }
}

impl Console {
    /// Writes a piece of a program's output.
    pub(crate) fn program_output(&self, bytes: &[u8]) {
        serial::write_bytes(Port::Com1, bytes);
    }
}

/// Says something in a few words although somebody holds the console: byte by byte, in between.
pub(crate) fn say_in_between(words: &str) {
    let port = if QUIET.load(Ordering::Relaxed) { Port::Com2 } else { Port::Com1 };
    serial::write_bytes_forced(port, words.as_bytes());
}

/// Writes a line to the side channel.
pub(crate) fn side_channel(line: fmt::Arguments<'_>) {
    struct Side;
    impl Write for Side {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            serial::write_bytes(Port::Com2, text.as_bytes());
            Ok(())
        }
    }
    let _console = Console::take();
    writeln!(Side, "{line}").ok();
}

/// Prints a line on the console.
#[macro_export]
macro_rules! println {
    ($($argument:tt)*) => {{
        use ::core::fmt::Write as _;
        // The arguments are computed before the console is held: they may sleep.
        match ::core::format_args!($($argument)*) {
            line => writeln!($crate::console::Console::take(), "{line}").ok(),
        };
    }};
}

/// Prints a fact: a name and its values, for the host to judge.
#[macro_export]
macro_rules! fact {
    ($name:expr, $($argument:tt)*) => { $crate::println!("fact {} {}", $name, format_args!($($argument)*)) };
}
