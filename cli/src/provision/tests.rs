//! Decisions about made-up machines: every way to get what a boot needs, and every obstacle.

use super::{Machine, Obstacle, Plan, Ready, Refusal, provision};
use crate::apt::{Download, Package, Privilege};
use crate::toolchain::{Core, DEBIAN, Linker, Toolchain};
use std::path::PathBuf;

/// A machine that remembers what was done to it.
struct Fake {
    emulator: bool,
    core: bool,
    linker: Option<Linker>,
    rustup: Option<Result<(), String>>,
    apt: Option<Result<(), String>>,
    packages: Vec<&'static str>,
    privilege: Privilege,
    may_install: bool,
    old: bool,
    done: Vec<String>,
}

/// A Debian as root, with nothing but a rustup toolchain that has no servers.
fn bare() -> Fake {
    Fake {
        emulator: false,
        core: false,
        linker: Some(Linker::Bundled),
        rustup: Some(Err("no route".into())),
        apt: Some(Ok(())),
        packages: Vec::new(),
        privilege: Privilege::Root,
        may_install: true,
        old: false,
        done: Vec::new(),
    }
}

/// The same, with the emulator and Debian's set installed.
fn complete() -> Fake {
    Fake { emulator: true, packages: DEBIAN.to_vec(), ..bare() }
}

impl Machine for Fake {
    fn emulator(&self) -> Option<PathBuf> {
        (self.emulator || self.packages.contains(&"qemu-system-x86")).then(|| "/q".into())
    }
    fn has_core(&self) -> bool {
        self.core
    }
    fn linker(&self) -> Option<Linker> {
        self.linker.or_else(|| self.packages.contains(&"lld").then_some(Linker::System))
    }
    fn has_rustup(&self) -> bool {
        self.rustup.is_some()
    }
    fn has_apt(&self) -> bool {
        self.apt.is_some()
    }
    fn has_package(&self, package: &str) -> bool {
        self.packages.contains(&package)
    }
    fn privilege(&self) -> Privilege {
        self.privilege
    }
    fn may_install(&self) -> bool {
        self.may_install
    }
    fn lists_are_old(&self) -> bool {
        self.old
    }
    fn announce(&mut self, line: &str) {
        self.done.push(format!("say {line}"));
    }
    fn add_core(&mut self) -> Result<(), String> {
        self.done.push("rustup".into());
        let result = self.rustup.clone().expect("there is a rustup");
        self.core |= result.is_ok();
        result
    }
    fn update_lists(&mut self) -> Result<(), String> {
        self.done.push("update".into());
        Ok(())
    }
    fn download(&mut self, packages: &[&str]) -> Result<Download, String> {
        let asked = packages.iter().map(|&name| Package { name: name.into(), bytes: 2_000_000 }).collect();
        Ok(Download { asked, needed: Vec::new() })
    }
    fn install(&mut self, packages: &[&str]) -> Result<(), String> {
        self.done.push(format!("install {}", packages.join(" ")));
        let known = DEBIAN.into_iter().chain(["qemu-system-x86"]);
        let result = self.apt.clone().expect("there is an apt");
        self.packages.extend(known.filter(|name| result.is_ok() && packages.contains(name)));
        result
    }
}

fn ready(core: Core, linker: Linker) -> Result<Ready, Refusal> {
    Ok(Ready { emulator: "/q".into(), toolchain: Some(Toolchain { core, linker }) })
}

fn refused(machine: &mut Fake) -> Refusal {
    provision(machine, true).expect_err("something is missing")
}

#[test]
fn a_complete_machine_is_left_alone() {
    let mut machine = complete();
    assert_eq!(provision(&mut machine, true), ready(Core::Debian, Linker::System));
    assert!(machine.done.is_empty());
}

#[test]
fn precompiled_core_is_preferred_to_building_it() {
    let mut machine = Fake { core: true, ..complete() };
    assert_eq!(provision(&mut machine, true), ready(Core::Precompiled, Linker::Bundled));
    assert!(machine.done.is_empty());
}

