//! Shows that futexes work as on Linux: each operation by raw calls, what the C library and Rust's library build on them, and what a
//! thread leaves behind when it ends.
//!
//! `futexes`, or `futexes NAME...` for some of the checks. Prints `fact futexes.NAME 1`, or why not and then 0. Exit status: 0 all is as
//! it should be, 1 something is not.

use std::process::ExitCode;

use vmstack_programs::checks;

mod ends;
mod library;
mod operations;
mod sys;

fn main() -> ExitCode {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    checks::main("futexes", &[operations::CHECKS, ends::CHECKS, library::CHECKS], &wanted)
}
