//! A stretch of a program's memory that a call reads from or writes to: nothing but two words that nobody has checked yet.

use crate::syscall::Errno;
use crate::syscall::user;

/// The most that one call moves, in bytes, as on Linux.
const MAX_TRANSFER: usize = 0x7fff_f000;

/// A stretch of the current program's memory, as the program named it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    addr: usize,
    length: usize,
}

impl Span {
    pub(crate) const fn new(addr: usize, length: usize) -> Self {
        Self { addr, length: if length > MAX_TRANSFER { MAX_TRANSFER } else { length } }
    }

    /// Its length in bytes.
    pub(crate) const fn len(self) -> usize {
        self.length
    }

    /// Without its first `count` bytes.
    pub(crate) const fn skip(self, count: usize) -> Self {
        Self { addr: self.addr.wrapping_add(count), length: self.length.saturating_sub(count) }
    }

    /// Its first `count` bytes.
    pub(crate) const fn first(self, count: usize) -> Self {
        Self { addr: self.addr, length: if count < self.length { count } else { self.length } }
    }

    /// Writes `bytes` to its front: as many as fit, which is what it returns.
    pub(crate) fn put(self, bytes: &[u8]) -> Result<usize, Errno> {
        let bytes = bytes.get(..self.length).unwrap_or(bytes);
        user::write(self.addr, bytes)?;
        Ok(bytes.len())
    }

    /// Reads its front into `bytes`: as much as there is, which is what it returns.
    pub(crate) fn get(self, bytes: &mut [u8]) -> Result<usize, Errno> {
        let length = bytes.len().min(self.length);
        user::read(self.addr, &mut bytes[..length])?;
        Ok(length)
    }

    /// Does `each` to piece after piece of at most `piece` bytes, until one is not done whole. An error after the first piece is for
    /// the next call.
    pub(crate) fn in_pieces(
        self,
        piece: usize,
        mut each: impl FnMut(Self) -> Result<usize, Errno>,
    ) -> Result<usize, Errno> {
        let mut done = 0;
        while done < self.length {
            let next = self.skip(done).first(piece);
            match each(next) {
                Ok(count) => {
                    done += count;
                    if count < next.length {
                        break;
                    }
                }
                Err(_) if done != 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }
}
