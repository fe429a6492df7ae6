//! The guest: the kernel, its programs, and the initial file system made of them.
//!
//! Both are cargo workspaces of their own, built into the root's `target/`. Cargo decides what is out of date; a build with
//! nothing to do takes a fraction of a second. It is quiet: a spinner on a terminal, and cargo's words only when it
//! fails. What was built is learned from cargo's own messages, not guessed from paths.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;

use crate::archive::Archive;
use crate::checkout::Checkout;
use crate::failure::Failure;
use crate::frames;
use crate::interrupt::Interrupts;
use crate::leash;
use crate::progress::Progress;
use crate::symbols;
use crate::toolchain::{self, Toolchain};

/// Where the archive holds the kernel's symbol table.
const SYMBOLS: &[u8] = b"boot/symbols";

/// A guest that is built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guest {
    /// The kernel's ELF file.
    pub kernel: PathBuf,
    /// The user programs.
    pub programs: Vec<PathBuf>,
}

/// The line of cargo's messages that names an executable.
#[derive(Deserialize)]
struct Message {
    executable: Option<PathBuf>,
}

impl Guest {
    /// Where `VMSTACK_GUEST` says a guest is, when it is set.
    #[must_use]
    pub fn folder_given() -> Option<PathBuf> {
        std::env::var_os("VMSTACK_GUEST").filter(|folder| !folder.is_empty()).map(PathBuf::from)
    }

    /// The guest that lies ready in `folder`: `kernel`, and its programs in `bin/`.
    ///
    /// # Errors
    ///
    /// When there is no kernel.
    pub fn ready_in(folder: &Path) -> Result<Self, Failure> {
        let kernel = folder.join("kernel");
        if !kernel.is_file() {
            let folder = folder.display();
            return Err(Failure::cannot(format!(
                "VMSTACK_GUEST={folder} holds no file `kernel`; build one or unset it"
            )));
        }
        let mut programs: Vec<PathBuf> =
            std::fs::read_dir(folder.join("bin")).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
        programs.sort();
        Ok(Self { kernel, programs })
    }

    /// Builds the kernel with `toolchain`, and the programs with the host's.
    ///
    /// # Errors
    ///
    /// When cargo fails (its words have been shown by then), when a frame of the kernel could jump over a guard, or on a signal.
    pub fn build(checkout: &Checkout, toolchain: Toolchain, interrupts: &Interrupts) -> Result<Self, Failure> {
        let mut kernel = build(checkout, "kernel", toolchain.cargo(), interrupts)?;
        let programs = build(checkout, "programs", toolchain::host_cargo(), interrupts)?;
        match (kernel.pop(), kernel.is_empty()) {
            (Some(kernel), true) => frames::gate(&kernel).map(|()| Self { kernel, programs }),
            _ => Err(Failure::cannot("kernel/ must build exactly one executable, and does not; repair its Cargo.toml")),
        }
    }

    /// The kernel that an earlier run built; none when there was none.
    #[must_use]
    pub fn built_kernel(checkout: &Checkout) -> Option<PathBuf> {
        let folder = checkout.target("kernel").join(toolchain::TARGET).join("release");
        let files = std::fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path());
        files.into_iter().find(|path| path.extension().is_none() && toolchain::is_program(path))
    }

    /// An archive that holds the kernel's symbols and nothing else yet.
    ///
    /// # Errors
    ///
    /// When the kernel's file cannot be read or has no symbols.
    pub fn archive(&self) -> Result<Archive, Failure> {
        let kernel = read(&self.kernel)?;
        let table = symbols::table(&kernel).map_err(|error| {
            let kernel = self.kernel.display();
            Failure::cannot(format!("the kernel {kernel} gives no symbol table: {error}; build it again, unstripped"))
        })?;
        let mut archive = Archive::new();
        archive.add(SYMBOLS, &table);
        Ok(archive)
    }

    /// An archive that holds the kernel's symbols and, under `/bin`, the programs.
    ///
    /// # Errors
    ///
    /// When one of the files cannot be read.
    pub fn archive_with_programs(&self) -> Result<Archive, Failure> {
        let mut archive = self.archive()?;
        self.add_programs(&mut archive)?;
        Ok(archive)
    }

    /// Adds the programs to an archive, under `/bin`.
    ///
    /// # Errors
    ///
    /// When one of the files cannot be read.
    pub fn add_programs(&self, archive: &mut Archive) -> Result<(), Failure> {
        for program in &self.programs {
            let name = program.file_name().unwrap_or_default();
            archive.add(&[b"bin/", name.as_encoded_bytes()].concat(), &read(program)?);
        }
        Ok(())
    }

    /// The file of the program `name`.
    ///
    /// # Errors
    ///
    /// When there is no such program, or its file cannot be read.
    pub fn program(&self, name: &str) -> Result<Vec<u8>, Failure> {
        let program = self.programs.iter().find(|path| path.file_name().is_some_and(|own| own == name));
        let missing = || Failure::cannot(format!("the guest has no program `{name}`; build it again"));
        program.ok_or_else(missing).and_then(|path| read(path))
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path)
        .map_err(|error| Failure::cannot(format!("{} cannot be read: {error}; build the guest again", path.display())))
}

