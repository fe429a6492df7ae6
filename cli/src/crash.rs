//! `vmstack crash`: provokes crashes, and judges what came of them.
//!
//! The guest provokes and prints facts; every verdict is given here, from the console (`docs/console.md`, "Crashes").
//!
//! ```text
//!   names ─► choice ─► catalogue            what is asked for; refused here if it can be
//!                        │
//!     plan ─► one boot: transcript, outcome ─► facts ─► judge, special, sweep ─► one finding a name
//!       ▲          │                                                                   │
//!       └──────────┘ what shared a boot that died                                      ▼
//!                                                                              shown, and JSON
//! ```
//!
//! What can be refused at once is refused before anything is installed, built or booted.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::args::{self, Target};
use crate::boots::{Boots, Request, show_end};
use crate::checks::{Check, Verdict, all_hold};
use crate::emulator::{scratch, time_limit};
use crate::failure::Failure;
use crate::frames;
use crate::guest::Guest;
use crate::interrupt::Interrupts;
use crate::json::Sink;
use crate::machine::ThisMachine;
use crate::provision::{Refusal, provision};
use crate::report;
use crate::run::check_target;
use crate::screen::Screen;

mod catalogue;
mod choice;
mod dma;
mod facts;
mod findings;
pub(crate) mod hosted;
mod judge;
mod kept;
mod list;
mod locks;
mod plan;
mod reports;
mod special;
mod sweep;

use catalogue::Crash;
use choice::Choice;
use findings::Findings;

/// The memory of the machine, in MiB.
const MEMORY: u32 = 256;
/// What a finding is called when the kernel's is in the same list.
const HOSTED_PREFIX: &str = "hosted.";
/// The sweep's runs lie beside the findings.
const SWEEP_EXTENSION: &str = "sweep.json";

/// Carries out `vmstack crash`.
///
/// # Errors
///
/// When it could not be carried out.
pub fn crash(crash: &args::Crash, interrupts: &Interrupts) -> Result<ExitCode, Failure> {
    check_target(crash.on)?;
    let choice = Choice::of(crash)?;
    let limit = time_limit()?;
    let (sink, sweep) = (Sink::open(crash.json.as_deref())?, sweep_sink(crash, &choice)?);
    let mut screen = Screen::standard(sink.takes_standard_output());
    if crash.list {
        list::show(&choice.crashes, &mut screen);
        choice.absent.iter().for_each(|line| screen.line(line));
        return Ok(ExitCode::SUCCESS);
    }
    let request = Request { cpus: crash.cpus.unwrap_or(plan::CPUS), memory: MEMORY, limit, interrupts };
    let run = Run { crash, choice, request };
    let mut findings = Findings::default();
    let checks = run.run(&mut findings, &sink, &mut screen)?;
    sweep.write(&findings.runs)?;
    sink.write(&checks)?;
    Ok(ExitCode::from(u8::from(!all_hold(&checks))))
}

/// Where the runs of the sweep go: beside the findings, if they go to a file.
fn sweep_sink(crash: &args::Crash, choice: &Choice) -> Result<Sink, Failure> {
    let swept = choice.has_sweep() && crash.on != Some(Target::Hosted) && !crash.list;
    let file = crash.json.as_deref().filter(|path| swept && !is_stream(path));
    Sink::open(file.map(sweep_file).as_deref())
}

/// Whether nothing can lie beside `path`: standard output, a pipe, a device.
fn is_stream(path: &Path) -> bool {
    path == Path::new("-") || std::fs::metadata(path).is_ok_and(|there| !there.is_file())
}

fn sweep_file(path: &Path) -> PathBuf {
    path.with_extension(SWEEP_EXTENSION)
}

/// What was asked for, and how it is interrupted.
struct Run<'a> {
    crash: &'a args::Crash,
    choice: Choice,
    request: Request<'a>,
}

