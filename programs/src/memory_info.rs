//! What the system says of its memory: `/proc/meminfo`.

use std::fs;

/// The line `name` of `/proc/meminfo`, in KiB; none where there is no such file or line.
#[must_use]
pub fn kib(name: &str) -> Option<u64> {
    find(&fs::read_to_string("/proc/meminfo").ok()?, name)
}

fn find(text: &str, name: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    value.trim().trim_end_matches("kB").trim().parse().ok()
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_line_is_found_by_its_whole_name() {
        let text = "MemTotal:  100 kB\nMemFree:   42 kB\nKernelStack:  7 kB\n";
        assert_eq!(super::find(text, "MemFree"), Some(42));
        assert_eq!(super::find(text, "Mem"), None);
    }
}