#[test]
fn rustup_is_asked_before_apt() {
    let mut machine = Fake { emulator: true, rustup: Some(Ok(())), ..bare() };
    assert_eq!(provision(&mut machine, true), ready(Core::Precompiled, Linker::Bundled));
    assert_eq!(machine.done.last().map(String::as_str), Some("rustup"));
}

#[test]
fn when_rustup_fails_one_line_names_packages_and_sizes_and_apt_installs_all() {
    let mut machine = bare();
    assert_eq!(provision(&mut machine, true), ready(Core::Debian, Linker::System));
    let [.., said, installed] = machine.done.as_slice() else { panic!("{:?}", machine.done) };
    assert!(said.contains("qemu-system-x86 (2.0 MB), rustc-web (2.0 MB)") && said.contains("10.0 MB"), "{said}");
    assert_eq!(installed, "install qemu-system-x86 rustc-web cargo-web rust-web-src lld");
}

#[test]
fn without_rustup_apt_is_asked_at_once() {
    let mut machine = Fake { rustup: None, ..bare() };
    assert_eq!(provision(&mut machine, true), ready(Core::Debian, Linker::System));
    assert!(!machine.done.contains(&"rustup".to_owned()));
}

#[test]
fn lists_are_updated_only_when_they_are_old() {
    let mut machine = Fake { old: true, ..bare() };
    assert!(provision(&mut machine, true).is_ok() && machine.done.contains(&"update".to_owned()));
    let mut machine = bare();
    assert!(provision(&mut machine, true).is_ok() && !machine.done.contains(&"update".to_owned()));
}

#[test]
fn only_the_linker_is_installed_where_only_it_is_missing() {
    let mut machine = Fake { emulator: true, core: true, linker: None, ..bare() };
    assert_eq!(provision(&mut machine, true), ready(Core::Precompiled, Linker::System));
    assert_eq!(machine.done.last().map(String::as_str), Some("install lld"));
}

#[test]
fn a_guest_that_is_already_built_needs_the_emulator_alone() {
    let mut machine = Fake { emulator: true, ..bare() };
    let ready = provision(&mut machine, false).expect("ready");
    assert_eq!((ready.toolchain, machine.done.len()), (None, 0));
}

#[test]
fn no_install_is_obeyed_by_rustup_and_apt_alike() {
    let mut machine = Fake { may_install: false, rustup: Some(Ok(())), ..bare() };
    let refusal = refused(&mut machine);
    assert_eq!((refusal.obstacle.clone(), machine.done.len()), (Obstacle::Forbidden, 0));
    assert!(
        refusal.to_string().contains(
            "apt-get install -y --no-install-recommends qemu-system-x86 rustc-web cargo-web rust-web-src lld"
        )
    );
}

#[test]
fn without_rights_nothing_is_tried_and_the_command_has_sudo() {
    let mut machine = Fake { privilege: Privilege::Absent, packages: DEBIAN.to_vec(), ..bare() };
    let refusal = refused(&mut machine);
    assert_eq!((refusal.obstacle.clone(), machine.done.len()), (Obstacle::NoPrivilege, 0));
    assert_eq!(refusal.command(), "sudo apt-get install -y --no-install-recommends qemu-system-x86");
}

#[test]
fn sudo_without_a_password_will_do() {
    assert!(provision(&mut Fake { privilege: Privilege::Sudo, ..bare() }, true).is_ok());
}

#[test]
fn apt_failing_is_quoted() {
    let mut machine = Fake { apt: Some(Err("404  Not Found".into())), ..bare() };
    let refusal = refused(&mut machine);
    assert_eq!(refusal.obstacle, Obstacle::Failed("404  Not Found".into()));
    assert!(refusal.to_string().contains("(404  Not Found)"));
}

#[test]
fn where_there_is_no_apt_the_refusal_says_so() {
    let mut machine = Fake { apt: None, rustup: None, ..bare() };
    assert_eq!(refused(&mut machine).obstacle, Obstacle::NoApt);
}

#[test]
fn a_plan_does_nothing() {
    let machine = bare();
    let plan = Plan::of(&machine, true);
    assert_eq!(plan, Plan { ask_rustup: true, packages: vec!["qemu-system-x86"], obstacle: None });
}
