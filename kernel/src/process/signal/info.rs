//! What a signal says: Linux's `siginfo_t`, as far as anybody fills it in.
//!
//! ```text
//!   bytes 0   number   4   errno   8   code   12   nothing
//!   from 16   four words, by the kind:
//!     somebody sent it      pid, uid │ value
//!     a child               pid, uid │ status, nothing │ user time │ system time
//!     a fault               address
//!   up to 128 nothing
//! ```

use super::number::{self, Signal};

/// The size of a `siginfo_t`, in bytes.
pub(crate) const BYTES: usize = 128;
/// How much of it anybody fills in, in words.
const WORDS: usize = 6;

/// Where a signal comes from: `si_code`, which is the kind's own.
pub(crate) mod code {
    /// `kill`.
    pub(crate) const USER: i32 = 0;
    /// The kernel.
    pub(crate) const KERNEL: i32 = 0x80;
    /// `tkill` and `tgkill`.
    pub(crate) const THREAD: i32 = -6;

    /// Nothing is mapped there.
    pub(crate) const NOT_MAPPED: i32 = 1;
    /// What is mapped there may not be used so.
    pub(crate) const NOT_ALLOWED: i32 = 2;
    /// The file ends before that.
    pub(crate) const BEYOND_FILE: i32 = 2;
    /// A misaligned access.
    pub(crate) const ALIGNMENT: i32 = 1;
    /// An integer was divided by zero.
    pub(crate) const INTEGER_DIVIDE: i32 = 1;
    /// An operation that is none.
    pub(crate) const FLOATING_INVALID: i32 = 7;
    /// An instruction that is none.
    pub(crate) const ILLEGAL_OPERAND: i32 = 2;
    /// A step.
    pub(crate) const STEP: i32 = 2;

    /// A child exited.
    pub(crate) const EXITED: i32 = 1;
    /// A child was killed by a signal.
    pub(crate) const KILLED: i32 = 2;
    /// A child was stopped by a signal.
    pub(crate) const STOPPED: i32 = 5;
    /// A child that was stopped goes on.
    pub(crate) const CONTINUED: i32 = 6;
}

/// A signal and what it says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Info {
    signal: Signal,
    words: [u64; WORDS],
}

/// Two halves of a word: the lower one first.
const fn halves(low: i32, high: i32) -> u64 {
    low.cast_unsigned() as u64 | (high.cast_unsigned() as u64) << 32
}

impl Info {
    const fn new(signal: Signal, code: i32, fields: [u64; 4]) -> Self {
        let [first, second, third, fourth] = fields;
        let head = halves(signal.number() as i32, 0);
        Self { signal, words: [head, halves(code, 0), first, second, third, fourth] }
    }

    /// From the kernel itself.
    pub(crate) const fn from_kernel(signal: Signal) -> Self {
        Self::new(signal, code::KERNEL, [0; 4])
    }

    /// From process `id`, whose users are all root.
    pub(crate) const fn from_process(signal: Signal, code: i32, id: usize) -> Self {
        Self::new(signal, code, [halves(id as i32, 0), 0, 0, 0])
    }

    /// From child `id`, which has `code`, with `status`: the exit status or a signal's number.
    pub(crate) const fn from_child(code: i32, id: usize, status: u8) -> Self {
        Self::new(number::CHLD, code, [halves(id as i32, 0), status as u64, 0, 0])
    }

    /// From an access to `address`, or an instruction there.
    pub(crate) const fn from_fault(signal: Signal, code: i32, address: usize) -> Self {
        Self::new(signal, code, [address as u64, 0, 0, 0])
    }

    /// From a program that wrote it itself; the signal is what the call says.
    pub(crate) fn from_program(signal: Signal, bytes: &[u8; BYTES]) -> Self {
        let mut words = words_of(bytes);
        words[0] = words[0] & !0xffff_ffff | u64::from(signal.number());
        Self { signal, words }
    }

    pub(crate) const fn signal(&self) -> Signal {
        self.signal
    }

    pub(crate) const fn code(&self) -> i32 {
        self.words[1] as i32
    }

    /// As a program sees it: the words, and zeros after them.
    pub(crate) fn to_words(self) -> [u64; BYTES / 8] {
        let mut words = [0; BYTES / 8];
        words[..WORDS].copy_from_slice(&self.words);
        words
    }

    /// As a program sees it.
    pub(crate) fn to_bytes(self) -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        for (place, word) in bytes.chunks_exact_mut(8).zip(self.to_words()) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }
}

fn words_of(bytes: &[u8; BYTES]) -> [u64; WORDS] {
    let (chunks, _) = bytes.as_chunks::<8>();
    core::array::from_fn(|index| u64::from_le_bytes(chunks[index]))
}
