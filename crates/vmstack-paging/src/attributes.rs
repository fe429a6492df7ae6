//! What a mapping permits, in no architecture's words.
//!
//! Write and execute exclude each other by construction: [`Access`] has no value for both, so W^X is not a check that
//! can be forgotten but a sentence that cannot be said. Flags from outside (an ELF header, a system call) come in
//! through [`Access::from_flags`], which has an error for it.
//!
//! Every mapping is readable: two of the three architectures cannot say otherwise for the kernel, and nothing here
//! needs execute-only memory.
//!
//! Plain values, usable in any context.

use core::fmt;

/// What may be done with mapped memory. Never both write and execute.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Access {
    /// Read only.
    Read,
    /// Read and write.
    ReadWrite,
    /// Read and execute.
    ReadExecute,
}

/// Memory was asked for that is both writable and executable.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub struct WritableAndExecutable;

impl Access {
    /// The access that the two flags ask for.
    ///
    /// # Errors
    ///
    /// [`WritableAndExecutable`] if both are set.
    pub const fn from_flags(writable: bool, executable: bool) -> Result<Self, WritableAndExecutable> {
        match (writable, executable) {
            (false, false) => Ok(Self::Read),
            (true, false) => Ok(Self::ReadWrite),
            (false, true) => Ok(Self::ReadExecute),
            (true, true) => Err(WritableAndExecutable),
        }
    }

    /// Whether memory may be written.
    #[must_use]
    pub const fn is_writable(self) -> bool {
        matches!(self, Self::ReadWrite)
    }

    /// Whether instructions may be fetched.
    #[must_use]
    pub const fn is_executable(self) -> bool {
        matches!(self, Self::ReadExecute)
    }
}

/// The attributes of a leaf mapping.
///
/// Having `Attributes` means:
/// - the memory is readable, and never both writable and executable;
/// - it belongs to the kernel alone, or to the user, and then the kernel does not execute it (x86-64: with SMEP on).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Attributes {
    access: Access,
    user: bool,
    global: bool,
    uncached: bool,
}

impl Attributes {
    /// The kernel's own memory: not for the user, the same in every address space (global), cached.
    #[must_use]
    pub const fn kernel(access: Access) -> Self {
        Self { access, user: false, global: true, uncached: false }
    }

    /// A user's memory: of one address space (not global), cached.
    #[must_use]
    pub const fn user(access: Access) -> Self {
        Self { access, user: true, global: false, uncached: false }
    }

    /// The same, with another access.
    #[must_use]
    pub const fn with_access(self, access: Access) -> Self {
        Self { access, ..self }
    }

    /// The same, global (in every address space, kept over a change of address space) or not.
    #[must_use]
    pub const fn with_global(self, global: bool) -> Self {
        Self { global, ..self }
    }

    /// The same, uncached (for device registers) or not.
    #[must_use]
    pub const fn with_uncached(self, uncached: bool) -> Self {
        Self { uncached, ..self }
    }

    /// What may be done with the memory.
    #[must_use]
    pub const fn access(self) -> Access {
        self.access
    }

    /// Whether user code may use the memory.
    #[must_use]
    pub const fn is_user(self) -> bool {
        self.user
    }

    /// Whether a TLB may keep the translation over a change of address space.
    #[must_use]
    pub const fn is_global(self) -> bool {
        self.global
    }

    /// Whether the memory is uncached, as device registers need it.
    #[must_use]
    pub const fn is_uncached(self) -> bool {
        self.uncached
    }
}

impl fmt::Display for WritableAndExecutable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("memory cannot be both writable and executable: map it writable, then change its access")
    }
}

impl core::error::Error for WritableAndExecutable {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn write_and_execute_exclude_each_other() {
        assert_eq!(Access::from_flags(true, true), Err(WritableAndExecutable));
        for access in [Access::Read, Access::ReadWrite, Access::ReadExecute] {
            assert_eq!(Access::from_flags(access.is_writable(), access.is_executable()), Ok(access));
        }
    }

    #[test]
    fn a_change_of_one_attribute_leaves_the_others() {
        let device = Attributes::kernel(Access::ReadWrite).with_uncached(true);
        assert!(device.is_uncached() && device.is_global() && !device.is_user());
        let read_only = device.with_access(Access::Read).with_global(false);
        assert_eq!(read_only.access(), Access::Read);
        assert!(read_only.is_uncached() && !read_only.is_global());
    }
}
