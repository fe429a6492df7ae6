//! Shows that descriptors are as on Linux: which file one means to an epoll, who has a table of them, and that the other end of a pipe
//! learns of whatever end this one comes to.
//!
//! ```text
//! files                every check, each in a process of its own
//! files NAME...        those checks
//! files console        reads the standard input by an epoll that tells news only, and prints what it read
//! ```
//!
//! Prints `fact files.NAME 1`, or why not and then 0. Exit status: 0 all is as it should be, 1 something is not.

use std::process::ExitCode;

use vmstack_programs::checks;

mod ends;
mod epoll;
mod paths;
mod sys;
mod tables;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("console") => return epoll::console(),
        Some("--executed") => return tables::executed(&arguments[1..]),
        _ => {}
    }
    checks::main("files", &[epoll::CHECKS, paths::CHECKS, tables::CHECKS, ends::CHECKS], &arguments)
}
