//! A mapping: a range of a program's addresses, what may be done there, and what is there before anything was written.

use vmstack::{VirtAddr, VirtRange};

use super::PAGE_SIZE;

/// What a program may do with a mapping, as `mmap` has it: never both write and execute.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Rights(u8);

impl Rights {
    pub(crate) const NONE: Self = Self(0);
    pub(crate) const READ: Self = Self(1);
    pub(crate) const READ_WRITE: Self = Self(3);
    pub(crate) const READ_EXECUTE: Self = Self(5);
    const WRITE: u8 = 2;
    const EXECUTE: u8 = 4;

    /// What the three flags say; who may write or execute may read. `None` for both write and execute.
    pub(crate) const fn from_flags(read: bool, write: bool, execute: bool) -> Option<Self> {
        match (read, write, execute) {
            (_, true, true) => None,
            (_, true, false) => Some(Self::READ_WRITE),
            (_, false, true) => Some(Self::READ_EXECUTE),
            (true, false, false) => Some(Self::READ),
            (false, false, false) => Some(Self::NONE),
        }
    }

    pub(crate) const fn is_none(self) -> bool {
        self.0 == 0
    }

    pub(crate) const fn may_write(self) -> bool {
        self.0 & Self::WRITE != 0
    }

    pub(crate) const fn may_execute(self) -> bool {
        self.0 & Self::EXECUTE != 0
    }
}

/// What kind of mapping it is: a set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Kind(u8);

impl Kind {
    /// Memory that reads as zero until it is written, and belongs to one program.
    pub(crate) const PRIVATE: Self = Self(0);
    /// The same memory for a parent and its children.
    pub(crate) const SHARED: Self = Self(1);
    /// What a file says.
    pub(crate) const FILE: Self = Self(2);
    /// Does not count as memory that the program will use.
    pub(crate) const UNRESERVED: Self = Self(4);
    /// Grows downwards when the page below it is used.
    pub(crate) const GROWS_DOWN: Self = Self(8);

    pub(crate) const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(crate) const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// A mapping of whole pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Mapping {
    pub(super) start: VirtAddr,
    pub(super) end: VirtAddr,
    /// The bytes of the file from `start` on, as far as it has any.
    pub(super) file: &'static [u8],
    pub(super) rights: Rights,
    pub(super) kind: Kind,
}

impl Mapping {
    /// Memory without a file.
    pub(crate) const fn anonymous(range: VirtRange, rights: Rights, kind: Kind) -> Self {
        Self { start: range.start(), end: range.end(), file: &[], rights, kind }
    }

    /// What `file` says, and zeros where the last page goes on after its end.
    pub(crate) const fn of_file(range: VirtRange, rights: Rights, kind: Kind, file: &'static [u8]) -> Self {
        Self { start: range.start(), end: range.end(), file, rights, kind: kind.with(Kind::FILE) }
    }

    pub(crate) fn range(&self) -> VirtRange {
        VirtRange::new(self.start, self.bytes()).unwrap_or(VirtRange::EMPTY)
    }

    pub(crate) const fn bytes(&self) -> usize {
        self.end.distance(self.start)
    }

    pub(crate) const fn is_shared(&self) -> bool {
        self.kind.has(Kind::SHARED)
    }

    pub(crate) const fn is_file(&self) -> bool {
        self.kind.has(Kind::FILE)
    }

    /// Whether its frames are the same for a parent and its children, whoever uses them first: so they are there from the beginning.
    pub(crate) const fn is_common(&self) -> bool {
        self.is_shared() && !self.is_file()
    }

    /// Whether its pages are counted as memory that the program will use: those that it may write to and has for itself.
    pub(crate) const fn is_counted(&self) -> bool {
        self.rights.may_write() && !self.kind.has(Kind::UNRESERVED)
    }

    /// The bytes of the file for `page`, a page of the mapping: at most a page, and none after the file's end.
    pub(crate) fn file_page(&self, page: VirtAddr) -> &'static [u8] {
        let rest = self.file.get(page.distance(self.start)..).unwrap_or(&[]);
        &rest[..rest.len().min(PAGE_SIZE)]
    }

    /// What of it lies below `at`, an address in it.
    pub(super) fn below(mut self, at: VirtAddr) -> Self {
        self.end = at;
        self.file = self.file.get(..self.bytes()).unwrap_or(self.file);
        self
    }

    /// What of it lies from `at`, an address in it, on.
    pub(super) fn from(mut self, at: VirtAddr) -> Self {
        self.file = self.file.get(at.distance(self.start)..).unwrap_or(&[]);
        self.start = at;
        self
    }

    /// Whether the two are one: `next` begins where this one ends, and is the same. What files say is not looked at.
    pub(super) fn joins(&self, next: &Self) -> bool {
        let alike = self.rights == next.rights && self.kind == next.kind;
        self.end == next.start && alike && !self.is_file()
    }
}
