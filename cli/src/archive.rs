//! The initial file system: a `newc` cpio archive, written in memory.
//!
//! ```text
//! "070701"  13 fields of 8 hexadecimal digits  name NUL  pad to 4  data  pad to 4      once for each file
//! ...                                          "TRAILER!!!"                            the end
//! ```
//!
//! Names have no leading slash. Only what a guest reads is filled in: mode, size and name; times and owners are zero, so
//! that the same files make the same archive.

/// A regular file that everybody may read and execute.
const MODE: u32 = 0o100_755;

/// A folder that everybody may look into.
const FOLDER: u32 = 0o040_755;

const TRAILER: &[u8] = b"TRAILER!!!";

/// An archive under construction.
#[derive(Clone, Debug, Default)]
pub struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    /// An archive without files.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a file under the absolute path `name`; a leading slash is dropped.
    ///
    /// # Panics
    ///
    /// When `data` is 4 GiB or longer, which the format cannot say; the callers' files are far below.
    pub fn add(&mut self, name: &[u8], data: &[u8]) {
        self.entry(name.strip_prefix(b"/").unwrap_or(name), MODE, data);
    }

    /// Adds a folder; a kernel that makes those of files by itself needs none.
    pub fn add_folder(&mut self, name: &[u8]) {
        self.entry(name, FOLDER, &[]);
    }

    /// The finished archive.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        self.entry(TRAILER, 0, &[]);
        self.bytes
    }

    fn entry(&mut self, name: &[u8], mode: u32, data: &[u8]) {
        self.entries += 1;
        let size = |length: usize| u32::try_from(length).expect("a file below 4 GiB");
        let (inode, links) = (self.entries, 1);
        // inode, mode, user, group, links, time, size, four device numbers, length of the name with its NUL, checksum
        let fields = [inode, mode, 0, 0, links, 0, size(data.len()), 0, 0, 0, 0, size(name.len() + 1), 0];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name);
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(data);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::Archive;

    #[test]
    fn an_empty_archive_is_its_trailer() {
        let bytes = Archive::new().finish();
        assert_eq!(bytes.len() % 4, 0);
        assert_eq!((&bytes[..6], &bytes[110..121]), (&b"070701"[..], &b"TRAILER!!!\0"[..]));
    }

    #[test]
    fn names_and_data_are_aligned_and_sized() {
        let mut archive = Archive::new();
        archive.add(b"/bin/a", b"hello");
        archive.add(b"b", b"");
        let bytes = archive.finish();
        let field = |entry: usize, index: usize| {
            let start = entry + 6 + 8 * index;
            let digits = core::str::from_utf8(&bytes[start..start + 8]).expect("ASCII");
            u32::from_str_radix(digits, 16).expect("hexadecimal")
        };
        assert_eq!((field(0, 1), field(0, 6), field(0, 11)), (0o100_755, 5, 6));
        assert_eq!(&bytes[110..116], b"bin/a\0");
        assert_eq!(&bytes[116..121], b"hello");
        assert_eq!((&bytes[124..130], field(124, 6), field(124, 11)), (&b"070701"[..], 0, 2));
    }
}
