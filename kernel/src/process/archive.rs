//! The initial file system: a `newc` cpio archive in memory, read-only.
//!
//! The archive stays where the loader put it; files are slices of it. Anything that is not as it should be ends the walk:
//! what was found before stays found.

const HEADER: usize = 110;
const MAGIC: &[u8] = b"070701";

/// The archive, as the loader left it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Archive(&'static [u8]);

/// A file in the archive.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub(crate) name: &'static [u8],
    pub(crate) data: &'static [u8],
}

impl Archive {
    pub(crate) const fn new(bytes: &'static [u8]) -> Self {
        Self(bytes)
    }

    /// The file at the absolute or relative `path`.
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

    fn entries(self) -> impl Iterator<Item = Entry> {
        let mut rest = self.0;
        core::iter::from_fn(move || {
            let (entry, next) = parse(rest)?;
            rest = next;
            (entry.name != b"TRAILER!!!").then_some(entry)
        })
    }
}

/// One entry, and what follows it.
fn parse(bytes: &'static [u8]) -> Option<(Entry, &'static [u8])> {
    let header = bytes.get(..HEADER)?;
    if !header.starts_with(MAGIC) {
        return None;
    }
    let size = field(header, 6)?;
    let name_size = field(header, 11)?;
    let name_end = HEADER.checked_add(name_size)?;
    let name = bytes.get(HEADER..name_end)?.strip_suffix(b"\0")?;
    let start = name_end.checked_next_multiple_of(4)?;
    let end = start.checked_add(size)?;
    let data = bytes.get(start..end)?;
    let next = bytes.get(end.checked_next_multiple_of(4)?..).unwrap_or(&[]);
    Some((Entry { name, data }, next))
}

/// Field number `index` of the header: eight hexadecimal digits.
fn field(header: &[u8], index: usize) -> Option<usize> {
    let digits = header.get(6 + index * 8..14 + index * 8)?;
    usize::from_str_radix(core::str::from_utf8(digits).ok()?, 16).ok()
}
