//! One child after the other, each waited for: `storm exit 3000`, `storm EXHAUST_STACK 300`.
//!
//! With `exit` the children end at once; with any other word they provoke the kernel crash of that name, and must be killed by it.
//! Prints how many there were and how many a signal killed. Exit status 3: not all of those that were to be killed were.

use std::io;
use std::process::ExitCode;

use vmstack_programs::{provoke, spawn, wait};

const SIGSEGV: i32 = 11;

fn storm(what: &str, times: usize) -> io::Result<usize> {
    let mut killed = 0;
    for _ in 0..times {
        let child = spawn(|| match what {
            "exit" => 0,
            name => i32::from(provoke(name).is_err()),
        })?;
        killed += usize::from(wait(child)?.status == SIGSEGV);
    }
    Ok(killed)
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, what, times] = arguments.as_slice() else {
        eprintln!("storm: what, and how often? storm exit 3000");
        return ExitCode::from(2);
    };
    let Ok(times) = times.parse() else {
        eprintln!("storm: {times} is not a number");
        return ExitCode::from(2);
    };
    match storm(what, times) {
        Ok(killed) => {
            println!("{times} children, {killed} killed");
            if what != "exit" && killed != times {
                return ExitCode::from(3);
            }
        }
        Err(error) => {
            eprintln!("storm: {error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
