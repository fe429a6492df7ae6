//! The mode word of `stat`: a kind and permissions.

/// The bits that say the kind.
const KIND: u32 = 0o170_000;
pub(crate) const PIPE: u32 = 0o010_000;
pub(crate) const CHARACTERS: u32 = 0o020_000;
pub(crate) const FOLDER: u32 = 0o040_000;
pub(crate) const REGULAR: u32 = 0o100_000;
pub(crate) const LINK: u32 = 0o120_000;

pub(crate) const fn is_folder(mode: u32) -> bool {
    mode & KIND == FOLDER
}

pub(crate) const fn is_regular(mode: u32) -> bool {
    mode & KIND == REGULAR
}

pub(crate) const fn is_link(mode: u32) -> bool {
    mode & KIND == LINK
}

/// Whether anybody may execute it.
pub(crate) const fn is_executable(mode: u32) -> bool {
    is_regular(mode) && mode & 0o111 != 0
}

/// The kind as entries of folders say it (`d_type`).
pub(crate) const fn entry_kind(mode: u32) -> u8 {
    ((mode & KIND) >> 12) as u8
}
