//! Crashes of the hosted port, each in a process of its own.
//!
//! A crash that goes wrong takes its process with it, and that must not be the one that judges. So this program starts
//! itself again as a guest: `vmstack hosted-boot NAME` provokes one crash and prints facts as the kernel does, and its end
//! is judged as an emulator's is, by marker and status.

use core::time::Duration;
use std::io::Write;
use std::process::{Command, ExitCode, Stdio};

use super::catalogue::Crash;
use super::facts::{Evidence, Machine};
use super::findings;
use super::judge::Judged;
use super::plan;
use super::special::Seen;
use crate::args;
use crate::checks::Check;
use crate::console::Transcript;
use crate::failure::Failure;
use crate::interrupt::Interrupts;
use crate::leash::{Leash, Stream};
use crate::outcome::Outcome;
use crate::progress::Progress;

/// How long one may take when the user does not say.
const LIMIT: Duration = Duration::from_secs(300);
/// The status of an orderly end, as the emulator gives it ([`crate::outcome::STATUS_ORDERLY`]).
const ORDERLY: u8 = 33;

/// Provokes `crash` with all of its variants in a process of its own, and judges it: the finding, and what was printed.
pub(super) fn provoke(
    crash: &'static Crash,
    limit: Option<Duration>,
    interrupts: &Interrupts,
) -> Result<(Check, Transcript), Failure> {
    if let Err(why) = crash.hosted {
        return Ok((Check::skip(crash.name, format!("not hosted: {why}")), Transcript::default()));
    }
    let names = variants(crash.name);
    let (outcome, transcript, complaint) = boot(&names, limit.unwrap_or(LIMIT), interrupts)?;
    let check = findings::conclude(crash, judge(crash, &names, outcome, &transcript, &complaint));
    Ok((check, transcript))
}

/// The names by which the port provokes `name`: itself, and with a word after a colon.
pub(super) fn variants(name: &str) -> Vec<&'static str> {
    let is_of = |of: &&&str| of.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with(':'));
    vmstack_hosted::crash::catalogue().iter().filter(is_of).copied().collect()
}

/// All variants together: what each was, or what fell short in each.
pub(super) fn judge(
    crash: &Crash,
    names: &[&str],
    outcome: Outcome,
    transcript: &Transcript,
    complaint: &str,
) -> Judged {
    if outcome != Outcome::Orderly {
        return Judged::fell(format!("{outcome}: {}", complaint.lines().last().unwrap_or("it said nothing")));
    }
    let crashes = Evidence::of_boot(transcript, Machine::Hosted);
    let mut all = Judged::default();
    let mut said = Vec::new();
    for name in names {
        let Judged { shortfalls, seen } = plan::judge_one(name, &crash.parts[0].expect, &crashes, outcome);
        let variant = name.split_once(':').map_or_else(String::new, |(_, variant)| format!("{variant}: "));
        all.shortfalls.extend(shortfalls.into_iter().map(|what| format!("{variant}{what}")));
        all.seen.figure = Some(all.seen.figure.unwrap_or(0) + seen.figure.unwrap_or(0));
        said.push(format!("{variant}{}", seen.said));
    }
    Judged { seen: Seen { said: said.join("; "), ..all.seen }, ..all }
}

/// Starts this program again as the guest of these crashes, and hears it out.
fn boot(names: &[&str], limit: Duration, interrupts: &Interrupts) -> Result<(Outcome, Transcript, String), Failure> {
    let cannot =
        |error| Failure::cannot(format!("this program cannot be started again: {error}; is its file still there?"));
    let own = std::env::current_exe().map_err(cannot)?;
    let mut command = Command::new(own);
    command.arg("hosted-boot").args(names).stdin(Stdio::null());
    let leash = Leash::spawn(&mut command).map_err(cannot)?;
    let progress = Progress::start("provoking");
    let (mut transcript, mut complaint) = (Transcript::default(), Vec::new());
    let end = leash.attend(Some(limit), interrupts, &mut |at, stream, bytes| {
        match stream {
            Stream::Output => {
                transcript.hear(at, bytes);
                progress.note(bytes);
            }
            Stream::Complaint => complaint.extend_from_slice(bytes),
        }
        Ok(())
    })?;
    transcript.finish(Duration::ZERO);
    let outcome = Outcome::of(end, transcript.has_marker(plan::MARKER));
    Ok((outcome, transcript, String::from_utf8_lossy(&complaint).into_owned()))
}

/// Carries out `vmstack hosted-boot`: crashes, in this process.
pub(crate) fn guest(boot: &args::HostedBoot) -> Result<ExitCode, Failure> {
    let mut out = std::io::stdout().lock();
    for name in &boot.names {
        vmstack_hosted::crash::provoke(name, &mut out).map_err(|error| Failure::cannot(error.to_string()))?;
    }
    writeln!(out, "marker {}", plan::MARKER)
        .and_then(|()| out.flush())
        .map_err(|error| Failure::cannot(format!("the marker cannot be written: {error}")))?;
    Ok(ExitCode::from(ORDERLY))
}
