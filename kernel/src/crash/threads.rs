//! Overflows in one thread of several: the process is what is killed.

use super::script::{PROGRAM, Script, start_program, wait_for_process};
use crate::println;

pub(super) static SCRIPTS: [Script; 1] = [Script { name: "OVERFLOW_IN_THREAD", run: in_thread }];

/// A program that has threads of other processes overflow, and says what it sees of that.
fn in_thread(_: &str) {
    match start_program(&[PROGRAM, b"--thread"]) {
        Ok(process) => wait_for_process(&process),
        Err(error) => println!("no observer: {error:?}"),
    }
}
