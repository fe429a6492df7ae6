//! Bad words, good memory beside them, and every call with each of them.
//!
//! ```text
//!   ROOM                                                        ROOM + 4 pages
//!    | writable | writable | not there | read-only |
//! ```
//!
//! The room lies at a fixed address, so that a word means the same in each child.

use std::ffi::CStr;
use std::io;

use crate::call::{self, Call};

pub(crate) const PAGE: usize = 4096;
/// Where the room is.
pub(crate) const ROOM: usize = 0x2000_0000;
/// The middle of the good part.
pub(crate) const GOOD: usize = ROOM + PAGE / 2;
/// What is never there, and begins where good memory ends.
const HOLE: usize = ROOM + 2 * PAGE;
/// The last good byte.
pub(crate) const BEFORE_HOLE: usize = HOLE - 1;
pub(crate) const READ_ONLY: usize = ROOM + 3 * PAGE;
pub(crate) const ROOM_BYTES: usize = 4 * PAGE;
/// Where a program's addresses end.
const END: usize = (1 << 47) - PAGE;

/// A word that is no pointer to `len` good bytes, with its name.
pub(crate) const WILD: [(&str, usize); 16] = [
    ("null", 0),
    ("one", 1),
    ("page-one", PAGE),
    ("hole", HOLE),
    ("before-hole", BEFORE_HOLE),
    ("last-page", END - PAGE),
    ("last-byte", END - 1),
    ("end", END),
    ("not-canonical", 1 << 47),
    ("high-bit", 1 << 63),
    ("direct-map", 0xffff_8880_0000_0000),
    ("stacks", 0xffff_c900_0000_0000),
    ("heap", 0xffff_c940_0000_0000),
    ("kernel", 0xffff_ffff_8020_0000),
    ("minus-eight", usize::MAX - 7),
    ("minus-one", usize::MAX),
];

/// Numbers that are tried: all small ones, and a few that no table has.
const SMALL: usize = 600;
const LARGE: [usize; 6] = [1 << 12, 1 << 31, (1 << 31) - 1, 0x4000_0000, 1 << 63, usize::MAX];
/// Words for [`combination`]: those above, memory that can only be read, and good memory that is not aligned.
const EACH: usize = WILD.len() + 2;
pub(crate) const COMBINATIONS: usize = (SMALL + LARGE.len()) * 6 * EACH;

/// Call `index` of all combinations: the other words are good pointers, or a small number.
pub(crate) fn combination(index: usize) -> Call {
    let (number, rest) = (index / (6 * EACH), index % (6 * EACH));
    let number = LARGE.get(number.wrapping_sub(SMALL)).copied().unwrap_or(number);
    let mut words = [[GOOD; 6], [3; 6]][index % 2];
    words[rest / EACH] = match rest % EACH {
        index if index < WILD.len() => WILD[index].1,
        index if index == WILD.len() => READ_ONLY,
        _ => GOOD + 1,
    };
    Call { number, words }.made_harmless()
}

/// Puts the room in its place.
pub(crate) fn furnish() -> io::Result<()> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
    let at = core::ptr::without_provenance_mut(ROOM);
    // SAFETY: a static program has nothing there, and what the room had is nobody's.
    let got = unsafe { libc::mmap(at, ROOM_BYTES, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
    if got == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the page is the room's.
    let unmapped = unsafe { libc::munmap(core::ptr::without_provenance_mut(HOLE), PAGE) };
    // SAFETY: as above.
    let protected = unsafe { libc::mprotect(core::ptr::without_provenance_mut(READ_ONLY), PAGE, libc::PROT_READ) };
    if unmapped != 0 || protected != 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A pipe that does not wait, for the program's own use.
pub(crate) const SPARE_PIPE: [usize; 2] = [60, 61];

/// Puts descriptors where the calls expect some: 0 to 2 lead nowhere, 3 and 4 are a pipe with something in it, 5 a folder,
/// 6 waits for others, 7 is this program.
pub(crate) fn open_files() {
    let open = |path: &CStr, how: i32| call::make(libc::SYS_open, [path.as_ptr().expose_provenance(), how as usize]);
    let null = open(c"/dev/null", libc::O_RDWR).cast_unsigned();
    for descriptor in 0..3 {
        call::make(libc::SYS_dup2, [null, descriptor]);
    }
    call::make(libc::SYS_close, [null]);
    let mut ends = [0_i32; 2];
    let place = (&raw mut ends).expose_provenance();
    call::make(libc::SYS_pipe2, [place, 0]);
    call::make(libc::SYS_write, [4, c"/dev/null".as_ptr().expose_provenance(), 9]);
    open(c"/", libc::O_RDONLY);
    call::make(libc::SYS_epoll_create1, [0]);
    open(c"/proc/self/exe", libc::O_RDONLY);
    call::make(libc::SYS_pipe2, [place, libc::O_NONBLOCK as usize]);
    for (end, number) in ends.into_iter().zip(SPARE_PIPE) {
        call::make(libc::SYS_dup2, [end as usize, number]);
    }
}
