//! Waiting for the end of a child.

use alloc::sync::Arc;
use core::sync::atomic::Ordering::Relaxed;

use super::{End, Process, signal, tree};
use crate::sync::Section;
use crate::syscall::Errno;
use crate::task::Wait;

/// Whose end is meant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Whom {
    Anybody,
    /// The process with this number.
    Process(usize),
    /// Whoever is in the group with this number.
    Group(usize),
}

/// Which children count: those that send SIGCHLD at their end, those that do not (`__WCLONE`), or all (`__WALL`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Sort {
    Ordinary,
    Clones,
    All,
}

/// What is waited for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Query {
    pub(crate) whom: Whom,
    pub(crate) sort: Sort,
    /// Whether a child that is found can be waited for again.
    pub(crate) keep: bool,
}

impl Query {
    fn accepts(&self, child: &Process) -> bool {
        let meant = match self.whom {
            Whom::Anybody => true,
            Whom::Process(id) => child.id() == id,
            Whom::Group(group) => child.group() == group,
        };
        let ordinary = child.exit_signal.load(Relaxed) == signal::CHLD;
        meant && (self.sort == Sort::All || ordinary == (self.sort == Sort::Ordinary))
    }
}

/// A child that has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Ended {
    pub(crate) id: usize,
    pub(crate) end: End,
    /// Ticks of a CPU that it had.
    pub(crate) ticks: u64,
}

impl Process {
    /// Waits for a child that `query` accepts to end; or, with `hang` false, only looks.
    ///
    /// # Errors
    ///
    /// `ECHILD`: there is no such child. `EINTR`: something has to be done first.
    pub(crate) fn wait(&self, query: &Query, hang: bool) -> Result<Option<Ended>, Errno> {
        if !hang {
            return self.find_ended(query);
        }
        let wait = Wait { interruptible: true, ..Wait::FOR_EVER };
        let found = self.news.wait_in(&wait, || match self.find_ended(query) {
            Ok(None) => None,
            done => Some(done),
        });
        found.unwrap_or(Err(Errno::INTR))
    }

    /// A child that `query` accepts and that has ended. It is let go, unless it is to be kept.
    fn find_ended(&self, query: &Query) -> Result<Option<Ended>, Errno> {
        // Over the count of the child, too, which is nobody's for a while.
        let _section = Section::enter();
        let tree = tree::lock();
        let mut children = tree.children(self).filter(|child| query.accepts(child)).peekable();
        if children.peek().is_none() {
            return Err(Errno::CHILD);
        }
        let found = children.find_map(|child| Some((child, child.end()?)));
        let Some((child, end)) = found else { return Ok(None) };
        let ended = Ended { id: child.id(), end, ticks: child.ticks().0 };
        drop(children);
        let count = (!query.keep).then(|| self.let_go(child, &tree));
        drop(tree);
        drop(count);
        Ok(Some(ended))
    }

    /// Takes `child` out of the tree. What it used of the CPUs is this process's children's.
    fn let_go(&self, child: &Self, tree: &tree::Tree) -> Arc<Self> {
        let (own, children) = child.ticks();
        self.children_ticks.fetch_add(own + children, Relaxed);
        tree.uproot(child)
    }
}
