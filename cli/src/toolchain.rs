//! The compiler for the bare-metal target, and cargo's command line for it.
//!
//! A kernel needs `core` and `alloc` for a target without an operating system. They come precompiled with the toolchain,
//! or are added to it by rustup, or are built from Debian's source package by Debian's compiler, which needs
//! none of the Rust project's servers. The three ways end in two kinds of build: with precompiled `core`, or building it.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The kernel's target.
pub const TARGET: &str = "x86_64-unknown-none";
/// The Debian packages of the way that builds `core`.
pub const DEBIAN: [&str; 4] = ["rustc-web", "cargo-web", "rust-web-src", "lld"];
/// The linker of Debian's package `lld`.
pub const LLD: &str = "ld.lld";
/// Names the linker for the target and leaves the flags to the kernel's own configuration, which `RUSTFLAGS` would replace.
const LINKER_VARIABLE: &str = "CARGO_TARGET_X86_64_UNKNOWN_NONE_LINKER";

/// Where the kernel's `core` comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Core {
    /// The host's toolchain has it precompiled.
    Precompiled,
    /// Debian's compiler builds it from Debian's source.
    Debian,
}

/// What links the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Linker {
    /// The `rust-lld` that came with the toolchain.
    Bundled,
    /// The system's `ld.lld`.
    System,
}

/// How the kernel is built. Having one means that all of it is installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Toolchain {
    /// Where `core` comes from.
    pub core: Core,
    /// What links.
    pub linker: Linker,
}

impl Toolchain {
    /// The cargo command that builds the kernel, but for its folder and target directory.
    #[must_use]
    pub fn cargo(self) -> Command {
        let mut command = match self.core {
            Core::Precompiled => host_cargo(),
            Core::Debian => debian_cargo(),
        };
        command.args(["--target", TARGET]);
        if self.linker == Linker::System {
            command.env(LINKER_VARIABLE, LLD);
        }
        command
    }
}

/// `cargo build --release` with the host's toolchain, free of what this process's own build put into the environment.
#[must_use]
pub fn host_cargo() -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    clean(Command::new(cargo))
}

fn debian_cargo() -> Command {
    let mut command = clean(Command::new("/usr/bin/cargo"));
    command
        .env("RUSTC", "/usr/bin/rustc")
        .env("RUSTC_BOOTSTRAP", "1")
        .args(["-Zbuild-std=core,alloc,compiler_builtins", "-Zbuild-std-features=compiler-builtins-mem"]);
    command
}

fn clean(mut cargo: Command) -> Command {
    cargo.args(["build", "--release"]);
    // Flags and targets meant for the host's own build would be wrong for the guest's, and a library path that leads
    // into one toolchain is wrong for the other's compiler.
    for name in
        ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_RUSTFLAGS", "CARGO_BUILD_TARGET", "LD_LIBRARY_PATH"]
    {
        cargo.env_remove(name);
    }
    cargo
}

/// Whether the host's toolchain has `core` for the target.
#[must_use]
pub fn has_precompiled_core() -> bool {
    rustc(&["--print", "target-libdir", "--target", TARGET]).is_some_and(|folder| holds_core(Path::new(&folder)))
}

fn holds_core(folder: &Path) -> bool {
    let is_core = |name: &str| name.starts_with("libcore-") && name.ends_with(".rlib");
    std::fs::read_dir(folder)
        .is_ok_and(|entries| entries.flatten().any(|entry| entry.file_name().to_str().is_some_and(is_core)))
}

/// What can link for the host's toolchain; none when there is neither.
#[must_use]
pub fn linker() -> Option<Linker> {
    // The host's own library folder is `lib/rustlib/HOST/lib` of the toolchain; its tools are beside it.
    let bundled = rustc(&["--print", "target-libdir"])
        .is_some_and(|folder| Path::new(&folder).with_file_name("bin").join("rust-lld").is_file());
    if bundled { Some(Linker::Bundled) } else { find(LLD).map(|_| Linker::System) }
}

/// One line of what the host's compiler prints; none when it fails or is not there.
#[must_use]
pub fn rustc(arguments: &[&str]) -> Option<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    first_line(Command::new(rustc).args(arguments))
}

/// The first line of what `command` prints, when it succeeds.
#[must_use]
pub fn first_line(command: &mut Command) -> Option<String> {
    let output = command.stdin(std::process::Stdio::null()).output().ok().filter(|output| output.status.success())?;
    String::from_utf8_lossy(&output.stdout).lines().next().map(str::to_owned)
}

/// The program `name` on the search path.
#[must_use]
pub fn find(name: &str) -> Option<PathBuf> {
    let folders = std::env::var_os("PATH")?;
    std::env::split_paths(&folders).map(|folder| folder.join(name)).find(|path| is_program(path))
}

/// Whether `path` is a file that somebody may execute.
#[must_use]
pub fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::{Core, LINKER_VARIABLE, Linker, Toolchain, holds_core};
    use std::ffi::OsStr;

    fn words(toolchain: Toolchain) -> (String, Option<String>) {
        let command = toolchain.cargo();
        let arguments: Vec<_> = command.get_args().map(OsStr::to_string_lossy).collect();
        let linker = command.get_envs().find(|(name, _)| *name == LINKER_VARIABLE).and_then(|(_, value)| value);
        (arguments.join(" "), linker.map(|linker| linker.to_string_lossy().into_owned()))
    }

    #[test]
    fn precompiled_core_needs_no_unstable_flag() {
        let (arguments, linker) = words(Toolchain { core: Core::Precompiled, linker: Linker::Bundled });
        assert_eq!((arguments.as_str(), linker), ("build --release --target x86_64-unknown-none", None));
    }

    #[test]
    fn debian_builds_core_and_names_its_linker() {
        let (arguments, linker) = words(Toolchain { core: Core::Debian, linker: Linker::System });
        assert!(arguments.contains("-Zbuild-std=core,alloc,compiler_builtins"), "{arguments}");
        assert_eq!(linker.as_deref(), Some("ld.lld"));
    }

    #[test]
    fn a_folder_without_core_is_no_target() {
        let folder = tempfile::tempdir().expect("a folder");
        assert!(!holds_core(folder.path()) && !holds_core(&folder.path().join("absent")));
        std::fs::write(folder.path().join("libcore-12ab.rlib"), "").expect("written");
        assert!(holds_core(folder.path()));
    }
}
