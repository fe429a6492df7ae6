//! What a task's frames use and its struct owns: file references, pins, counted pointers.
//!
//! A task that is killed by an overflow does not unwind: what a frame owns is lost with it. So what is worth giving back is put
//! into a short list in the task struct, and the frame has a handle ([`Kept`]) to it. A handle that is dropped gives the value back as
//! usual; the list of a task that was killed is walked, and each value is dropped there (INV-ALONE).
//!
//! ```text
//!   free ──> filling ──> kept (the value's drop function) ──> emptying ──> free
//!               └──────────── killed here: that one is lost, and counted ─────┘
//! ```
//!
//! # Context
//!
//! Tasks. A list belongs to its task: nobody else looks at it until the task is dead.

use core::cell::UnsafeCell;
use core::fmt;
use core::marker::PhantomData;
use core::mem::{self, MaybeUninit};
use core::ops::{Deref, DerefMut};
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering, compiler_fence};

use super::sched;
use crate::sync::Section;

/// How many values a task can keep at once.
const PLACES: usize = 4;
/// The largest value, in words.
const WORDS: usize = 4;

/// States of a place, beside the addresses of drop functions.
const FREE: usize = 0;
const FILLING: usize = 1;
const EMPTYING: usize = 2;

type DropFunction = unsafe fn(*mut [MaybeUninit<usize>; WORDS]);

/// A place for one value.
struct Place {
    state: AtomicUsize,
    /// In reports; null until there was a value.
    name: AtomicPtr<&'static str>,
    value: UnsafeCell<[MaybeUninit<usize>; WORDS]>,
}

/// The values that a task keeps.
pub(crate) struct KeptList([Place; PLACES]);

/// What came of the values of a task that was killed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Returned {
    names: [&'static str; PLACES],
    count: usize,
    /// Values that were on their way into the list or out of it.
    pub(crate) lost: usize,
}

/// A value in the list of the task that uses it.
///
/// Having one means: the value lives in the current task's struct, or in this handle if the list was full; it is the handle's alone,
/// and is given back when the handle is dropped or the task is killed, whichever comes first.
#[derive(Debug)]
pub(crate) struct Kept<T> {
    place: Option<*const Place>,
    /// Where there was no place.
    own: Option<T>,
    value: PhantomData<T>,
}

impl KeptList {
    pub(crate) const fn new() -> Self {
        Self([const { Place::new() }; PLACES])
    }

    /// Drops everything that is kept, and says what it was.
    ///
    /// # Safety
    ///
    /// The task was killed: none of its handles is used again.
    pub(crate) unsafe fn give_back(&self) -> Returned {
        let mut returned = Returned::NOTHING;
        for place in &self.0 {
            match place.state.swap(EMPTYING, Ordering::Relaxed) {
                FREE => {}
                FILLING | EMPTYING => returned.lost += 1,
                drop_function => {
                    returned.names[returned.count] = place.name();
                    returned.count += 1;
                    // SAFETY: the state was the drop function of the value that is there, and the value is nobody's any more.
                    unsafe { place.drop_value(drop_function) };
                }
            }
            place.state.store(FREE, Ordering::Relaxed);
        }
        returned
    }
}

impl Returned {
    /// Nothing.
    pub(crate) const NOTHING: Self = Self { names: [""; PLACES], count: 0, lost: 0 };

    /// Whether there was nothing.
    pub(crate) const fn is_empty(&self) -> bool {
        self.count == 0 && self.lost == 0
    }
}

/// `given back: file, pin`, and what was lost on the way.
impl fmt::Display for Returned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("given back:")?;
        for (index, name) in self.names[..self.count].iter().enumerate() {
            write!(f, "{} {name}", if index == 0 { "" } else { "," })?;
        }
        match self.lost {
            0 => Ok(()),
            lost => write!(f, " ({lost} lost on the way)"),
        }
    }
}

impl Place {
    const fn new() -> Self {
        Self {
            state: AtomicUsize::new(FREE),
            name: AtomicPtr::new(ptr::null_mut()),
            value: UnsafeCell::new([MaybeUninit::uninit(); WORDS]),
        }
    }