impl Run<'_> {
    /// Provokes what was chosen where it was asked for, and shows it.
    fn run(&self, findings: &mut Findings, sink: &Sink, screen: &mut Screen) -> Result<Vec<Check>, Failure> {
        if self.crash.on == Some(Target::Hosted) {
            let checks = self.provoke_hosted(findings, screen, "")?;
            report::sum(screen, &checks);
            findings.kept.iter().for_each(|line| announce(screen, sink, line));
            return Ok(checks);
        }
        let build = Guest::folder_given().is_none();
        let mut machine = ThisMachine::new(self.request.interrupts);
        let foreseen = Refusal::foreseen(&machine, build).filter(|_| self.crash.on.is_none());
        if let Some(refusal) = &foreseen {
            announce(screen, sink, &notice(refusal));
        }
        match foreseen.map_or_else(|| provision(&mut machine, build), Err) {
            Ok(ready) => {
                let boots = Boots::set_up(ready, self.request)?;
                let checks = self.provoke(&boots, findings, screen)?;
                report::sum(screen, &checks);
                findings.kept.iter().for_each(|line| announce(screen, sink, line));
                Ok(checks)
            }
            Err(refusal) if self.crash.on.is_some() => Err(Failure::cannot(refusal.to_string())),
            Err(refusal) => self.without_emulator(&refusal, findings, sink, screen),
        }
    }

    /// The hosted port alone, under names that say so; the notice is the last line, and was the first if it was foreseen.
    fn without_emulator(
        &self,
        refusal: &Refusal,
        findings: &mut Findings,
        sink: &Sink,
        screen: &mut Screen,
    ) -> Result<Vec<Check>, Failure> {
        let mut checks = self.provoke_hosted(findings, screen, HOSTED_PREFIX)?;
        let absent = |crash: &&Crash| Check::skip(crash.name, "no emulator could be had");
        checks.extend(self.choice.crashes.iter().map(absent));
        if self.choice.all {
            checks.extend(frames::NAMES.map(|name| Check::skip(name, "no kernel was built to be read")));
        }
        report::sum(screen, &checks);
        findings.kept.iter().for_each(|line| announce(screen, sink, line));
        announce(screen, sink, &notice(refusal));
        Ok(checks)
    }

    /// In the kernel: boot by boot.
    fn provoke(&self, boots: &Boots<'_>, findings: &mut Findings, screen: &mut Screen) -> Result<Vec<Check>, Failure> {
        let image = frames::Image::read(boots.kernel())?;
        let folder = scratch()?;
        let archive = boots.write_archive(folder.path())?;
        let (able, unable): (Vec<_>, Vec<_>) =
            self.choice.crashes.iter().copied().partition(|crash| !needs_canaries(crash) || image.has_canaries());
        let mut plans = plan::plan(&able, self.crash.cpus);
        let (mut booted, mut refused) = (false, None);
        while let Some(plan) = plans.pop_front() {
            screen.heading(&plan.title());
            let words = plan.words();
            let reading = plan.reading(words.line()?);
            let (outcome, transcript) = match boots.read(&archive, reading) {
                Ok(heard) => heard,
                Err(Failure::Cannot(line)) => {
                    findings.take(plan.fell(&line), image.symbols(), screen);
                    refused = Some(line);
                    continue;
                }
                Err(interrupted) => return Err(interrupted),
            };
            booted = true;
            let settled = plan::settle(&plan, outcome, &transcript);
            if settled.surprise {
                show_end(outcome, &transcript, screen);
            }
            if let Some((act, _)) = settled.judged.iter().find(|(_, judged)| !judged.holds()) {
                findings.kept.extend(kept::keep(self.crash.json.as_deref(), &act.word(), &transcript));
            }
            findings.take(settled.judged, image.symbols(), screen);
            plans.extend(settled.again);
        }
        if let Some(line) = refused.filter(|_| !booted) {
            return Err(Failure::Cannot(line));
        }
        unable.iter().for_each(|crash| findings.skip(crash, NO_CANARIES, screen));
        let mut checks = findings.in_order(&self.choice.crashes);
        if self.choice.all {
            let read = image.checks();
            findings::show_others(&read, screen);
            checks.extend(read);
        }
        Ok(checks)
    }

    /// In Linux processes, one for each crash.
    fn provoke_hosted(
        &self,
        findings: &mut Findings,
        screen: &mut Screen,
        prefix: &str,
    ) -> Result<Vec<Check>, Failure> {
        screen.heading("In Linux processes, one for each crash");
        let mut checks = Vec::new();
        for crash in &self.choice.crashes {
            let (check, console) = hosted::provoke(crash, self.request.limit, self.request.interrupts)?;
            if check.outcome == Verdict::Fail {
                findings.kept.extend(kept::keep(self.crash.json.as_deref(), crash.name, &console));
            }
            findings::show(&check, crash, screen);
            checks.push(Check { name: format!("{prefix}{}", check.name), ..check });
        }
        if self.choice.all && prefix.is_empty() {
            let skipped = frames::NAMES.map(|name| Check::skip(name, "it is read from the kernel's image"));
            checks.extend(skipped);
        }
        Ok(checks)
    }
}

/// The names of all crashes, in the order in which they are listed.
pub fn names() -> impl Iterator<Item = &'static str> {
    catalogue::all().map(|crash| crash.name)
}

const NO_CANARIES: &str =
    "no compiler that builds this kernel puts canaries into frames: stable Rust has no stack protector";

fn needs_canaries(crash: &Crash) -> bool {
    crash.parts.iter().any(|part| part.boot == catalogue::Boot::StackProtector)
}

/// The line that is the first and the last where no emulator can be had.
fn notice(refusal: &Refusal) -> String {
    format!("Only hosted crashes are provoked: {refusal}")
}

fn announce(screen: &mut Screen, sink: &Sink, notice: &str) {
    if sink.takes_standard_output() {
        eprintln!("{notice}");
    } else {
        screen.line(notice);
    }
}

#[cfg(test)]
mod tests;
