//! `vmstack doctor`: what is installed, what is missing, and what a run would do about it.
//!
//! It changes nothing, but for one thing that a run would do as well: where the kernel is built and hardware
//! virtualisation has not been tried, it is tried now.

use core::fmt::Display;
use std::path::Path;
use std::process::{Command, ExitCode};

use crate::apt::Privilege;
use crate::borrowed::{self, Borrowed};
use crate::checkout::Checkout;
use crate::failure::Failure;
use crate::guest::Guest;
use crate::image;
use crate::interrupt::Interrupts;
use crate::kvm::{Kvm, Question};
use crate::machine::{EMULATOR, ThisMachine};
use crate::provision::{EMULATOR_PACKAGE, Machine, Plan, Refusal};
use crate::screen::{COLUMNS, Screen, Tone, wrap};
use crate::toolchain::{self, Core, DEBIAN, Linker, TARGET, Toolchain};

/// The width of the left column.
const LABEL: usize = 14;

/// Carries out `vmstack doctor`: exit status 1 when a run could not be had.
///
/// # Errors
///
/// When there is no checkout, or on a signal.
pub fn doctor(interrupts: &Interrupts) -> Result<ExitCode, Failure> {
    let checkout = Checkout::find()?;
    let machine = ThisMachine::new(interrupts);
    let plan = Plan::of(&machine, Guest::folder_given().is_none());
    let mut screen = Screen::standard(false);
    let emulator = machine.emulator();
    row(&mut screen, "emulator", emulator.is_some(), emulator_line(emulator.as_deref()));
    if let Some(emulator) = &emulator {
        let (kvm, line) = kvm(emulator, &checkout, interrupts)?;
        row(&mut screen, "KVM", kvm == Kvm::Works, line);
    }
    let core = core(&machine);
    row(&mut screen, "bare metal", core.is_some(), core_line(core));
    row(&mut screen, "host compiler", true, toolchain::rustc(&["--version"]).unwrap_or_else(|| "none".into()));
    for program in &borrowed::ALL {
        let (there, line) = borrowed_line(program, &checkout);
        row(&mut screen, program.path.rsplit('/').next().unwrap_or_default(), there, line);
    }
    let (there, line) = file_systems_line(image::tool().as_deref());
    row(&mut screen, image::TOOL, there, line);
    row(&mut screen, "installing", machine.may_install(), installing_line(&machine));
    let fine = plan.obstacle.is_none();
    row(&mut screen, "a run", fine, plan_line(&machine, plan));
    Ok(if fine { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn row(screen: &mut Screen, label: &str, good: bool, text: impl Display) {
    let tone = if good { Tone::Good } else { Tone::Bad };
    let label = screen.paint(tone, &format!("{label:<LABEL$}"));
    for (index, line) in wrap(&text.to_string(), COLUMNS - LABEL - 1).into_iter().enumerate() {
        let left = if index == 0 { label.clone() } else { " ".repeat(LABEL) };
        screen.line(&format!("{left} {line}"));
    }
}

fn emulator_line(emulator: Option<&Path>) -> String {
    let Some(path) = emulator else {
        return format!("{EMULATOR} is missing (Debian package {EMULATOR_PACKAGE})");
    };
    let version = toolchain::first_line(Command::new(path).arg("--version"));
    format!("{}: {}", path.display(), version.unwrap_or_else(|| "does not say its version".into()))
}

fn kvm(emulator: &Path, checkout: &Checkout, interrupts: &Interrupts) -> Result<(Kvm, String), Failure> {
    let question = Question::about(emulator, checkout)?;
    let kvm = match Guest::built_kernel(checkout) {
        Some(kernel) => question.settle(emulator, &kernel, interrupts)?,
        None => question.known(),
    };
    let line = match &kvm {
        Kvm::Broken(_) => format!("{kvm}; remove {} to try again", question.kept().display()),
        _ => kvm.to_string(),
    };
    Ok((kvm, line))
}

/// How the kernel would be built with what is there.
fn core(machine: &dyn Machine) -> Option<Toolchain> {
    if machine.has_core() {
        return machine.linker().map(|linker| Toolchain { core: Core::Precompiled, linker });
    }
    let whole = DEBIAN.iter().all(|package| machine.has_package(package));
    whole.then_some(Toolchain { core: Core::Debian, linker: Linker::System })
}

fn core_line(toolchain: Option<Toolchain>) -> String {
    let linker = match toolchain.map(|toolchain| toolchain.linker) {
        Some(Linker::Bundled) => "the toolchain's rust-lld",
        _ => "ld.lld",
    };
    match toolchain.map(|toolchain| toolchain.core) {
        Some(Core::Precompiled) => format!("the toolchain has {TARGET}; {linker} links"),
        Some(Core::Debian) => {
            format!("Debian's compiler and its source of core ({}); {linker} links", DEBIAN.join(" "))
        }
        None => format!("neither {TARGET} in the toolchain, nor all of Debian's {}", DEBIAN.join(" ")),
    }
}

fn borrowed_line(program: &Borrowed, checkout: &Checkout) -> (bool, String) {
    let Borrowed { path, package } = program;
    if Path::new(path).exists() {
        return (true, (*path).into());
    }
    let cached = program.cached(checkout);
    if cached.exists() {
        return (true, format!("{}, fetched by an earlier run", cached.display()));
    }
    (false, format!("missing; `run --program {path}` would fetch Debian's {package}, without installing it"))
}

/// What makes the disk of the story's part about storage.
fn file_systems_line(tool: Option<&Path>) -> (bool, String) {
    match tool {
        Some(path) => (true, path.display().to_string()),
        None => (
            false,
            format!("missing (Debian package {}); `run` would skip its part about storage", image::TOOL_PACKAGE),
        ),
    }
}

fn installing_line(machine: &dyn Machine) -> &'static str {
    match machine.privilege() {
        _ if !machine.may_install() => "forbidden by VMSTACK_NO_INSTALL=1",
        _ if !machine.has_apt() => "there is no apt-get; packages have to be installed by hand",
        Privilege::Root => "as root, with apt-get",
        Privilege::Sudo => "with password-less sudo and apt-get",
        Privilege::Absent => "not possible: this user is not root, and sudo asks for a password",
    }
}

fn plan_line(machine: &dyn Machine, plan: Plan) -> String {
    if let Some(obstacle) = plan.obstacle {
        let sudo = machine.privilege() != Privilege::Root;
        let refusal = Refusal { missing: plan.packages, obstacle, sudo };
        return format!("without --on would run the hosted story alone: {refusal}");
    }
    let rustup =
        plan.ask_rustup.then(|| format!("ask rustup for {TARGET}, and apt-get for Debian's set if that fails"));
    let apt = (!plan.packages.is_empty()).then(|| format!("install {} with apt-get", plan.packages.join(" ")));
    let steps: Vec<String> = [rustup, apt].into_iter().flatten().collect();
    if steps.is_empty() { "would build and boot at once".into() } else { format!("would {}", steps.join("; ")) }
}
