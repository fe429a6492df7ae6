//! Debian's package tools: what would be downloaded, how much, and how it is installed.
//!
//! Sizes come from apt itself (`--print-uris`), dependencies included, so that the announcement before an installation is
//! what will happen and not an estimate.

use core::fmt;
use core::time::Duration;
use std::path::Path;
use std::process::Command;
use std::time::SystemTime;

use crate::failure::Failure;
use crate::interrupt::Interrupts;
use crate::leash;
use crate::toolchain::first_line;

/// Lists of packages older than this name versions that the servers may have replaced.
const OLD: Duration = Duration::from_secs(14 * 24 * 60 * 60);
const LISTS: &str = "/var/lib/apt/lists";

/// With what rights this process can install packages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Privilege {
    /// It is root.
    Root,
    /// It may use sudo without a password.
    Sudo,
    /// Neither.
    Absent,
}

/// One file that apt would download.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    /// The package's name.
    pub name: String,
    /// Its size, in bytes.
    pub bytes: u64,
}

/// What apt would download for an installation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Download {
    /// The packages that were asked for.
    pub asked: Vec<Package>,
    /// What they need besides.
    pub needed: Vec<Package>,
}

impl Download {
    /// Reads what `apt-get --print-uris -qq` printed: `'URI' NAME_VERSION_ARCH.deb SIZE HASH` a line.
    #[must_use]
    pub fn parse(printed: &str, asked: &[&str]) -> Self {
        let packages = printed.lines().filter_map(|line| {
            let mut words = line.strip_prefix('\'')?.split_whitespace().skip(1);
            let name = words.next()?.split('_').next()?.to_owned();
            Some(Package { name, bytes: words.next()?.parse().ok()? })
        });
        let (asked, needed) = packages.partition(|package| asked.contains(&package.name.as_str()));
        Self { asked, needed }
    }

    fn bytes(&self) -> u64 {
        self.asked.iter().chain(&self.needed).map(|package| package.bytes).sum()
    }
}

impl fmt::Display for Download {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, package) in self.asked.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{} ({})", package.name, Megabytes(package.bytes))?;
        }
        if !self.needed.is_empty() {
            write!(f, " and what they need ({})", self.needed.len())?;
        }
        write!(f, ": {} to download", Megabytes(self.bytes()))
    }
}

struct Megabytes(u64);

impl fmt::Display for Megabytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tenths = self.0.div_ceil(100_000);
        write!(f, "{}.{} MB", tenths / 10, tenths % 10)
    }
}

/// The rights of this process. Asks sudo at most once, without letting it ask for a password.
#[must_use]
pub fn privilege() -> Privilege {
    if rustix::process::geteuid().is_root() {
        return Privilege::Root;
    }
    let sudo = Command::new("sudo").args(["-n", "true"]).stderr(std::process::Stdio::null()).status();
    if sudo.is_ok_and(|status| status.success()) { Privilege::Sudo } else { Privilege::Absent }
}

/// Whether the lists of packages are empty, or so old that they are likely wrong.
#[must_use]
pub fn lists_are_old() -> bool {
    let changed = |path: &Path| std::fs::metadata(path).and_then(|file| file.modified()).ok();
    let Ok(entries) = std::fs::read_dir(LISTS) else { return true };
    let lists: Vec<_> = entries.flatten().filter(|e| e.file_name().to_string_lossy().contains("_Packages")).collect();
    let newest = lists.iter().filter_map(|list| changed(&list.path())).chain(changed(Path::new(LISTS))).max();
    let age = newest.and_then(|newest| SystemTime::now().duration_since(newest).ok()).unwrap_or_default();
    lists.is_empty() || age > OLD
}

/// Whether the package is installed.
#[must_use]
pub fn is_installed(package: &str) -> bool {
    let mut query = Command::new("dpkg-query");
    query.args(["-W", "-f", "${db:Status-Status}\n", package]).stderr(std::process::Stdio::null());
    first_line(&mut query).is_some_and(|status| status == "installed")
}

/// What an installation of `packages` would download.
///
/// # Errors
///
/// Apt's own words, when it knows no such package.
pub fn download(packages: &[&str]) -> Result<Download, String> {
    let install = ["install", "--print-uris", "-qq", "-y", "--no-install-recommends"];
    let printed = apt_get(Privilege::Root, &[&install[..], packages].concat(), &Interrupts::none())?;
    Ok(Download::parse(&printed, packages))
}

/// The size of one package, in words.
///
/// # Errors
///
/// Apt's own words, when it knows no such package.
pub fn size(package: &str) -> Result<String, String> {
    let printed = apt_get(Privilege::Root, &["download", "--print-uris", "-qq", package], &Interrupts::none())?;
    Ok(Megabytes(Download::parse(&printed, &[package]).bytes()).to_string())
}

/// Runs `apt-get` with the rights given and returns what it printed.
///
/// An installation that has begun is never cut short by a signal: half-configured packages are worse than waiting.
///
/// # Errors
///
/// Apt's last words of complaint.
pub fn apt_get(privilege: Privilege, arguments: &[&str], interrupts: &Interrupts) -> Result<String, String> {
    let mut command = match privilege {
        Privilege::Sudo => Command::new("sudo"),
        _ => Command::new("env"),
    };
    if privilege == Privilege::Sudo {
        command.args(["-n", "env"]);
    }
    command.args(["DEBIAN_FRONTEND=noninteractive", "LC_ALL=C", "apt-get"]).args(arguments);
    match leash::run(&mut command, interrupts, &mut |_| {}) {
        Ok(finished) if finished.success => Ok(finished.output),
        Ok(finished) => Err(last_complaint(&finished.complaint)),
        Err(Failure::Cannot(line)) => Err(line),
        Err(interrupted @ Failure::Interrupted(_)) => Err(interrupted.to_string()),
    }
}

fn last_complaint(complaint: &str) -> String {
    let said = complaint.lines().rev().find(|line| line.starts_with("E:")).or_else(|| complaint.lines().last());
    said.unwrap_or("apt-get failed without a word").trim_start_matches("E:").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::{Download, last_complaint};

    const PRINTED: &str = "\
'http://server/pool/q/qemu-system-x86_7.2%2b.deb' qemu-system-x86_1%3a7.2+dfsg_amd64.deb 9281168 MD5Sum:aa
'http://server/pool/s/seabios_1.16.deb' seabios_1.16.2-1_all.deb many MD5Sum:bb
'http://server/pool/l/libfdt1_1.6.deb' libfdt1_1.6.1-4_amd64.deb 21048 MD5Sum:cc
";

    #[test]
    fn a_download_names_what_was_asked_and_adds_up_the_rest() {
        let download = Download::parse(PRINTED, &["qemu-system-x86"]);
        assert_eq!(download.to_string(), "qemu-system-x86 (9.3 MB) and what they need (1): 9.4 MB to download");
    }

    #[test]
    fn lines_that_are_no_files_are_passed_over() {
        assert_eq!(Download::parse("Reading lists...\n\n'x'\n", &[]), Download::default());
    }

    #[test]
    fn the_complaint_is_apts_own_error() {
        assert_eq!(last_complaint("W: slow\nE: Unable to locate package q\nnote\n"), "Unable to locate package q");
        assert_eq!(last_complaint(""), "apt-get failed without a word");
    }
}