/// Builds the workspace `name` and returns its executables.
fn build(
    checkout: &Checkout,
    name: &str,
    mut cargo: Command,
    interrupts: &Interrupts,
) -> Result<Vec<PathBuf>, Failure> {
    let folder = checkout.folder(name);
    if !folder.join("Cargo.toml").is_file() {
        return Err(Failure::cannot(format!("{} is missing; the checkout is not whole", folder.display())));
    }
    cargo.current_dir(&folder).arg("--message-format=json-render-diagnostics");
    cargo.arg("--target-dir").arg(checkout.target(name));
    let progress = Progress::start(&format!("building {name}/"));
    let finished = leash::run(&mut cargo, interrupts, &mut |bytes| progress.note(bytes))?;
    drop(progress);
    if finished.success {
        return Ok(executables(&finished.output));
    }
    eprint!("{}", finished.complaint);
    Err(Failure::cannot(format!("{name}/ does not build; cargo's words are above")))
}

/// The executables that cargo's messages name.
fn executables(messages: &str) -> Vec<PathBuf> {
    messages.lines().filter_map(|line| serde_json::from_str::<Message>(line).ok()?.executable).collect()
}

#[cfg(test)]
mod tests {
    use super::{Guest, executables};
    use std::path::{Path, PathBuf};

    #[test]
    fn executables_are_those_that_cargo_names() {
        let messages = r#"{"reason":"compiler-artifact","executable":null}
{"reason":"compiler-artifact","executable":"/t/kernel"}
not JSON
{"reason":"build-finished","success":true}"#;
        assert_eq!(executables(messages), [PathBuf::from("/t/kernel")]);
    }

    #[test]
    fn a_ready_guest_is_a_kernel_and_what_lies_in_bin() {
        let folder = tempfile::tempdir().expect("a folder");
        assert!(Guest::ready_in(folder.path()).is_err());
        std::fs::write(folder.path().join("kernel"), "k").expect("written");
        assert!(Guest::ready_in(folder.path()).expect("a kernel").programs.is_empty());
        std::fs::create_dir(folder.path().join("bin")).expect("made");
        std::fs::write(folder.path().join("bin/b"), "p").expect("written");
        let guest = Guest::ready_in(folder.path()).expect("a kernel");
        assert_eq!(guest.programs, [folder.path().join("bin/b")]);
        let error = guest.archive().expect_err("no ELF file").to_string();
        assert!(error.contains("no symbol table"), "{error}");
    }

    #[test]
    fn programs_lie_under_bin_beside_the_symbols() {
        let own = std::env::current_exe().expect("a path");
        let guest = Guest { kernel: own, programs: vec!["/bin/sh".into()] };
        let bytes = guest.archive_with_programs().expect("readable").finish();
        let holds = |name: &[u8]| bytes.windows(name.len()).any(|window| window == name);
        assert!(holds(b"boot/symbols\0") && holds(b"bin/sh\0"));
        assert!(Path::new("/bin/sh").exists());
    }
}
