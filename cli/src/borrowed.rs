//! Programs that nobody here wrote, for `--program`, where the host has none of them.
//!
//! | program | package | why |
//! | --- | --- | --- |
//! | `/bin/busybox` | `busybox-static` | a shell with loops, pipes and jobs, and its commands |
//! | `/usr/bin/gojq` | `gojq` | threads: Go's scheduler and its garbage collector, which preempts by signals |
//!
//! Both are static. Debian's packages are fetched, not installed (`package`).

use std::path::{Path, PathBuf};

use crate::checkout::Checkout;
use crate::failure::Failure;
use crate::interrupt::Interrupts;
use crate::package::Part;

/// A program, and where Debian has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Borrowed {
    /// Where a host would have it, and where the guest has it.
    pub path: &'static str,
    /// The package.
    pub package: &'static str,
}

/// All of them.
pub const ALL: [Borrowed; 2] =
    [Borrowed { path: "/bin/busybox", package: "busybox-static" }, Borrowed { path: "/usr/bin/gojq", package: "gojq" }];

impl Borrowed {
    /// What `program` names, if it is one of them and this host has no such file.
    #[must_use]
    pub fn wanted(program: &Path) -> Option<&'static Self> {
        ALL.iter().find(|borrowed| program == Path::new(borrowed.path) && !program.exists())
    }

    /// Where the fetched program lies, or would.
    #[must_use]
    pub fn cached(&self, checkout: &Checkout) -> PathBuf {
        self.part(&|why| Failure::cannot(why)).cached(checkout)
    }

    /// The fetched program; fetches it when it is not there yet.
    ///
    /// # Errors
    ///
    /// When fetching is forbidden or fails, or on a signal.
    pub fn fetch(&self, checkout: &Checkout, interrupts: &Interrupts) -> Result<PathBuf, Failure> {
        let missing = |why: &str| {
            Failure::cannot(format!(
                "{} is missing, and {why}; install it by: apt-get install {}, or name another program",
                self.path, self.package
            ))
        };
        self.part(&missing).fetch(checkout, interrupts)
    }

    fn part<'a>(&self, missing: &'a dyn Fn(&str) -> Failure) -> Part<'a> {
        Part { package: self.package, path: self.path.trim_start_matches('/'), missing }
    }
}

#[cfg(test)]
mod tests {
    use super::{ALL, Borrowed};
    use std::path::Path;

    #[test]
    fn only_a_program_of_the_list_that_the_host_has_not_is_wanted() {
        assert_eq!(Borrowed::wanted(Path::new("/bin/sh")), None);
        assert_eq!(Borrowed::wanted(Path::new("busybox")), None);
        for borrowed in &ALL {
            let there = Path::new(borrowed.path).exists();
            assert_eq!(Borrowed::wanted(Path::new(borrowed.path)).is_none(), there);
        }
    }
}
