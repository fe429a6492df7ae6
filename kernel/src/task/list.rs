//! Lists of tasks, linked through the tasks themselves: first in, first out, and out of the middle. Each operation takes constant time.
//!
//! A task has several places to be linked by, and which of them a list uses is part of its type.

use core::cell::Cell;
use core::fmt;
use core::marker::PhantomData;

use super::scheduling::{Node, Scheduling};

/// A task's place in one list.
#[derive(Debug)]
pub(crate) struct Links {
    next: Cell<Option<Node>>,
    previous: Cell<Option<Node>>,
}

impl Links {
    pub(super) const fn new() -> Self {
        Self { next: Cell::new(None), previous: Cell::new(None) }
    }
}

/// Which of a task's places a list uses.
pub(crate) trait Place {
    fn links(node: &Scheduling) -> &Links;
}

/// Among those who are ready, or who are parked on the same key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InQueue;

/// In a bucket of the parking lot.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InBucket;

/// Among those whom the timer wakes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InTimer;

impl Place for InQueue {
    fn links(node: &Scheduling) -> &Links {
        &node.in_queue
    }
}

impl Place for InBucket {
    fn links(node: &Scheduling) -> &Links {
        &node.in_bucket
    }
}

impl Place for InTimer {
    fn links(node: &Scheduling) -> &Links {
        &node.in_timer
    }
}

/// A list of tasks by their places `P`. A task is on one list of a place at a time.
pub(crate) struct List<P> {
    first: Cell<Option<Node>>,
    last: Cell<Option<Node>>,
    place: PhantomData<P>,
}

/// Those who wait behind the first on their key.
pub(crate) type Followers = List<InQueue>;

impl<P> List<P> {
    pub(crate) const fn new() -> Self {
        Self { first: Cell::new(None), last: Cell::new(None), place: PhantomData }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.first.get().is_none()
    }

    pub(crate) fn first(&self) -> Option<Node> {
        self.first.get()
    }

    /// Leaves this list empty, and puts what was on it on `other`, which is.
    pub(super) fn move_to(&self, other: &Self) {
        other.first.set(self.first.take());
        other.last.set(self.last.take());
    }
}

impl<P: Place> List<P> {
    /// Who comes after `node`, which is on a list.
    pub(crate) fn after(node: Node) -> Option<Node> {
        P::links(&node).next.get()
    }

    /// Puts `node`, which is on no list of this place, at the end.
    pub(crate) fn push(&self, node: Node) {
        let last = self.last.replace(Some(node));
        let links = P::links(&node);
        links.next.set(None);
        links.previous.set(last);
        match last {
            Some(last) => P::links(&last).next.set(Some(node)),
            None => self.first.set(Some(node)),
        }
    }

    /// Takes `node` off this list, which it is on.
    pub(crate) fn remove(&self, node: Node) {
        let links = P::links(&node);
        let (previous, next) = (links.previous.take(), links.next.take());
        match previous {
            Some(previous) => P::links(&previous).next.set(next),
            None => self.first.set(next),
        }
        match next {
            Some(next) => P::links(&next).previous.set(previous),
            None => self.last.set(previous),
        }
    }

    /// Takes the first one off.
    pub(crate) fn pop(&self) -> Option<Node> {
        let node = self.first.get()?;
        self.remove(node);
        Some(node)
    }
}

impl<P> fmt::Debug for List<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("List").field("is_empty", &self.is_empty()).finish_non_exhaustive()
    }
}
