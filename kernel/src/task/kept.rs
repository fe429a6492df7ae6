//! What a task's frames use and its struct owns: file references, pins, counted pointers.
//!
//! A task that is killed by an overflow does not unwind: what a frame owns is lost with it. So what is worth giving back is put
//! into a short list in the task struct, and the frame has a handle ([`Kept`]) to it. A handle that is dropped gives the value back as
//! usual; the list of a task that was killed is walked, and each value is dropped there (INV-ALONE).
//!
//! ```text
//!   free ──────────────────> kept (the function that lets go of it) ──────────────────> free
//!          in a section                                                in a section
//! ```
//!
//! A value comes into the list in the section in which it was made or counted, and goes in another: nobody is killed in these, so none is
//! lost on the way. What takes long of letting go of it comes before the second section, while it is in the list still ([`Keep::settle`]).
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
use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use super::sched;
use crate::sync::Section;

/// How many values a task can keep at once.
const PLACES: usize = 4;
/// The largest value, in words.
const WORDS: usize = 4;

/// The state of a place without a value; with one it is the address of the function that lets go of it.
const FREE: usize = 0;

type LetGo = unsafe fn(&Place);

/// What a task can keep. It is dropped in a section.
pub(crate) trait Keep: 'static {
    /// Does what takes long of letting go of it. May be done again: who is killed in here does it anew.
    fn settle(&self) {}
}

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
            let let_go = place.state.load(Ordering::Relaxed);
            if let_go != FREE {
                returned.names[returned.count] = place.name();
                returned.count += 1;
                // SAFETY: it is what lets go of the value that is there, and the value is nobody's any more.
                unsafe { place.let_go(let_go) };
            }
        }
        returned
    }
}

impl Returned {
    /// Nothing.
    pub(crate) const NOTHING: Self = Self { names: [""; PLACES], count: 0 };

    /// Whether there was nothing.
    pub(crate) const fn is_empty(&self) -> bool {
        self.count == 0
    }
}

/// `given back: file, pin`.
impl fmt::Display for Returned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("given back:")?;
        for (index, name) in self.names[..self.count].iter().enumerate() {
            write!(f, "{} {name}", if index == 0 { "" } else { "," })?;
        }
        Ok(())
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

    /// Lets go of the value.
    ///
    /// # Safety
    ///
    /// `let_go` is the state of the place, and its value is not used again.
    unsafe fn let_go(&self, let_go: usize) {
        // SAFETY: such a state is the address of a function of this type: see `keep`.
        let let_go: LetGo = unsafe { mem::transmute(let_go) };
        // SAFETY: the caller's promise.
        unsafe { let_go(self) };
    }
}

/// Lets go of the `T` in `place`, which is free then.
///
/// # Safety
///
/// There is one, and it is not used again.
unsafe fn let_go_of<T: Keep>(place: &Place) {
    let value = place.value.get().cast::<T>();
    // SAFETY: the caller's promise.
    unsafe { &*value }.settle();
    let _section = Section::enter();
    // SAFETY: as above.
    unsafe { value.drop_in_place() };
    place.state.store(FREE, Ordering::Relaxed);
}

/// Puts `value` into the current task's list, as `name` in reports. It was made in the section, or counted there.
pub(crate) fn keep<T: Keep>(name: &'static &'static str, value: T, _section: &Section) -> Kept<T> {
    const { assert!(size_of::<T>() <= WORDS * size_of::<usize>() && align_of::<T>() <= align_of::<usize>()) };
    let task = sched::current();
    let Some(place) = task.kept().0.iter().find(|place| place.state.load(Ordering::Relaxed) == FREE) else {
        return Kept { place: None, own: Some(value), value: PhantomData };
    };
    place.name.store(ptr::from_ref(name).cast_mut(), Ordering::Relaxed);
    // SAFETY: the place is this task's, and was free; the value fits, and is aligned.
    unsafe { place.value.get().cast::<T>().write(value) };
    let let_go: LetGo = let_go_of::<T>;
    place.state.store(let_go as usize, Ordering::Relaxed);
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
        // SAFETY: the place has this handle's value, which nobody uses from here on.
        unsafe { place.let_go(place.state.load(Ordering::Relaxed)) };
    }
}
