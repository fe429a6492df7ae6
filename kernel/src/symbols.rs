//! The kernel's own symbols, for reports: a sorted table that the command puts in the initial file system.
//!
//! The layout is in `docs/console.md`. A lookup is a binary search in read-only memory: it may be made in the fault path. A table
//! that is absent or damaged gives no names, and reports print addresses.

use core::fmt;
use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use core::{ptr, slice};

use vmstack::VirtAddr;

const MAGIC: &[u8; 8] = b"VMSYMS1\0";
const HEADER: usize = 16;
const ENTRY: usize = 16;

static TABLE: AtomicPtr<u8> = AtomicPtr::new(ptr::null_mut());
static BYTES: AtomicUsize = AtomicUsize::new(0);

/// Uses `table` from here on, if it is one.
pub(crate) fn init(table: &'static [u8]) {
    if table.starts_with(MAGIC) && table.len() >= HEADER {
        TABLE.store(table.as_ptr().cast_mut(), Ordering::Relaxed);
        // Release: the pointer before the length, which is zero until then.
        BYTES.store(table.len(), Ordering::Release);
    }
}

fn table() -> &'static [u8] {
    // Acquire: pairs with `init`.
    let bytes = BYTES.load(Ordering::Acquire);
    let start = TABLE.load(Ordering::Relaxed);
    if bytes == 0 {
        return &[];
    }
    // SAFETY: `init` stored the parts of a static slice, and nobody changes them.
    unsafe { slice::from_raw_parts(start, bytes) }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes)
}

/// A function's name and where in it an address lies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Symbol {
    pub(crate) name: &'static str,
    pub(crate) offset: usize,
    pub(crate) size: usize,
}

/// The function that `addr` lies in.
pub(crate) fn find(addr: VirtAddr) -> Option<Symbol> {
    let table = table();
    let count = word(table, 8)? as usize;
    let entry = |index: usize| table.get(HEADER + index * ENTRY..HEADER + (index + 1) * ENTRY);
    let start = |index: usize| Some(usize::from_le_bytes(entry(index)?.get(..8)?.try_into().ok()?));
    let (mut low, mut high) = (0, count);
    while low < high {
        let middle = low.midpoint(high);
        if start(middle)? <= addr.get() { low = middle + 1 } else { high = middle }
    }
    let index = low.checked_sub(1)?;
    let (offset, size) = (addr.get() - start(index)?, word(entry(index)?, 8)? as usize);
    let names = HEADER + count * ENTRY + word(entry(index)?, 12)? as usize;
    let name = table.get(names..)?.split(|&byte| byte == 0).next()?;
    (offset < size.max(1)).then_some(Symbol { name: core::str::from_utf8(name).ok()?, offset, size })
}

/// An address of code, as a report shows it: `function+0x12/0x34`, or the bare address.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Code(pub(crate) VirtAddr);

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match find(self.0) {
            Some(Symbol { name, offset, size }) => write!(f, "{name}+{offset:#x}/{size:#x}"),
            None => write!(f, "{}", self.0),
        }
    }
}
