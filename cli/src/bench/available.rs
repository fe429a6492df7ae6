//! How much memory this machine has to spare.

use std::io;

/// The MiB that can be had without making anybody wait, as `/proc/meminfo` has them; 0 if it does not say.
pub(super) fn available_mib() -> io::Result<usize> {
    Ok(available_kib(&std::fs::read_to_string("/proc/meminfo")?) >> 10)
}

fn available_kib(meminfo: &str) -> usize {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::available_kib;

    #[test]
    fn what_is_available_is_read_and_a_machine_that_does_not_say_has_nothing() {
        assert_eq!(available_kib("MemTotal:  9 kB\nMemAvailable:   23406592 kB\n"), 23_406_592);
        assert_eq!(available_kib("MemTotal:  9 kB\n"), 0);
    }
}
