//! A part of a Debian package, fetched and unpacked under `target/`, not installed.
//!
//! A guest wants files that somebody else built: a busybox, another kernel. The host stays as it is. That needs no rights, only
//! apt's lists of packages. What is there is whole: it is made beside its final place and then moved.

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

/// A part of a package, and how it is said that it cannot be had.
#[derive(Clone, Copy)]
pub struct Part<'a> {
    /// The package's name.
    pub package: &'a str,
    /// The file or folder in it, without a leading slash.
    pub path: &'a str,
    /// The failure for a reason why it cannot be had.
    pub missing: &'a dyn Fn(&str) -> Failure,
}

impl core::fmt::Debug for Part<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Part").field("package", &self.package).field("path", &self.path).finish_non_exhaustive()
    }
}

impl Part<'_> {
    /// Where it lies when it has been fetched.
    #[must_use]
    pub fn cached(&self, checkout: &Checkout) -> PathBuf {
        checkout.target("cache").join(self.package).join(self.path)
    }

    /// Fetches it when it is not there yet, and says where it is.
    ///
    /// # Errors
    ///
    /// When fetching is forbidden or fails, or on a signal.
    pub fn fetch(&self, checkout: &Checkout, interrupts: &Interrupts) -> Result<PathBuf, Failure> {
        let cached = self.cached(checkout);
        if cached.exists() {
            return Ok(cached);
        }
        may_fetch(interrupts).map_err(|why| (self.missing)(&why))?;
        let size = apt::size(self.package).map_err(|why| (self.missing)(&why))?;
        let line = format!("fetching {} with apt-get ({size}), without installing it", self.package);
        ThisMachine::new(interrupts).announce(&line);
        self.unpack(&checkout.cache()?, interrupts)?;
        Ok(cached)
    }

    fn unpack(&self, cache: &Path, interrupts: &Interrupts) -> Result<(), Failure> {
        let _progress = Progress::start(&format!("fetching {}", self.package));
        let failed = |error| (self.missing)(&format!("{} cannot be written: {error}", cache.display()));
        let folder = tempfile::Builder::new().prefix("fetch-").tempdir_in(cache).map_err(failed)?;
        let download = ["download", "-qq", self.package];
        self.step(Command::new("apt-get").args(download).current_dir(folder.path()), interrupts)?;
        let is_package = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "deb");
        let files = std::fs::read_dir(folder.path()).map_err(failed)?;
        let file = files.flatten().map(|entry| entry.path()).find(is_package);
        let file = file.ok_or_else(|| (self.missing)("apt-get download left no package"))?;
        let (root, kept) = (folder.path().join("root"), folder.path().join("kept"));
        self.step(Command::new("dpkg").arg("-x").arg(file).arg(&root), interrupts)?;
        let (from, to) = (root.join(self.path), kept.join(self.path));
        if !from.exists() {
            return Err((self.missing)(&format!("the package {} holds no {}", self.package, self.path)));
        }
        to.parent().map_or(Ok(()), std::fs::create_dir_all).map_err(failed)?;
        std::fs::rename(from, to).map_err(failed)?;
        std::fs::rename(kept, cache.join(self.package)).map_err(failed)
    }

    fn step(&self, command: &mut Command, interrupts: &Interrupts) -> Result<(), Failure> {
        let finished = leash::run(command, interrupts, &mut |_| {})?;
        let last = finished.complaint.lines().last().unwrap_or("it failed without a word");
        if finished.success { Ok(()) } else { Err((self.missing)(last)) }
    }
}

/// Brings apt's lists up to date when they are old, or says why nothing can be fetched.
///
/// # Errors
///
/// Why not, in words.
pub fn may_fetch(interrupts: &Interrupts) -> Result<(), String> {
    let mut machine = ThisMachine::new(interrupts);
    if !machine.may_install() {
        return Err("VMSTACK_NO_INSTALL=1 forbids fetching it".into());
    }
    if !machine.has_apt() {
        return Err("there is no apt-get here to fetch it with".into());
    }
    if machine.lists_are_old() && machine.privilege() != apt::Privilege::Absent {
        machine.announce("bringing apt's lists of packages up to date");
        machine.update_lists()?;
    }
    Ok(())
}
