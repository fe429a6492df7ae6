//! The operations, what Linux 6.1 needs for them, and how much of that is allowed.
//!
//! Linux 6.1.192, Debian's source in a small configuration, `-O2`, no mitigations, `CONFIG_VMAP_STACK=y`; QEMU 7.2, `-icount
//! shift=0,sleep=off -cpu max,-erms`, one CPU: median, mean and 99th percentile in instructions, of a program that does the same.

/// The statistics of a row, by their names in findings.
pub(in crate::bench) const STATISTICS: [&str; 3] = ["p50", "mean", "p99"];

/// One operation of `life`.
#[derive(Clone, Copy, Debug)]
pub(in crate::bench) struct Operation {
    /// Its name, in facts and findings.
    pub(in crate::bench) name: &'static str,
    /// What it is, for people.
    pub(in crate::bench) title: &'static str,
    /// Linux's instructions, where they were measured.
    pub(super) linux: Option<[u64; 3]>,
    /// The part of Linux's that is allowed: one in so many; none where nothing was aimed at.
    pub(super) part: Option<u64>,
}

impl Operation {
    /// The instructions that are allowed for statistic `index`.
    pub(super) fn allowed(&self, index: usize) -> Option<u64> {
        Some(self.linux?[index] / self.part?)
    }
}

const fn operation(name: &'static str, title: &'static str, linux: Option<[u64; 3]>, part: Option<u64>) -> Operation {
    Operation { name, title, linux, part }
}

/// All operations, in the order of the table.
pub(in crate::bench) const OPERATIONS: [Operation; 8] = [
    operation("clone", "clone() of a thread, one at a time", Some([8_275, 11_832, 49_962]), Some(4)),
    operation("clone_join", "clone(), exit and join", Some([15_407, 19_745, 56_054]), Some(2)),
    operation("storm256_first", "clone() while up to 256 threads live, the first time", None, None),
    operation("storm256", "clone() while up to 256 threads live", Some([12_439, 20_601, 75_705]), None),
    operation("storm4096", "clone() while up to 4,096 threads live", None, None),
    operation("vfork", "vfork() and exit", Some([18_426, 25_370, 85_141]), Some(2)),
    operation("fork", "fork(), exit and wait4(), 9 MiB touched", Some([581_238, 587_469, 650_241]), Some(2)),
    operation("fork_exec", "fork(), execve(), exit and wait4()", None, None),
];
