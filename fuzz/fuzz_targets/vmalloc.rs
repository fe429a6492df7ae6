//! Any bytes as operations on a vmalloc, against the model of `crates/vmstack-vmalloc/tests`, on the fake platform from there.
#![no_main]

#[path = "../../crates/vmstack-vmalloc/tests/drive/mod.rs"]
mod drive;
#[path = "../../crates/vmstack-vmalloc/tests/fake/mod.rs"]
mod fake;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| drive::run_bytes(bytes));
