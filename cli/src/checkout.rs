//! Where the checkout lies, and where in it the command keeps what it makes.
//!
//! Everything goes under the root's `target/`, which `cargo clean` empties:
//!
//! ```text
//! target/guest/kernel/     the kernel's build
//! target/guest/programs/   the user programs' build
//! target/guest/cache/      downloads, and what the last KVM probe found
//! ```

use std::path::{Path, PathBuf};

use crate::failure::Failure;

/// The root of a checkout. Having one means that its `cli/` and `Cargo.toml` were there.
#[derive(Clone, Debug)]
pub struct Checkout(PathBuf);

impl Checkout {
    /// Finds the checkout that this binary was built from; else the one around the current directory.
    ///
    /// # Errors
    ///
    /// When there is neither: the command builds the kernel from source and cannot work without.
    pub fn find() -> Result<Self, Failure> {
        let built_from = Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_path_buf);
        let current = std::env::current_dir().unwrap_or_default();
        built_from
            .into_iter()
            .chain(current.ancestors().map(Path::to_path_buf))
            .find(|root| is_root(root))
            .map(Self)
            .ok_or_else(|| {
                Failure::cannot("no checkout of vmstack here; run it with `cargo run --release` in its root")
            })
    }

    /// The source folder `name` of the root.
    #[must_use]
    pub fn folder(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The cargo target directory for the guest workspace `name`.
    #[must_use]
    pub fn target(&self, name: &str) -> PathBuf {
        self.0.join("target/guest").join(name)
    }

    /// The folder for downloads and remembered results, made when absent.
    ///
    /// # Errors
    ///
    /// When it cannot be made.
    pub fn cache(&self) -> Result<PathBuf, Failure> {
        let folder = self.target("cache");
        std::fs::create_dir_all(&folder).map_err(|error| {
            Failure::cannot(format!("{} cannot be made: {error}; make target/ writable", folder.display()))
        })?;
        Ok(folder)
    }
}

fn is_root(folder: &Path) -> bool {
    folder.join("cli/Cargo.toml").is_file() && folder.join("Cargo.toml").is_file()
}
