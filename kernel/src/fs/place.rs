//! Where a process is in the file system: its working folder, its program, the permissions that it takes from new files.
//!
//! Copied at `fork`; nobody is killed while it changes, so it is whole at every instruction.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};

use super::node::{Node, ROOT};
use crate::sync::{AnyLock, Section, SpinLock};

/// What is behind the lock.
#[derive(Clone, Debug)]
struct Inner {
    folder: Node,
    program: Option<Node>,
    /// The program's arguments, each ended by a zero.
    arguments: Option<Arc<Vec<u8>>>,
}

/// Where a process is.
#[derive(Debug)]
pub(crate) struct Place {
    inner: SpinLock<Inner>,
    mask: AtomicU32,
}

/// The permissions that a process takes away at first.
const FIRST_MASK: u32 = 0o022;

impl Place {
    /// The root, and no program.
    pub(crate) const fn new() -> Self {
        let inner = Inner { folder: ROOT, program: None, arguments: None };
        Self { inner: SpinLock::new("process-place", inner), mask: AtomicU32::new(FIRST_MASK) }
    }

    /// The lock.
    pub(crate) const fn any_lock(&self) -> &dyn AnyLock {
        &self.inner
    }

    fn with<T>(&self, use_it: impl FnOnce(&mut Inner) -> T) -> T {
        let _section = Section::enter();
        use_it(&mut self.inner.lock_anyway())
    }

    /// The working folder.
    pub(crate) fn folder(&self) -> Node {
        self.with(|inner| inner.folder)
    }

    pub(crate) fn set_folder(&self, folder: Node) {
        self.with(|inner| inner.folder = folder);
    }

    /// The file that the program came from.
    pub(crate) fn program(&self) -> Option<Node> {
        self.with(|inner| inner.program)
    }

    /// Notes which program runs, and with which arguments.
    pub(crate) fn set_program(&self, program: Node, arguments: Option<Arc<Vec<u8>>>) {
        let before = self.with(|inner| {
            inner.program = Some(program);
            core::mem::replace(&mut inner.arguments, arguments)
        });
        drop(before);
    }

    /// Runs `use_it` on the program's arguments, each ended by a zero. It neither waits nor takes long.
    pub(crate) fn with_arguments<T>(&self, use_it: impl FnOnce(&[u8]) -> T) -> T {
        self.with(|inner| use_it(inner.arguments.as_ref().map_or(&[], |arguments| arguments.as_slice())))
    }

    /// Sets which permissions are taken from new files, and says which were.
    pub(crate) fn set_mask(&self, mask: u32) -> u32 {
        self.mask.swap(mask & 0o777, Ordering::Relaxed)
    }

    /// Goes where `other` is. This one's process does not run yet.
    pub(crate) fn copy_from(&self, other: &Self) {
        let _section = Section::enter();
        let copy = other.with(|inner| inner.clone());
        self.with(|inner| *inner = copy);
        self.mask.store(other.mask.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}
