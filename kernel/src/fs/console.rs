//! The console as a device: the bytes that the other end sends, one reader at a time, and what programs say.
//!
//! Nothing interrupts when a byte comes: who waits for one looks at every tick.

use core::sync::atomic::{AtomicUsize, Ordering};

use super::device::Device;
use super::ready::{self, Ready};
use super::span::Span;
use crate::arch::serial::{self, Port};
use crate::console;
use crate::sync::{AnyLock, Mutex};
use crate::syscall::Errno;

/// The byte that says that the console's other end has nothing more to say, and the one before bytes that would be taken for
/// either: what follows it has bit 6 changed.
const END_OF_TRANSMISSION: u8 = 0x04;
const ESCAPE: u8 = 0x10;
const ESCAPED: u8 = 0x40;
/// How often the port is looked at before the next byte is taken to be late.
const LOOKS: usize = 2000;
/// How many bytes go over the stack at a time.
const PIECE: usize = 512;

/// The console's input, for one reader at a time.
#[derive(Debug)]
struct Input {
    /// Nothing more comes: every read ends at once.
    ended: bool,
    /// The next byte comes after an escape.
    escaped: bool,
}

static INPUT: Mutex<Input> = Mutex::new("console-input", Input { ended: false, escaped: false });

/// How often something was read.
static READS: AtomicUsize = AtomicUsize::new(0);

/// The lock of the console's input.
pub(crate) fn lock() -> &'static dyn AnyLock {
    &INPUT
}

/// The next byte of the port, if it comes soon.
fn soon() -> Option<u8> {
    (0..LOOKS).find_map(|_| serial::read_byte(Port::Com1))
}

/// Whether a read would not wait.
fn is_readable() -> bool {
    serial::has_byte(Port::Com1) || INPUT.lock_anyway().ended
}

impl Input {
    /// Takes what there is, to the end of a line at most, and says how much that is.
    fn take(&mut self, bytes: &mut [u8]) -> usize {
        let mut count = 0;
        while count < bytes.len() && !self.ended {
            match soon() {
                None => break,
                Some(byte) if self.escaped => {
                    (bytes[count], self.escaped) = (byte ^ ESCAPED, false);
                    count += 1;
                }
                Some(END_OF_TRANSMISSION) => self.ended = true,
                Some(ESCAPE) => self.escaped = true,
                Some(byte) => {
                    bytes[count] = byte;
                    count += 1;
                    if byte == b'\n' {
                        break;
                    }
                }
            }
        }
        count
    }
}

/// The console, COM1.
#[derive(Debug)]
pub(crate) struct Console {
    pub(crate) major: u32,
    pub(crate) minor: u32,
}

impl Device for Console {
    /// Waits for at least one byte, and takes what there is. Nothing is the end of the input, and stays so.
    fn read(&self, to: Span, wait: bool) -> Result<usize, Errno> {
        // Off the heap: it is held for as long as nobody types.
        let mut bytes = [0; PIECE];
        let wanted = to.len().min(PIECE);
        loop {
            // Also after a reader was killed: what is behind the lock is two bits.
            let mut input = INPUT.lock_anyway();
            let count = input.take(&mut bytes[..wanted]);
            let is_done = count != 0 || input.ended || wanted == 0;
            drop(input);
            match (is_done, wait) {
                (true, _) => {
                    READS.fetch_add(1, Ordering::Relaxed);
                    return to.put(&bytes[..count]);
                }
                (false, false) => return Err(Errno::AGAIN),
                (false, true) => ready::nap()?,
            }
        }
    }

    /// Writes piece by piece, each whole as seen by other CPUs.
    fn write(&self, from: Span) -> Result<usize, Errno> {
        from.in_pieces(PIECE, |piece| {
            let mut bytes = [0; PIECE];
            let count = piece.get(&mut bytes)?;
            console::Console::take().program_output(&bytes[..count]);
            Ok(count)
        })
    }

    fn ready(&self) -> Ready {
        Ready::WRITE.and(Ready::READ.when(is_readable()))
    }

    /// Something to read where there was nothing, or after a read: whether it came before or after that one nobody knows.
    fn news(&self) -> usize {
        READS.load(Ordering::Relaxed) << 1 | usize::from(is_readable())
    }

    fn number(&self) -> Option<(u32, u32)> {
        Some((self.major, self.minor))
    }

    fn is_stream(&self) -> bool {
        true
    }
}
