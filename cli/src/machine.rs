//! This machine, as provisioning sees it and acts on it.
//!
//! The only place that asks the real system; `provision` decides. Announcements go to standard error, so that what is
//! written to standard output is the same whether or not something had to be installed.

use std::path::PathBuf;
use std::process::Command;

use crate::apt::{self, Download, Privilege};
use crate::emulator;
use crate::interrupt::Interrupts;
use crate::leash;
use crate::progress::Progress;
use crate::provision::Machine;
use crate::toolchain::{self, Linker, TARGET};

/// The emulator's program, as Debian's package names it.
pub const EMULATOR: &str = "qemu-system-x86_64";

/// This machine.
#[derive(Debug)]
pub struct ThisMachine {
    interrupts: Interrupts,
}

impl ThisMachine {
    /// This machine; waits for `interrupts` where a child can be stopped without harm.
    #[must_use]
    pub fn new(interrupts: &Interrupts) -> Self {
        Self { interrupts: interrupts.clone() }
    }
}

impl Machine for ThisMachine {
    fn emulator(&self) -> Option<PathBuf> {
        emulator::named_by_environment().or_else(|| toolchain::find(EMULATOR))
    }

    fn has_core(&self) -> bool {
        toolchain::has_precompiled_core()
    }

    fn linker(&self) -> Option<Linker> {
        toolchain::linker()
    }

    fn has_rustup(&self) -> bool {
        toolchain::find("rustup").is_some()
    }

    fn has_apt(&self) -> bool {
        toolchain::find("apt-get").is_some()
    }

    fn has_package(&self, package: &str) -> bool {
        apt::is_installed(package)
    }

    fn privilege(&self) -> Privilege {
        apt::privilege()
    }

    fn may_install(&self) -> bool {
        std::env::var_os("VMSTACK_NO_INSTALL").is_none_or(|value| value.is_empty() || value == "0")
    }

    fn lists_are_old(&self) -> bool {
        apt::lists_are_old()
    }

    fn announce(&mut self, line: &str) {
        eprintln!("vmstack: {line}");
    }

    fn add_core(&mut self) -> Result<(), String> {
        let _progress = Progress::start("rustup target add");
        let mut command = Command::new("rustup");
        command.args(["target", "add", TARGET]);
        let finished = leash::run(&mut command, &self.interrupts, &mut |_| {}).map_err(|error| error.to_string())?;
        let last = finished.complaint.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no reason given");
        if finished.success { Ok(()) } else { Err(last.trim().to_owned()) }
    }

    fn update_lists(&mut self) -> Result<(), String> {
        let _progress = Progress::start("apt-get update");
        apt::apt_get(self.privilege(), &["update"], &self.interrupts).map(drop)
    }

    fn download(&mut self, packages: &[&str]) -> Result<Download, String> {
        apt::download(packages)
    }

    fn install(&mut self, packages: &[&str]) -> Result<(), String> {
        let _progress = Progress::start("apt-get install");
        let install = ["install", "-y", "-q", "--no-install-recommends"];
        // Not to be interrupted: see `apt_get`.
        apt::apt_get(self.privilege(), &[&install[..], packages].concat(), &Interrupts::none()).map(drop)
    }
}
