//! What a boot needs, what of it is missing, and how it is got.
//!
//! Needed are an emulator and, unless the guest is already built, `core` for the bare-metal target with a linker. Each is
//! used where it is found. What is missing is installed after one line that names it, where that is allowed and
//! possible; else the answer is a [`Refusal`] that holds the exact command.
//!
//! ```text
//!   core precompiled? ──yes──► use it
//!        │ no
//!   Debian's set installed? ──yes──► use it            (asks no server on each run)
//!        │ no
//!   rustup there? ──► rustup target add ──worked──► use it
//!        │ no, or failed
//!   apt-get install of Debian's set
//! ```
//!
//! The decisions see a machine only through the trait [`Machine`], and are tested against made-up ones.

use core::fmt;
use std::path::PathBuf;

use crate::apt::{Download, Privilege};
use crate::toolchain::{Core, DEBIAN, Linker, TARGET, Toolchain};

/// The Debian package of the emulator.
pub const EMULATOR_PACKAGE: &str = "qemu-system-x86";

/// A machine as far as installing is concerned: what can be seen of it, and what can be done to it.
///
/// Actions return the words of whoever failed.
pub trait Machine {
    /// The emulator's program.
    fn emulator(&self) -> Option<PathBuf>;
    /// Whether the host's toolchain has `core` for the target.
    fn has_core(&self) -> bool;
    /// What can link for the host's toolchain.
    fn linker(&self) -> Option<Linker>;
    /// Whether there is a rustup.
    fn has_rustup(&self) -> bool;
    /// Whether there is an apt-get.
    fn has_apt(&self) -> bool;
    /// Whether this Debian package is installed.
    fn has_package(&self, package: &str) -> bool;
    /// With what rights packages can be installed.
    fn privilege(&self) -> Privilege;
    /// Whether the user allows installing.
    fn may_install(&self) -> bool;
    /// Whether apt's lists are empty or old.
    fn lists_are_old(&self) -> bool;

    /// Tells the user what will be done.
    fn announce(&mut self, line: &str);
    /// Adds `core` for the target to the host's toolchain.
    ///
    /// # Errors
    ///
    /// When rustup fails.
    fn add_core(&mut self) -> Result<(), String>;
    /// Brings apt's lists up to date.
    ///
    /// # Errors
    ///
    /// When apt fails.
    fn update_lists(&mut self) -> Result<(), String>;
    /// What installing `packages` would download.
    ///
    /// # Errors
    ///
    /// When apt does not know one of them.
    fn download(&mut self, packages: &[&str]) -> Result<Download, String>;
    /// Installs `packages`.
    ///
    /// # Errors
    ///
    /// When apt fails.
    fn install(&mut self, packages: &[&str]) -> Result<(), String>;
}

/// What was got. Having one means that all of it is installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ready {
    /// The emulator's program.
    pub emulator: PathBuf,
    /// How the kernel is built; none when it need not be.
    pub toolchain: Option<Toolchain>,
}

/// Why something that is missing was not installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// `VMSTACK_NO_INSTALL=1` is set.
    Forbidden,
    /// There is no apt-get.
    NoApt,
    /// This process is not root, and sudo asks for a password.
    NoPrivilege,
    /// It was tried, and failed with these words.
    Failed(String),
}

/// What is missing and was not installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The Debian packages that would bring it.
    pub missing: Vec<&'static str>,
    /// Why they were not installed.
    pub obstacle: Obstacle,
    /// Whether the command to install them needs sudo.
    pub sudo: bool,
}

impl Refusal {
    /// The refusal that [`provision`] will end with, as far as that can be seen before anything is tried.
    #[must_use]
    pub fn foreseen(machine: &dyn Machine, build: bool) -> Option<Self> {
        let plan = Plan::of(machine, build);
        plan.obstacle.map(|obstacle| refusal(machine, &plan.packages, obstacle))
    }

    /// The exact command that installs what is missing.
    #[must_use]
    pub fn command(&self) -> String {
        let sudo = if self.sudo { "sudo " } else { "" };
        format!("{sudo}apt-get install -y --no-install-recommends {}", self.missing.join(" "))
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (missing, command) = (self.missing.join(" "), self.command());
        match &self.obstacle {
            Obstacle::Forbidden => {
                write!(f, "{missing} missing, and VMSTACK_NO_INSTALL=1 forbids installing; install by: {command}")
            }
            Obstacle::NoApt => write!(f, "{missing} missing, and there is no apt-get here; on Debian: {command}"),
            Obstacle::NoPrivilege => {
                write!(f, "{missing} missing, and installing needs root or password-less sudo; install by: {command}")
            }
            Obstacle::Failed(why) => {
                write!(f, "{missing} missing, and installing failed ({why}); install by: {command}")
            }
        }
    }
}

