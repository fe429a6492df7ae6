//! The initial file system: a `newc` cpio archive in memory, read-only.
//!
//! The archive stays where the loader put it; files are slices of it. [`entries`](Archive::entries) walks it from the front, which is
//! all that there is before the kernel has a heap; `tree` makes folders of it. Anything that is not as it should be ends the walk: what
//! was found before stays found.
//!
//! ```text
//! "070701"  13 fields of 8 hexadecimal digits  name NUL  pad to 4  data  pad to 4      once for each entry
//! ```

const HEADER: usize = 110;
const MAGIC: &[u8] = b"070701";
const END: &[u8] = b"TRAILER!!!";

/// Fields of the header that are read.
const MODE: usize = 1;
const MODIFIED: usize = 5;
const SIZE: usize = 6;
const NAME_SIZE: usize = 11;

/// The archive, as the loader left it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Archive(&'static [u8]);

/// An entry of the archive: a file, a folder or a symbolic link.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    /// The path, without a slash in front.
    pub(crate) name: &'static [u8],
    pub(crate) data: &'static [u8],
    /// Kind and permissions, as in `stat`.
    pub(crate) mode: u32,
    /// Seconds since 1970.
    pub(crate) modified: u32,
}

impl Archive {
    pub(crate) const fn new(bytes: &'static [u8]) -> Self {
        Self(bytes)
    }

    /// Its size in bytes.
    pub(crate) const fn bytes(self) -> usize {
        self.0.len()
    }

    /// The entry at the absolute or relative `path`, by its name in the archive.
    pub(crate) fn find(self, path: &[u8]) -> Option<Entry> {
        let wanted = path.strip_prefix(b"/").unwrap_or(path);
        self.entries().find(|entry| entry.name == wanted)
    }

    /// The file that `bytes`, which are not none, are a part of, and where in it they begin.
    pub(crate) fn holding(self, bytes: &[u8]) -> Option<(Entry, usize)> {
        let first = bytes.as_ptr_range().start;
        self.entries().find_map(|entry| {
            let inside = !bytes.is_empty() && entry.data.as_ptr_range().contains(&first);
            inside.then(|| (entry, first.addr() - entry.data.as_ptr().addr()))
        })
    }

    /// All entries, in their order.
    pub(crate) fn entries(self) -> impl Iterator<Item = Entry> {
        let mut rest = self.0;
        core::iter::from_fn(move || {
            let (entry, next) = parse(rest)?;
            rest = next;
            (entry.name != END).then_some(entry)
        })
    }
}

/// One entry, and what follows it.
fn parse(bytes: &'static [u8]) -> Option<(Entry, &'static [u8])> {
    let header = bytes.get(..HEADER)?;
    if !header.starts_with(MAGIC) {
        return None;
    }
    let name_end = HEADER.checked_add(field(header, NAME_SIZE)? as usize)?;
    let name = bytes.get(HEADER..name_end)?.strip_suffix(b"\0")?;
    let start = name_end.checked_next_multiple_of(4)?;
    let end = start.checked_add(field(header, SIZE)? as usize)?;
    let data = bytes.get(start..end)?;
    let next = bytes.get(end.checked_next_multiple_of(4)?..).unwrap_or(&[]);
    let entry = Entry { name, data, mode: field(header, MODE)?, modified: field(header, MODIFIED)? };
    Some((entry, next))
}

/// Field number `index` of the header: eight hexadecimal digits.
fn field(header: &[u8], index: usize) -> Option<u32> {
    let digits = header.get(6 + index * 8..14 + index * 8)?;
    u32::from_str_radix(core::str::from_utf8(digits).ok()?, 16).ok()
}
