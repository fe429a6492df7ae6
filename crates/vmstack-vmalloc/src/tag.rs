//! Caller tags: on whose account an area is in the listing, and in an oops.

use core::fmt;
use core::panic::Location;
use core::ptr;

/// Who asked for an area: a place in the kernel's source. One word.
///
/// A [`Request`](crate::Request) has that of whoever made it. A kernel that allocates on behalf of others passes theirs on.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct Tag(&'static Location<'static>);

impl Tag {
    /// The caller of the function that calls this, as far up as they are `#[track_caller]`.
    #[must_use]
    #[track_caller]
    #[inline]
    pub const fn caller() -> Self {
        Self(Location::caller())
    }

    /// The place `at`.
    #[must_use]
    pub const fn new(at: &'static Location<'static>) -> Self {
        Self(at)
    }

    /// The place.
    #[must_use]
    pub const fn location(self) -> &'static Location<'static> {
        self.0
    }

    /// The word that a record remembers.
    #[inline]
    pub(crate) fn word(self) -> usize {
        ptr::from_ref(self.0).expose_provenance()
    }

    /// The tag whose `word` a record remembered. None for zero.
    ///
    /// # Safety
    ///
    /// [`word`](Self::word) said it, or it is zero.
    pub(crate) unsafe fn from_word(word: usize) -> Option<Self> {
        // SAFETY: it is null or was a reference that lives for ever.
        unsafe { ptr::with_exposed_provenance::<Location<'static>>(word).as_ref() }.map(Self)
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.0.file(), self.0.line())
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
