//! What the kernel needs from a machine, and nothing of what a machine looks like.
//!
//! One module an architecture, all with the same names; the contract is at the top of each. No other file of the kernel
//! names an architecture: it says `arch::` and means whichever this is.

#[cfg(target_arch = "x86_64")]
mod x86_64;
#[cfg(target_arch = "x86_64")]
pub(crate) use self::x86_64::*;

#[cfg(not(target_arch = "x86_64"))]
compile_error!("the reference kernel has no module for this architecture: see kernel/src/arch");
