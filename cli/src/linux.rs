//! Another kernel to compare with: Debian's own Linux, in the same emulator, with the same counting.
//!
//! Its package is fetched, not installed (`package`); `VMSTACK_LINUX` names another kernel image instead. It boots into an initial file system
//! that holds nothing but `programs/`: its first process is `linux_init`, which runs one program and ends the machine as our own
//! kernel does, with a marker and a status.
//!
//! What its command line says: `mitigations=off`, as our kernel has none; `quiet`, for a line on a serial console costs Linux more than what is
//! measured; `panic=-1`, so that a Linux that panics ends and is seen to have ended.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::archive::Archive;
use crate::checkout::Checkout;
use crate::failure::Failure;
use crate::guest::Guest;
use crate::interrupt::Interrupts;
use crate::package::{Part, may_fetch};
use crate::toolchain::first_line;

/// Debian's package that always names its newest kernel for virtual machines.
const NEWEST: &str = "linux-image-cloud-amd64";
/// The folder of a kernel's package that is wanted.
const BOOT: &str = "boot";
/// The words before the program's own.
const WORDS: &str = "console=ttyS0 quiet mitigations=off panic=-1 --";
/// The marker that ends a boot.
pub const MARKER: &str = "end-of-linux";

/// A kernel image to boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Linux(PathBuf);

impl Linux {
    /// The kernel that `VMSTACK_LINUX` names, or that was fetched before; else fetches Debian's.
    ///
    /// # Errors
    ///
    /// When there is none and fetching is forbidden or fails, or on a signal.
    pub fn find(checkout: &Checkout, interrupts: &Interrupts) -> Result<Self, Failure> {
        if let Some(named) = named_by_environment() {
            let there = named.is_file();
            let refusal = || Failure::cannot(format!("VMSTACK_LINUX={}: no such file; unset it", named.display()));
            return there.then_some(Self(named.clone())).ok_or_else(refusal);
        }
        if let Some(image) = cached(&checkout.target("cache")) {
            return Ok(Self(image));
        }
        may_fetch(interrupts).map_err(|why| missing(&why))?;
        let package = newest().ok_or_else(|| missing(&format!("apt knows no {NEWEST}")))?;
        let folder = Part { package: &package, path: BOOT, missing: &missing }.fetch(checkout, interrupts)?;
        image_in(&folder).map(Self).ok_or_else(|| missing(&format!("the package {package} holds no kernel")))
    }

    /// Its file.
    #[must_use]
    pub fn image(&self) -> &Path {
        &self.0
    }
}

/// Linux's command line: it passes what follows `--` to its first process.
#[must_use]
pub fn words(program: &str, arguments: &[String]) -> String {
    arguments.iter().fold(format!("{WORDS} {program}"), |words, argument| format!("{words} {argument}"))
}

/// The initial file system: the first process, and the programs under `/bin`.
///
/// # Errors
///
/// When a program cannot be read.
pub fn archive(guest: &Guest) -> Result<Archive, Failure> {
    let mut archive = Archive::new();
    // Linux makes no folder by itself.
    archive.add_folder(b"bin");
    guest.add_programs(&mut archive)?;
    archive.add(b"init", &guest.program("linux_init")?);
    Ok(archive)
}

fn missing(why: &str) -> Failure {
    Failure::cannot(format!(
        "there is no Linux to compare with, and {why}; name a kernel image by VMSTACK_LINUX, or leave --against away"
    ))
}

fn named_by_environment() -> Option<PathBuf> {
    std::env::var_os("VMSTACK_LINUX").filter(|name| !name.is_empty()).map(PathBuf::from)
}

/// The newest of the kernels that were fetched before.
fn cached(cache: &Path) -> Option<PathBuf> {
    let entries = std::fs::read_dir(cache).ok()?.flatten().map(|entry| entry.path());
    let is_kernel =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"linux-image-"));
    let mut folders: Vec<PathBuf> = entries.filter(is_kernel).map(|path| path.join(BOOT)).collect();
    folders.sort();
    folders.iter().rev().find_map(|folder| image_in(folder))
}

fn image_in(folder: &Path) -> Option<PathBuf> {
    let is_image =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"vmlinuz"));
    std::fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path()).find(is_image)
}

/// The package that the newest one's name stands for.
fn newest() -> Option<String> {
    let depends = ["depends", "--important", NEWEST];
    let output = Command::new("apt-cache").args(depends).env("LC_ALL", "C").output().ok()?;
    named_by(&String::from_utf8_lossy(&output.stdout)).filter(|package| has_candidate(package))
}

/// The first package that `apt-cache depends` names as one.
fn named_by(printed: &str) -> Option<String> {
    printed.lines().find_map(|line| line.trim().strip_prefix("Depends: ")).map(str::to_owned)
}

fn has_candidate(package: &str) -> bool {
    first_line(Command::new("apt-cache").args(["show", package])).is_some()
}

#[cfg(test)]
mod tests {
    use super::{cached, named_by, words};

    #[test]
    fn the_programs_words_follow_linuxs_own() {
        let line = words("/bin/life", &["--samples".into(), "3".into()]);
        assert_eq!(line, "console=ttyS0 quiet mitigations=off panic=-1 -- /bin/life --samples 3");
    }

    #[test]
    fn the_newest_package_is_what_the_meta_package_depends_on() {
        let printed = "linux-image-cloud-amd64\n  Depends: linux-image-6.1.0-56-cloud-amd64\n";
        assert_eq!(named_by(printed).as_deref(), Some("linux-image-6.1.0-56-cloud-amd64"));
        assert_eq!(named_by("linux-image-cloud-amd64\n"), None);
    }

    #[test]
    fn of_the_kernels_that_were_fetched_the_newest_is_taken() {
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(cached(folder.path()), None);
        for version in ["6.1.0-50", "6.1.0-56"] {
            let boot = folder.path().join(format!("linux-image-{version}")).join("boot");
            std::fs::create_dir_all(&boot).expect("made");
            std::fs::write(boot.join(format!("vmlinuz-{version}")), "").expect("written");
        }
        std::fs::create_dir(folder.path().join("linux-image-7")).expect("made");
        assert!(cached(folder.path()).is_some_and(|path| path.ends_with("linux-image-6.1.0-56/boot/vmlinuz-6.1.0-56")));
    }
}
