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

use crate::mapping::Mapping;
use crate::{Pid, spawn, wait};

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

/// Memory that a child holds, for when there is no more: whoever shares its pages with children needs a copy to write to one.
#[derive(Debug)]
pub struct Aside {
    child: Pid,
    release: Release,
}

impl Aside {
    /// What looking at a full machine takes, in bytes.
    const BYTES: usize = 512 << 10;

    /// Puts it aside.
    ///
    /// # Errors
    ///
    /// The system's, when there is none even now.
    pub fn put() -> io::Result<Self> {
        let (release, ready) = (Release::new()?, Reports::new()?);
        let child = spawn(|| {
            // Only now: pages that the parent had touched would be the parent's too.
            let held = Mapping::new(Self::BYTES).inspect(Mapping::touch);
            let told = ready.tell("");
            release.wait();
            i32::from(held.is_err() || told.is_err())
        })?;
        ready.hear()?;
        Ok(Self { child, release })
    }

    /// In another child: gives up its copy of what keeps it aside.
    pub fn forget(&self) {
        close(self.release.hold.as_raw_fd());
    }

    /// Gives it back to the system, once all other children have forgotten it.
    ///
    /// # Errors
    ///
    /// When there never was any.
    pub fn give(self) -> io::Result<()> {
        self.release.let_go();
        let ended = wait(self.child)?;
        if ended.well() { Ok(()) } else { Err(io::Error::other("nothing could be put aside")) }
    }
}

/// Lines that children write, until all have closed their ends.
#[derive(Debug)]
pub struct Reports {
    read: PipeReader,
    write: PipeWriter,
}

impl Reports {
    /// Bytes of lines that are heard without more memory.
    const ROOM: usize = 64 << 10;

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
        // Room that is there, and this process's alone: when the lines come there may be no more.
        let mut lines = "\0".repeat(Self::ROOM);
        lines.clear();
        read.read_to_string(&mut lines)?;
        Ok(lines)
    }
}

/// Closes a descriptor of this process that its owner, in this process, will never use or close: a child exits without dropping.
fn close(descriptor: RawFd) {
    // SAFETY: the owner lives in memory that the child has only a copy of, and the child ends by `_exit`.
    unsafe { libc::close(descriptor) };
}
