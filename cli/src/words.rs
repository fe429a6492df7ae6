//! The kernel's command line.
//!
//! Words are separated by spaces (`docs/console.md`, "Command line"). Arguments of a program may hold any byte, so they
//! travel as hexadecimal digits and need no quoting on either side.

use core::fmt::Write;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use crate::failure::Failure;

/// The longest command line that is passed, in bytes.
///
/// QEMU's loader for this kind of kernel (`pc-bios/optionrom/pvh_main.c`) copies it, with a zero, into 4,096 bytes, and
/// does not look whether it fits.
pub const LONGEST: usize = 4095;

/// A command line under construction; it begins with its mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Words(String);

impl Words {
    /// The command line of `mode`.
    #[must_use]
    pub fn mode(mode: &str) -> Self {
        Self(format!("mode={mode}"))
    }

    /// The mode that it begins with.
    #[must_use]
    pub fn mode_named(&self) -> &str {
        let mode = self.0.split(' ').next().unwrap_or_default();
        mode.strip_prefix("mode=").unwrap_or_default()
    }

    /// With the further word `name=value`.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.0.push_str(&format!(" {name}={value}"));
        self
    }

    /// With the further word `name=`, and the bytes of `value` in hexadecimal.
    #[must_use]
    pub fn with_hex(mut self, name: &str, value: &OsStr) -> Self {
        self.0.push_str(&format!(" {name}="));
        for byte in value.as_bytes() {
            // Writing to a String cannot fail.
            let _ = write!(self.0, "{byte:02x}");
        }
        self
    }

    /// The finished line.
    ///
    /// # Errors
    ///
    /// When it is longer than the kernel takes, which only a program's arguments can make it.
    pub fn line(&self) -> Result<&str, Failure> {
        if self.0.len() <= LONGEST {
            return Ok(&self.0);
        }
        Err(Failure::cannot(format!(
            "the program's arguments take {} bytes of the kernel's command line, which holds {LONGEST} \
             (two for each byte of an argument); pass fewer or shorter ones",
            self.0.len()
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::{LONGEST, Words};
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    #[test]
    fn words_are_separated_by_one_space_and_bytes_are_two_digits() {
        let words = Words::mode("program").with("stacks", "virtual").with_hex("argv", OsStr::from_bytes(b"/a \xff\n"));
        assert_eq!(words.line().expect("short"), "mode=program stacks=virtual argv=2f6120ff0a");
    }

    #[test]
    fn an_empty_argument_is_an_empty_word() {
        assert_eq!(
            Words::mode("program").with_hex("argv", OsStr::new("")).line().expect("short"),
            "mode=program argv="
        );
    }

    #[test]
    fn a_line_that_does_not_fit_is_refused_with_its_length() {
        let base = Words::mode("m").0.len() + " argv=".len();
        let fits = "x".repeat((LONGEST - base) / 2);
        assert!(Words::mode("m").with_hex("argv", OsStr::new(&fits)).line().is_ok());
        let error = Words::mode("m").with_hex("argv", OsStr::new(&format!("{fits}xx"))).line().expect_err("long");
        assert!(error.to_string().contains("4095"));
    }
}
