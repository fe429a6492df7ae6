//! Provokes a kernel crash by name: `crash EXHAUST_STACK`.
//!
//! Where the crash works, the process is killed and nothing is printed. Exit status 2: no name; 1: the kernel has no such crash.

use std::process::ExitCode;

use vmstack_programs::provoke;

fn main() -> ExitCode {
    let Some(name) = std::env::args().nth(1) else {
        eprintln!("crash: which? crash NAME, for instance crash EXHAUST_STACK");
        return ExitCode::from(2);
    };
    match provoke(&name) {
        Ok(()) => eprintln!("crash: {name} was provoked, and this process lives"),
        Err(error) => eprintln!("crash: {name} cannot be provoked: {error}"),
    }
    ExitCode::FAILURE
}