/// What would be done to a machine, before any of it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Whether rustup is asked for `core` first; Debian's set is what is left when it fails.
    pub ask_rustup: bool,
    /// The packages that are missing, apart from those that rustup may save.
    pub packages: Vec<&'static str>,
    /// Why they will not be installed, when they will not.
    pub obstacle: Option<Obstacle>,
}

impl Plan {
    /// Plans for a boot on `machine`; `build` says whether the kernel has to be built.
    #[must_use]
    pub fn of(machine: &dyn Machine, build: bool) -> Self {
        let mut packages = Vec::new();
        if machine.emulator().is_none() {
            packages.push(EMULATOR_PACKAGE);
        }
        let ask_rustup = build && {
            let missing = missing_for_core(machine);
            let ask = missing.len() > 1 && machine.has_rustup() && machine.may_install();
            packages.extend(if ask { Vec::new() } else { missing });
            ask
        };
        let obstacle = if packages.is_empty() { None } else { obstacle(machine) };
        Self { ask_rustup, packages, obstacle }
    }
}

/// The packages that are missing for `core` and its linker, if rustup is not asked.
fn missing_for_core(machine: &dyn Machine) -> Vec<&'static str> {
    let debian: Vec<_> = DEBIAN.into_iter().filter(|package| !machine.has_package(package)).collect();
    match (machine.has_core(), machine.linker()) {
        (true, Some(_)) => Vec::new(),
        (true, None) => vec!["lld"],
        (false, _) => debian,
    }
}

fn obstacle(machine: &dyn Machine) -> Option<Obstacle> {
    if !machine.may_install() {
        return Some(Obstacle::Forbidden);
    }
    if !machine.has_apt() {
        return Some(Obstacle::NoApt);
    }
    (machine.privilege() == Privilege::Absent).then_some(Obstacle::NoPrivilege)
}

/// Gets what a boot needs; `build` says whether the kernel has to be built.
///
/// # Errors
///
/// A [`Refusal`] when something is missing that cannot or may not be installed.
pub fn provision(machine: &mut dyn Machine, build: bool) -> Result<Ready, Refusal> {
    let mut plan = Plan::of(machine, build);
    if plan.ask_rustup {
        machine.announce(&format!("adding Rust's core library for {TARGET} with rustup"));
        if let Err(why) = machine.add_core() {
            machine.announce(&format!("rustup could not ({why}); taking Debian's packages instead"));
        }
        plan.packages.extend(missing_for_core(machine));
        plan.obstacle = obstacle(machine);
    }
    if !plan.packages.is_empty() {
        let refuse = |obstacle| refusal(machine, &plan.packages, obstacle);
        if let Some(obstacle) = plan.obstacle.clone() {
            return Err(refuse(obstacle));
        }
        install(machine, &plan.packages).map_err(|why| refusal(machine, &plan.packages, Obstacle::Failed(why)))?;
    }
    ready(machine, build)
}

fn install(machine: &mut dyn Machine, packages: &[&str]) -> Result<(), String> {
    if machine.lists_are_old() {
        machine.announce("bringing apt's lists of packages up to date");
        machine.update_lists()?;
    }
    let download = machine.download(packages)?;
    machine.announce(&format!("installing with apt-get {download}"));
    machine.install(packages)
}

/// What there is after all was done; a package that did not bring what it should is a refusal too.
fn ready(machine: &dyn Machine, build: bool) -> Result<Ready, Refusal> {
    let unfound = |package| {
        let why = "it is installed, but not found on the search path".to_owned();
        refusal(machine, &[package], Obstacle::Failed(why))
    };
    let emulator = machine.emulator().ok_or_else(|| unfound(EMULATOR_PACKAGE))?;
    let toolchain = match (build, machine.has_core()) {
        (false, _) => None,
        (true, true) => machine.linker().map(|linker| Toolchain { core: Core::Precompiled, linker }),
        (true, false) => Some(Toolchain { core: Core::Debian, linker: Linker::System }),
    };
    if build && toolchain.is_none() {
        return Err(unfound("lld"));
    }
    Ok(Ready { emulator, toolchain })
}

fn refusal(machine: &dyn Machine, missing: &[&'static str], obstacle: Obstacle) -> Refusal {
    Refusal { missing: missing.to_vec(), obstacle, sudo: machine.privilege() != Privilege::Root }
}

#[cfg(test)]
mod tests;
