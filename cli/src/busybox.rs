//! A static busybox for `--program /bin/busybox`, where the host has none.
//!
//! Debian's package is downloaded and unpacked under `target/`, not installed: the guest wants the file, and the host
//! stays as it is. That needs no rights, only apt's lists of packages.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::apt;
use crate::checkout::Checkout;
use crate::failure::Failure;
use crate::interrupt::Interrupts;
use crate::leash;
use crate::machine::ThisMachine;
use crate::progress::Progress;
use crate::provision::Machine;

const PACKAGE: &str = "busybox-static";
const PATH: &str = "/bin/busybox";

/// Whether `program` is the busybox that a host would have, and this one has not.
#[must_use]
pub fn is_wanted(program: &Path) -> bool {
    program == Path::new(PATH) && !program.exists()
}

/// Where the fetched program lies, or would.
#[must_use]
pub fn cached(checkout: &Checkout) -> PathBuf {
    checkout.target("cache").join(PACKAGE).join("bin/busybox")
}

/// The fetched program; fetches it when it is not there yet.
///
/// # Errors
///
/// When fetching is forbidden or fails, or on a signal.
pub fn fetch(checkout: &Checkout, interrupts: &Interrupts) -> Result<PathBuf, Failure> {
    let program = cached(checkout);
    if program.is_file() {
        return Ok(program);
    }
    let mut machine = ThisMachine::new(interrupts);
    if !machine.may_install() {
        return Err(missing("VMSTACK_NO_INSTALL=1 forbids fetching it"));
    }
    if !machine.has_apt() {
        return Err(missing("there is no apt-get here to fetch it with"));
    }
    if machine.lists_are_old() && machine.privilege() != apt::Privilege::Absent {
        machine.announce("bringing apt's lists of packages up to date");
        machine.update_lists().map_err(|why| missing(&why))?;
    }
    let size = apt::size(PACKAGE).map_err(|why| missing(&why))?;
    machine.announce(&format!("fetching {PACKAGE} with apt-get ({size}), without installing it"));
    unpack(&checkout.cache()?, interrupts)?;
    program.is_file().then_some(program).ok_or_else(|| missing("its package holds no bin/busybox"))
}

fn missing(why: &str) -> Failure {
    Failure::cannot(format!(
        "{PATH} is missing, and {why}; install it by: apt-get install {PACKAGE}, or name another program"
    ))
}

/// Downloads and unpacks beside the final place, then moves it there: what is there is whole.
fn unpack(cache: &Path, interrupts: &Interrupts) -> Result<(), Failure> {
    let _progress = Progress::start("fetching busybox");
    let failed = |error: std::io::Error| missing(&format!("{} cannot be written: {error}", cache.display()));
    let folder = tempfile::Builder::new().prefix("fetch-").tempdir_in(cache).map_err(failed)?;
    step(Command::new("apt-get").args(["download", "-qq", PACKAGE]).current_dir(folder.path()), interrupts)?;
    let is_package = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "deb");
    let files = std::fs::read_dir(folder.path()).map_err(failed)?;
    let package = files.flatten().map(|entry| entry.path()).find(is_package);
    let package = package.ok_or_else(|| missing("apt-get download left no package"))?;
    let root = folder.path().join("root");
    step(Command::new("dpkg").arg("-x").arg(package).arg(&root), interrupts)?;
    std::fs::rename(root, cache.join(PACKAGE)).map_err(failed)
}

fn step(command: &mut Command, interrupts: &Interrupts) -> Result<(), Failure> {
    let finished = leash::run(command, interrupts, &mut |_| {})?;
    let last = finished.complaint.lines().last().unwrap_or("it failed without a word");
    if finished.success { Ok(()) } else { Err(missing(last)) }
}
