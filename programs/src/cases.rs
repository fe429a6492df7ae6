//! What is to hold of threads and processes, as cases with names: for the program `threads`.

mod processes;
mod threads;

/// Something that is to hold.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// In one word, with hyphens.
    pub name: &'static str,
    /// Says what did not hold.
    pub run: fn() -> Result<(), String>,
}

/// All cases.
pub static CASES: [&[Case]; 2] = [&threads::CASES, &processes::CASES];

pub use threads::after_exec;

/// An error that says what was expected and what came.
fn expect<T: PartialEq + std::fmt::Debug>(what: &str, got: T, wanted: T) -> Result<(), String> {
    if got == wanted { Ok(()) } else { Err(format!("{what}: {got:?}, not {wanted:?}")) }
}

/// The error of a system call, in words.
fn say(what: &str) -> impl Fn(std::io::Error) -> String {
    move |error| format!("{what}: {error}")
}

/// Runs `work` in a child of its own, which has no children that others left behind.
fn apart(what: &str, work: fn() -> Result<(), String>) -> Result<(), String> {
    child(what, 0, || match work() {
        Ok(()) => 0,
        Err(why) => {
            eprintln!("{why}");
            1
        }
    })
}

/// Runs `work` in a child and expects this status word of it.
fn child(what: &str, wanted: i32, work: impl FnOnce() -> i32) -> Result<(), String> {
    let pid = crate::spawn(work).map_err(say(what))?;
    let ended = crate::wait(pid).map_err(say(what))?;
    expect(what, ended.status, wanted)
}
