//! The console: whole lines, from any CPU, in any context that may wait a little.
//!
//! A line is never broken by another CPU's. The lock knows its owner and is waited for a bounded time (INV-FAULT): who
//! cannot get it prints all the same and says so, for a report that is lost is worse than one that is mixed.
//!
//! With `mode=program` the console (COM1) belongs to the program, and what the kernel says goes to the side channel (COM2).

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::arch::cpu;
use crate::arch::percpu;
use crate::arch::serial::{self, Port};
use crate::sync::Section;

/// Zero, or the holder's CPU number plus one.
static HOLDER: AtomicU32 = AtomicU32::new(0);
static QUIET: AtomicBool = AtomicBool::new(false);

/// How often the lock is asked for before it is gone without: about a second under emulation.
const PATIENCE: u32 = 50_000_000;

/// Sends what the kernel prints to the side channel from here on.
pub(crate) fn leave_to_program() {
    QUIET.store(true, Ordering::Relaxed);
}

/// The right to print: lines of several calls stay together.
#[derive(Debug)]
pub(crate) struct Console {
    held: bool,
    _section: Section,
}

impl Console {
    /// Takes the console, or goes without after a bounded time. Nested on one CPU it prints at once.
    pub(crate) fn take() -> Self {
        let section = Section::enter();
        let me = percpu::cpu_number().index() as u32 + 1;
        for _ in 0..PATIENCE {
            // Acquire/Release: one holder's bytes before the next one's.
            match HOLDER.compare_exchange_weak(0, me, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return Self { held: true, _section: section },
                Err(holder) if holder == me => return Self { held: false, _section: section },
                Err(_) => cpu::relax(),
            }
        }
        let mut console = Self { held: false, _section: section };
        console.write_str("[the console was held too long; lines may be mixed]\n").ok();
        console
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        if self.held {
            HOLDER.store(0, Ordering::Release);
        }
    }
}

impl Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let port = if QUIET.load(Ordering::Relaxed) { Port::Com2 } else { Port::Com1 };
        if self.held {
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
        writeln!($crate::console::Console::take(), $($argument)*).ok();
    }};
}

/// Prints a fact: a name and its values, for the host to judge.
#[macro_export]
macro_rules! fact {
    ($name:expr, $($argument:tt)*) => { $crate::println!("fact {} {}", $name, format_args!($($argument)*)) };
}
