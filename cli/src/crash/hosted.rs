//! Crashes of the hosted port, each in a process of its own.
//!
//! A crash that goes wrong takes its process with it, and that must not be the one that judges. So this program starts
//! itself again as a guest: `vmstack hosted-boot NAME` provokes one crash and prints facts as the kernel does, and its end
//! is judged as an emulator's is, by marker and status.

use core::time::Duration;
use std::process::{Command, ExitCode, Stdio};

use super::catalogue::Crash;
use super::findings;
use super::judge::Judged;
use super::plan::{self, Act, Plan};
use crate::args;
use crate::checks::Check;
use crate::console::Transcript;
use crate::failure::Failure;
use crate::interrupt::Interrupts;
use crate::leash::{Leash, Stream};
use crate::outcome::{Outcome, STATUS_ORDERLY};

/// How long one may take when the user does not say.
const LIMIT: Duration = Duration::from_secs(120);

/// Provokes `crash` in a process of its own, and judges it.
pub(super) fn provoke(
    crash: &'static Crash,
    limit: Option<Duration>,
    interrupts: &Interrupts,
) -> Result<Check, Failure> {
    if let Err(why) = crash.hosted {
        return Ok(Check::skip(crash.name, format!("not hosted: {why}")));
    }
    if !is_there(crash.name) {
        return Ok(Check::skip(crash.name, "the hosted port does not provoke it yet"));
    }
    let plan = Plan::hosted(crash);
    let (outcome, transcript) = boot(crash.name, limit.unwrap_or(LIMIT), interrupts)?;
    let judged = plan::settle(&plan, outcome, &transcript).judged;
    let parts: Vec<&(Act, Judged)> = judged.iter().collect();
    Ok(findings::check(crash, &parts))
}

/// Starts this program again as the guest of one crash, and hears it out.
fn boot(name: &str, limit: Duration, interrupts: &Interrupts) -> Result<(Outcome, Transcript), Failure> {
    let cannot =
        |error| Failure::cannot(format!("this program cannot be started again: {error}; is its file still there?"));
    let own = std::env::current_exe().map_err(cannot)?;
    let mut command = Command::new(own);
    command.args(["hosted-boot", name]).stdin(Stdio::null());
    let leash = Leash::spawn(&mut command).map_err(cannot)?;
    let mut transcript = Transcript::default();
    let end = leash.attend(Some(limit), interrupts, &mut |at, stream, bytes| {
        if stream == Stream::Output {
            transcript.hear(at, bytes);
        }
        Ok(())
    })?;
    transcript.finish(Duration::ZERO);
    Ok((Outcome::of(end, transcript.has_marker(plan::MARKER)), transcript))
}

/// Whether the port provokes the crash `name`.
fn is_there(_name: &str) -> bool {
    false
}

/// Carries out `vmstack hosted-boot`: one crash, in this process.
pub(crate) fn guest(boot: &args::HostedBoot) -> Result<ExitCode, Failure> {
    let name = &boot.name;
    if !is_there(name) {
        return Err(Failure::cannot(format!(
            "the hosted port does not provoke `{name}`; `vmstack crash --list` shows all"
        )));
    }
    println!("marker {}", plan::MARKER);
    Ok(ExitCode::from(STATUS_ORDERLY as u8))
}
