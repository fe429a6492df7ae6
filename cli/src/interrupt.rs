//! Signals that ask this process to end, as a flag that every wait looks at.
//!
//! SIGINT, SIGTERM and SIGHUP only set a word. The waits of `leash` see it within [`GLANCE`], and the error then travels
//! up through the owners of the emulator and of the temporary files, which clean up as on any other error. There is
//! one path out, and it is the tested one.

use core::sync::atomic::{AtomicUsize, Ordering};
use core::time::Duration;
use std::io;
use std::sync::Arc;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::failure::Failure;

/// How long a wait may last before it looks for a signal again.
pub const GLANCE: Duration = Duration::from_millis(50);

/// The last signal that asked this process to end; zero while none has.
#[derive(Clone, Debug, Default)]
pub struct Interrupts(Arc<AtomicUsize>);

impl Interrupts {
    /// A flag that no signal sets, for a caller that handles signals itself.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Takes over the three signals for this process.
    ///
    /// # Errors
    ///
    /// When the system refuses a handler.
    pub fn watch() -> io::Result<Self> {
        let flag = Self::default();
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::flag::register_usize(signal, Arc::clone(&flag.0), signal.unsigned_abs() as usize)?;
        }
        Ok(flag)
    }

    /// Asks for the end as the signal would; for tests.
    pub fn raise(&self, signal: i32) {
        self.0.store(signal.unsigned_abs() as usize, Ordering::Relaxed);
    }

    /// Goes on, or fails when a signal has come.
    ///
    /// # Errors
    ///
    /// [`Failure::Interrupted`] from the first signal on.
    pub fn check(&self) -> Result<(), Failure> {
        match self.0.load(Ordering::Relaxed) {
            0 => Ok(()),
            signal => Err(Failure::Interrupted(i32::try_from(signal).unwrap_or(SIGTERM))),
        }
    }
}
