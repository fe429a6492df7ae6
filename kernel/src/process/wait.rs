//! Waiting for a child: for its end, and for its being stopped and going on.

use alloc::sync::Arc;
use core::sync::atomic::Ordering::Relaxed;

use super::signal::Report;
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
    /// Which news count.
    pub(crate) ended: bool,
    pub(crate) stopped: bool,
    pub(crate) continued: bool,
}

impl Query {
    /// What there is to say of `child`, if that counts.
    fn news(&self, child: &Process) -> Option<News> {
        if let Some(end) = child.end() {
            return self.ended.then_some(News::Ended(end));
        }
        let counts = |report| match report {
            Report::Stopped(_) => self.stopped,
            Report::Continued => self.continued,
        };
        child.signals().report(counts, self.keep).map(News::Still)
    }

    fn accepts(&self, child: &Process) -> bool {
        let meant = match self.whom {
            Whom::Anybody => true,
            Whom::Process(id) => child.id() == id,
            Whom::Group(group) => child.group() == group,
        };
        let ordinary = child.exit_signal.load(Relaxed) == signal::CHLD.number();
        meant && (self.sort == Sort::All || ordinary == (self.sort == Sort::Ordinary))
    }
}

/// What there is to say of a child.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum News {
    Ended(End),
    Still(Report),
}

impl News {
    /// The word that `wait4` stores.
    pub(crate) const fn wait_status(self) -> u32 {
        match self {
            Self::Ended(end) => end.wait_status(),
            Self::Still(Report::Stopped(signal)) => (signal.number() as u32) << 8 | 0x7f,
            Self::Still(Report::Continued) => 0xffff,
        }
    }
}

/// A child that there is something to say of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Found {
    pub(crate) id: usize,
    pub(crate) news: News,
    /// Ticks of a CPU that it had.
    pub(crate) ticks: u64,
}

impl Process {
    /// Waits for news of a child that `query` accepts; or, with `hang` false, only looks.
    ///
    /// # Errors
    ///
    /// `ECHILD`: there is no such child. A signal came.
    pub(crate) fn wait(&self, query: &Query, hang: bool) -> Result<Option<Found>, Errno> {
        if !hang {
            return self.find(query);
        }
        let wait = Wait { interruptible: true, ..Wait::FOR_EVER };
        let found = self.news.wait_in(&wait, || match self.find(query) {
            Ok(None) => None,
            done => Some(done),
        });
        found.unwrap_or(Err(Errno::RESTART))
    }

    /// A child that `query` accepts and that there are news of. One that has ended is let go, unless it is to be kept.
    fn find(&self, query: &Query) -> Result<Option<Found>, Errno> {
        // Over the count of the child, too, which is nobody's for a while.
        let _section = Section::enter();
        let tree = tree::lock();
        let mut children = tree.children(self).filter(|child| query.accepts(child)).peekable();
        if children.peek().is_none() {
            return Err(Errno::CHILD);
        }
        let found = children.find_map(|child| Some((child, query.news(child)?)));
        let Some((child, news)) = found else { return Ok(None) };
        let found = Found { id: child.id(), news, ticks: child.ticks().0 };
        drop(children);
        let ended = matches!(news, News::Ended(_));
        let count = (ended && !query.keep).then(|| self.let_go(child, &tree));
        drop(tree);
        drop(count);
        Ok(Some(found))
    }

    /// Takes `child` out of the tree. What it used of the CPUs is this process's children's.
    fn let_go(&self, child: &Self, tree: &tree::Tree) -> Arc<Self> {
        let (own, children) = child.ticks();
        self.children_ticks.fetch_add(own + children, Relaxed);
        tree.uproot(child)
    }
}
