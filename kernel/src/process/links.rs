//! Lists whose links lie in what is listed: putting something on one takes no memory, so it cannot fail.
//!
//! All of them change under the lock of the [tree](super::tree), in a section that nobody is killed in: a list is whole whenever
//! anybody looks. What is on a list is alive: a task takes itself off before it ends, and the tree has a count of each process.

use core::iter;
use core::marker::PhantomData;
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering::Relaxed};

use super::tree::Tree;

/// The place in `T` for its neighbours on one list.
#[derive(Debug)]
pub(crate) struct Link<T> {
    next: AtomicPtr<T>,
    previous: AtomicPtr<T>,
}

impl<T> Link<T> {
    pub(super) const fn new() -> Self {
        Self { next: AtomicPtr::new(ptr::null_mut()), previous: AtomicPtr::new(ptr::null_mut()) }
    }
}

/// What can be on a list of kind `K`.
pub(super) trait Listed<K>: Sized + 'static {
    /// Where its neighbours are noted.
    fn link(&self) -> &Link<Self>;
}

/// A list of kind `K`.
#[derive(Debug)]
pub(crate) struct List<T, K> {
    first: AtomicPtr<T>,
    last: AtomicPtr<T>,
    kind: PhantomData<fn() -> K>,
}

/// What a pointer of a list points to, if to anything.
fn show<'a, T>(place: &AtomicPtr<T>, _tree: &'a Tree) -> Option<&'a T> {
    // SAFETY: null, or something that is on the list, and that is alive as long as it is there: see the top of the file. The list
    // does not change while the tree is borrowed.
    unsafe { place.load(Relaxed).cast_const().as_ref() }
}

fn pointer<T>(item: Option<&T>) -> *mut T {
    item.map_or(ptr::null_mut(), |item| ptr::from_ref(item).cast_mut())
}

impl<T: Listed<K>, K> List<T, K> {
    pub(super) const fn new() -> Self {
        Self { first: AtomicPtr::new(ptr::null_mut()), last: AtomicPtr::new(ptr::null_mut()), kind: PhantomData }
    }

    /// Puts `item`, which is on no list of this kind, at the end.
    pub(super) fn push(&self, item: &T, tree: &Tree) {
        let last = show(&self.last, tree);
        item.link().next.store(ptr::null_mut(), Relaxed);
        item.link().previous.store(pointer(last), Relaxed);
        last.map_or(&self.first, |last| &last.link().next).store(pointer(Some(item)), Relaxed);
        self.last.store(pointer(Some(item)), Relaxed);
    }

    /// Takes `item`, which is on this list, off it.
    pub(super) fn remove(&self, item: &T, tree: &Tree) {
        let (previous, next) = (show(&item.link().previous, tree), show(&item.link().next, tree));
        previous.map_or(&self.first, |previous| &previous.link().next).store(pointer(next), Relaxed);
        next.map_or(&self.last, |next| &next.link().previous).store(pointer(previous), Relaxed);
    }

    /// The first on the list.
    pub(super) fn first<'a>(&self, tree: &'a Tree) -> Option<&'a T> {
        show(&self.first, tree)
    }

    /// What is on the list. Whatever was given out may be taken off before the next is asked for.
    pub(super) fn iter<'a>(&self, tree: &'a Tree) -> impl Iterator<Item = &'a T> + use<'a, T, K> {
        let mut next = self.first(tree);
        iter::from_fn(move || {
            let item = next?;
            next = show(&item.link().next, tree);
            Some(item)
        })
    }
}
