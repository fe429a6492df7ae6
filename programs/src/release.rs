//! Children that live until their parent lets them go.
//!
//! ```text
//!   parent ── holds the writing end ──┐
//!                                     │ pipe        a child reads; there is never anything to read, and when the last
//!   child ──── reads ◄────────────────┘             writing end is closed the read ends
//! ```
//!
//! A child has a copy of every end, and gives up the one that would keep itself waiting. Nobody who waits here uses a CPU.

use std::io::{self, PipeReader, PipeWriter, Read};
use std::os::fd::{AsRawFd, RawFd};

/// What children wait for.
#[derive(Debug)]
pub struct Release {
    wait: PipeReader,
    hold: PipeWriter,
}

impl Release {
    /// Nobody waits for it yet.
    ///
    /// # Errors
    ///
    /// The system's, when there can be no more pipes.
    pub fn new() -> io::Result<Self> {
        let (wait, hold) = io::pipe()?;
        Ok(Self { wait, hold })
    }

    /// In a child: waits until the parent lets go, or has ended.
    pub fn wait(&self) {
        close(self.hold.as_raw_fd());
        // Whatever comes of it, there is nothing more to wait for.
        let _ = (&self.wait).read(&mut [0]);
    }

    /// In the parent: lets all children go.
    pub fn let_go(self) {
        drop(self.hold);
    }
}

/// Lines that children write, until all have closed their ends.
#[derive(Debug)]
pub struct Reports {
    read: PipeReader,
    write: PipeWriter,
}

impl Reports {
    /// No lines yet.
    ///
    /// # Errors
    ///
    /// The system's, when there can be no more pipes.
    pub fn new() -> io::Result<Self> {
        let (read, write) = io::pipe()?;
        Ok(Self { read, write })
    }

    /// In a child: writes its only line, of a few words, and closes its end.
    ///
    /// # Errors
    ///
    /// The system's, when nobody reads any more.
    pub fn tell(&self, line: &str) -> io::Result<()> {
        // One call: a short line is not broken by another child's.
        let written = io::Write::write(&mut &self.write, format!("{line}\n").as_bytes());
        close(self.write.as_raw_fd());
        written.map(|_| ())
    }

    /// In the parent: all lines, once every child has told its own or ended.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn hear(self) -> io::Result<String> {
        let Self { mut read, write } = self;
        drop(write);
        let mut lines = String::new();
        read.read_to_string(&mut lines)?;
        Ok(lines)
    }
}

/// Closes a descriptor of this process that its owner, in this process, will never use or close: a child exits without dropping.
fn close(descriptor: RawFd) {
    // SAFETY: the owner lives in memory that the child has only a copy of, and the child ends by `_exit`.
    unsafe { libc::close(descriptor) };
}
