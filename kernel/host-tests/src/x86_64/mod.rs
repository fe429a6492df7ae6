//! The kernel's files, and what they want of their neighbours.

#[path = "../../../src/arch/x86_64/acpi.rs"]
pub(crate) mod acpi;
#[path = "../../../src/arch/x86_64/start_info.rs"]
pub(crate) mod start_info;

/// Stands for the per-CPU blocks.
pub(crate) mod percpu {
    pub(crate) const MAX_CPUS: usize = 64;
}
