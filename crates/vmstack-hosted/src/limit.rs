//! How many mappings a process may have, and has.
//!
//! Linux bounds the number of mappings in an address space (`vm.max_map_count`, 65,530 by default). Frames that lie apart
//! in the memfd make a mapping each, and the guard between two stacks is one more: a stack of four pages costs five, so
//! that about 13,000 stacks fit. A kernel has no such limit; here it is an error of its own, found when mmap says ENOMEM.
//!
//! The same list tells what the MMU lets a process touch, whatever our own tables say: [`accessible_pages`].
//!
//! Context: task, on the way out of an error; reads files of /proc.

use std::fs::File;
use std::io::{BufRead, BufReader};

use vmstack::{VirtAddr, VirtRange};

/// A call for memory that failed this close to the limit was stopped by it. By the time of the count, the largest stack
/// (128 pages) may have been unmapped again, and the spare mappings given up.
const CLOSE: usize = 256;

/// How many mappings a process may have: `vm.max_map_count`.
#[must_use]
pub fn max_mappings() -> Option<usize> {
    std::fs::read_to_string("/proc/sys/vm/max_map_count").ok()?.trim().parse().ok()
}

/// How many mappings this process has now.
pub(crate) fn mappings() -> Option<usize> {
    let lines = BufReader::new(File::open("/proc/self/maps").ok()?).split(b'\n');
    // The vsyscall page is listed and not counted.
    Some(lines.map_while(Result::ok).filter(|line| !line.ends_with(b"[vsyscall]")).count())
}

/// The limit and the number of mappings, if the process has about as many as it may have.
pub(crate) fn reached() -> Option<(usize, usize)> {
    let (limit, mappings) = (max_mappings()?, mappings()?);
    (mappings + CLOSE >= limit).then_some((limit, mappings))
}

/// The addresses of the pages of `range` that this process can read, write or execute, as the kernel lists them.
pub(crate) fn accessible_pages(range: VirtRange, page: usize) -> Option<Vec<VirtAddr>> {
    let file = BufReader::new(File::open("/proc/self/maps").ok()?);
    let mut pages = Vec::new();
    for (start, end) in file.lines().map_while(Result::ok).filter_map(|line| accessible(&line)) {
        let (low, high) = (start.max(range.start().get()), end.min(range.end().get()));
        pages.extend((low..high.max(low)).step_by(page).map(VirtAddr::new));
    }
    Some(pages)
}

/// The bounds of the mapping that `line` of /proc/self/maps describes, if it can be accessed in any way.
fn accessible(line: &str) -> Option<(usize, usize)> {
    let (bounds, rest) = line.split_once(' ')?;
    let (start, end) = bounds.split_once('-')?;
    let bounds = (usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?);
    (!rest.starts_with("---")).then_some(bounds)
}

#[cfg(test)]
mod tests {
    use super::{accessible, mappings, max_mappings, reached};

    #[test]
    fn a_line_of_the_list_is_read_as_the_kernel_writes_it() {
        assert_eq!(accessible("1000-3000 rw-s 00000000 00:01 7 /memfd:vmstack (deleted)"), Some((0x1000, 0x3000)));
        assert_eq!(accessible("1000-3000 ---p 00000000 00:00 0"), None);
        assert_eq!(accessible("nonsense"), None);
    }

    #[test]
    fn a_process_at_rest_is_far_from_the_limit() {
        assert!(mappings().expect("Linux lists mappings") < max_mappings().expect("Linux has a limit"));
        assert_eq!(reached(), None);
    }
}
