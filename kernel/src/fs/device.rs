//! Devices: what is behind a name and is neither a text nor a stretch of memory.

use core::fmt;

use super::ready::Ready;
use super::span::Span;
use crate::crash;
use crate::random::Stream;
use crate::syscall::Errno;
use crate::task::sched;

/// Something that is read and written as it comes, without a position.
///
/// # Context
///
/// Tasks; reading and writing may sleep.
pub(crate) trait Device: Sync + fmt::Debug {
    /// Reads into `to`; if there is nothing yet, waits for it if that is wanted.
    fn read(&self, to: Span, wait: bool) -> Result<usize, Errno>;

    /// Writes what `from` has.
    fn write(&self, from: Span) -> Result<usize, Errno>;

    /// What can be done without waiting.
    fn ready(&self) -> Ready {
        Ready::READ.and(Ready::WRITE)
    }

    /// A number that another one follows when it has become ready anew.
    fn news(&self) -> usize {
        0
    }

    /// Its major and minor number; `None` for what is no device to programs.
    fn number(&self) -> Option<(u32, u32)>;

    /// Whether to seek in it is an error.
    fn is_stream(&self) -> bool {
        false
    }
}

/// How many bytes go over the stack at a time.
const PIECE: usize = 256;

/// Takes everything and gives nothing.
#[derive(Debug)]
pub(crate) struct Null;

impl Device for Null {
    fn read(&self, _to: Span, _wait: bool) -> Result<usize, Errno> {
        Ok(0)
    }

    fn write(&self, from: Span) -> Result<usize, Errno> {
        Ok(from.len())
    }

    fn number(&self) -> Option<(u32, u32)> {
        Some((1, 3))
    }
}

/// Gives zeros, and takes everything or nothing.
#[derive(Debug)]
pub(crate) enum Zero {
    /// `/dev/zero`
    Zero,
    /// `/dev/full`
    Full,
}

impl Device for Zero {
    fn read(&self, to: Span, _wait: bool) -> Result<usize, Errno> {
        to.in_pieces(PIECE, |piece| piece.put(&[0; PIECE]))
    }

    fn write(&self, from: Span) -> Result<usize, Errno> {
        match self {
            Self::Zero => Ok(from.len()),
            Self::Full => Err(Errno::NOSPC),
        }
    }

    fn number(&self) -> Option<(u32, u32)> {
        Some((1, if matches!(self, Self::Zero) { 5 } else { 7 }))
    }
}

/// Fills `to` with random bytes: all of it, or, if a signal comes, a part.
pub(crate) fn fill_with_random(to: Span) -> Result<usize, Errno> {
    let mut stream = Stream::new();
    let mut begun = false;
    to.in_pieces(PIECE, |piece| {
        if core::mem::replace(&mut begun, true) && sched::current().is_interrupted() {
            return Ok(0);
        }
        let mut bytes = [0; PIECE];
        stream.fill(&mut bytes);
        piece.put(&bytes)
    })
}

/// Gives random bytes: see [`random`](crate::random) for what they are worth.
#[derive(Debug)]
pub(crate) struct Random {
    /// `/dev/random` or `/dev/urandom`.
    pub(crate) minor: u32,
}

impl Device for Random {
    fn read(&self, to: Span, _wait: bool) -> Result<usize, Errno> {
        fill_with_random(to)
    }

    fn write(&self, from: Span) -> Result<usize, Errno> {
        Ok(from.len())
    }

    fn number(&self) -> Option<(u32, u32)> {
        Some((1, self.minor))
    }
}

/// Does something with the text that is written to it.
#[derive(Debug)]
pub(crate) struct Act(pub(crate) fn(&[u8]) -> Result<(), Errno>);

impl Device for Act {
    fn read(&self, _to: Span, _wait: bool) -> Result<usize, Errno> {
        Err(Errno::INVAL)
    }

    fn write(&self, from: Span) -> Result<usize, Errno> {
        // On the stack: what a crash leaves there is not missed.
        let mut text = [0; PIECE];
        let text = text.get_mut(..from.len()).ok_or(Errno::INVAL)?;
        from.get(text)?;
        (self.0)(text).map(|()| from.len())
    }

    fn number(&self) -> Option<(u32, u32)> {
        None
    }
}

/// Counts what a program does beside a crash, and fails once it is to stop.
#[derive(Debug)]
pub(crate) struct Work;

impl Device for Work {
    fn read(&self, _to: Span, _wait: bool) -> Result<usize, Errno> {
        Err(Errno::INVAL)
    }

    fn write(&self, from: Span) -> Result<usize, Errno> {
        crash::note_work().then_some(from.len()).ok_or(Errno::AGAIN)
    }

    fn number(&self) -> Option<(u32, u32)> {
        None
    }
}
