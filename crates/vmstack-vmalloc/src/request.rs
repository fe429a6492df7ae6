//! What is asked for.

use crate::tag::Tag;

/// What an area is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
#[non_exhaustive]
pub enum Kind {
    /// Memory of its own: [`Vmalloc::alloc`](crate::Vmalloc::alloc).
    Memory = 0,
    /// Frames that somebody lends: [`Vmalloc::vmap`](crate::Vmalloc::vmap).
    Lent = 1,
    /// The same for a short time: [`Vmalloc::map_ram`](crate::Vmalloc::map_ram).
    ShortLived = 2,
    /// Addresses alone: [`Vmalloc::reserve`](crate::Vmalloc::reserve).
    Reserved = 3,
}

impl Kind {
    /// The word that a listing uses: Linux's, where it has one.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Memory => "vmalloc",
            Self::Lent => "vmap",
            Self::ShortLived => "vm_map_ram",
            Self::Reserved => "reserved",
        }
    }

    /// Whether its frames are somebody else's.
    #[must_use]
    pub const fn is_lent(self) -> bool {
        matches!(self, Self::Lent | Self::ShortLived)
    }

    pub(crate) const fn from_index(index: u32) -> Self {
        match index {
            0 => Self::Memory,
            1 => Self::Lent,
            2 => Self::ShortLived,
            _ => Self::Reserved,
        }
    }
}

/// What is asked for: bytes, and how they are to lie.
///
/// ```
/// use vmstack_vmalloc::Request;
///
/// let request = Request::new(5 * 4096).align(32 << 10).zeroed();
/// assert_eq!(request.bytes(), 5 * 4096);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub struct Request {
    pub(crate) bytes: usize,
    pub(crate) align: usize,
    pub(crate) zeroed: bool,
    pub(crate) small_pages: bool,
    pub(crate) tag: Tag,
}

impl Request {
    /// Of `bytes` bytes, at whatever page, holding anything, tagged with the caller.
    #[track_caller]
    #[inline]
    pub const fn new(bytes: usize) -> Self {
        Self { bytes, align: 1, zeroed: false, small_pages: false, tag: Tag::caller() }
    }

    /// At an address that is a multiple of `align` bytes: a power of two. Less than a page is as good as a page.
    #[inline]
    pub const fn align(self, align: usize) -> Self {
        Self { align, ..self }
    }

    /// Reading as zero.
    #[inline]
    pub const fn zeroed(self) -> Self {
        Self { zeroed: true, ..self }
    }

    /// Without large pages, however big it is: they are used where the platform has them, otherwise.
    #[inline]
    pub const fn small_pages(self) -> Self {
        Self { small_pages: true, ..self }
    }

    /// On the account of `tag`.
    #[inline]
    pub const fn tag(self, tag: Tag) -> Self {
        Self { tag, ..self }
    }

    /// How many bytes.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }
}