    fn name(&self) -> &'static str {
        let name = self.name.load(Ordering::Relaxed);
        // SAFETY: null, or the address of a static text.
        unsafe { name.as_ref() }.copied().unwrap_or("?")
    }

    /// Drops the value.
    ///
    /// # Safety
    ///
    /// `drop_function` was the state of a place with a value, which is dropped once.
    unsafe fn drop_value(&self, drop_function: usize) {
        // SAFETY: such a state is the address of a function of this type: see `keep`.
        let drop_function: DropFunction = unsafe { mem::transmute(drop_function) };
        // SAFETY: the caller's promise.
        unsafe { drop_function(self.value.get()) };
    }
}

/// Drops the `T` at `value`.
///
/// # Safety
///
/// There is one, and it is not used again.
unsafe fn drop_at<T>(value: *mut [MaybeUninit<usize>; WORDS]) {
    // SAFETY: the caller's promise.
    unsafe { value.cast::<T>().drop_in_place() };
}

/// Puts `value` into the current task's list, as `name` in reports.
pub(crate) fn keep<T: 'static>(name: &'static &'static str, value: T) -> Kept<T> {
    const { assert!(size_of::<T>() <= WORDS * size_of::<usize>() && align_of::<T>() <= align_of::<usize>()) };
    let task = sched::current();
    let Some(place) = task.kept().0.iter().find(|place| place.state.load(Ordering::Relaxed) == FREE) else {
        return Kept { place: None, own: Some(value), value: PhantomData };
    };
    place.state.store(FILLING, Ordering::Relaxed);
    compiler_fence(Ordering::SeqCst);
    place.name.store(ptr::from_ref(name).cast_mut(), Ordering::Relaxed);
    // SAFETY: the place is this task's, and was free; the value fits, and is aligned.
    unsafe { place.value.get().cast::<T>().write(value) };
    let drop_function: DropFunction = drop_at::<T>;
    // A killed task's list is walked by the task itself, on its empty stack, as a signal handler would: it is the compiler's order
    // that counts, the value before the word that says so.
    place.state.store(drop_function as usize, Ordering::Release);
    compiler_fence(Ordering::SeqCst);
    Kept { place: Some(place), own: None, value: PhantomData }
}

/// Where the value of a place is.
fn value_at<T>(place: *const Place) -> *mut T {
    // SAFETY: handles have places of the current task's struct, which is alive while its code runs.
    unsafe { &*place }.value.get().cast()
}

impl<T> Kept<T> {
    /// Takes the value out of the list: the caller's frames own it from here on, in a section in which nobody is killed.
    pub(crate) fn take(mut self, _section: &Section) -> T {
        let Some(place) = self.place.take() else {
            return self.own.take().unwrap_or_else(|| unreachable!("a kept value is somewhere"));
        };
        // SAFETY: a place in the current task's struct.
        let owner = unsafe { &*place };
        // SAFETY: the place has this handle's value; nobody reads it again: the place is free from the next line on.
        let value = unsafe { value_at::<T>(place).read() };
        owner.state.store(FREE, Ordering::Relaxed);
        value
    }
}

impl<T> Deref for Kept<T> {
    type Target = T;

    fn deref(&self) -> &T {
        match (self.place, &self.own) {
            // SAFETY: the place has the value until this handle is dropped.
            (Some(place), _) => unsafe { &*value_at(place) },
            (None, Some(own)) => own,
            (None, None) => unreachable!("a kept value is somewhere"),
        }
    }
}

impl<T> DerefMut for Kept<T> {
    fn deref_mut(&mut self) -> &mut T {
        match (self.place, &mut self.own) {
            // SAFETY: as for `deref`, and the handle is borrowed exclusively.
            (Some(place), _) => unsafe { &mut *value_at(place) },
            (None, Some(own)) => own,
            (None, None) => unreachable!("a kept value is somewhere"),
        }
    }
}

impl<T> Drop for Kept<T> {
    fn drop(&mut self) {
        let Some(place) = self.place else { return };
        // SAFETY: a place in the current task's struct.
        let place = unsafe { &*place };
        let drop_function = place.state.swap(EMPTYING, Ordering::Relaxed);
        compiler_fence(Ordering::SeqCst);
        // SAFETY: the place has this handle's value, which is dropped here and nowhere else.
        unsafe { place.drop_value(drop_function) };
        compiler_fence(Ordering::SeqCst);
        place.state.store(FREE, Ordering::Relaxed);
    }
}
