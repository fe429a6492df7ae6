//! Process groups and sessions: numbers that processes have in common, for a shell that starts jobs. There is no terminal that would
//! care.

use core::sync::atomic::Ordering::Relaxed;

use super::{Process, tree};
use crate::syscall::Errno;

impl Process {
    /// The number of its group.
    pub(crate) fn group(&self) -> usize {
        self.group.load(Relaxed)
    }

    /// The number of its session.
    pub(crate) fn session(&self) -> usize {
        self.session.load(Relaxed)
    }

    /// Puts process `id`, this one or a child of it, into group `group`, which is one of its session or a new one; zero: itself, and
    /// a group of its own number.
    pub(crate) fn set_group(&self, id: usize, group: usize) -> Result<(), Errno> {
        let tree = tree::lock();
        let id = if id == 0 { self.id } else { id };
        let group = if group == 0 { id } else { group };
        let process = tree.process(id).ok_or(Errno::SRCH)?;
        if id != self.id {
            let child = tree.parent(process).is_some_and(|parent| parent.id == self.id);
            child.then_some(()).ok_or(Errno::SRCH)?;
            (process.session() == self.session()).then_some(()).ok_or(Errno::PERM)?;
            (!process.executed.load(Relaxed)).then_some(()).ok_or(Errno::ACCES)?;
        }
        let mut others = tree.processes().filter(|other| other.group() == group);
        let known = group == id || others.any(|other| other.session() == self.session());
        if process.session() == id || !known {
            return Err(Errno::PERM);
        }
        process.group.store(group, Relaxed);
        Ok(())
    }

    /// Makes this process the leader of a session and of a group of its own, and answers their number.
    pub(crate) fn new_session(&self) -> Result<usize, Errno> {
        let tree = tree::lock();
        if tree.processes().any(|other| other.group() == self.id) {
            return Err(Errno::PERM);
        }
        self.group.store(self.id, Relaxed);
        self.session.store(self.id, Relaxed);
        Ok(self.id)
    }
}

/// What `ask` says of process `id`, or of the current one with zero.
pub(crate) fn of(id: usize, ask: impl FnOnce(&Process) -> usize) -> Result<usize, Errno> {
    let current = super::current().ok_or(Errno::SRCH)?;
    if id == 0 {
        return Ok(ask(&current));
    }
    tree::lock().process(id).map(ask).ok_or(Errno::SRCH)
}
