//! The suite `scarcity`: what happens when there is no more.
//!
//! In memory of which every other page is taken, so that nothing contiguous is left, processes are started until `fork` fails: with mapped
//! stacks that is when memory is out, with direct ones long before. Then a fork bomb under a limit of tasks, and one under the limit of
//! a small memory: whoever is refused gets the error that Linux gives, the first process goes on, and all of it comes back.

use super::Setting;
use super::crowd::{CPUS, Seen, Trial, free, verdict};
use crate::checks::Check;
use crate::emulator::scratch;
use crate::failure::Failure;
use crate::report::show_rows;
use crate::screen::Screen;

/// More processes than fit.
const PROCESSES: &str = "1000000";
/// Tasks that the bomb may be.
const TASKS: &str = "200";
/// The machine's memory, in MiB; and a small one.
const MEMORY: u32 = 256;
const SMALL: u32 = 96;

/// Runs the suite.
pub(super) fn run(setting: &Setting<'_>, screen: &mut Screen) -> Result<Vec<Check>, Failure> {
    let folder = scratch()?;
    let archive = setting.boots.write_archive(folder.path())?;
    screen.heading("Scarcity: fragmented memory, and fork bombs");
    let mut checks = Vec::new();
    for (name, stacks) in [("scarcity.mapped", "virtual"), ("scarcity.direct", "direct")] {
        let words = [("stacks", stacks)];
        let program = ["/bin/crowd", "processes", PROCESSES, "--fragmented"];
        let seen = Trial { name, words: &words, program: &program, memory: MEMORY, cpus: CPUS }
            .run(setting, &archive, screen)?;
        checks.extend(fragmented(&seen, stacks == "virtual"));
    }
    let mapped = [("stacks", "virtual")];
    let limited = ["/bin/bomb", "--tasks", TASKS];
    let bombs = [("scarcity.bomb_tasks", limited.as_slice(), MEMORY), ("scarcity.bomb_memory", &limited[..1], SMALL)];
    for (name, program, memory) in bombs {
        let seen = Trial { name, words: &mapped, program, memory, cpus: CPUS }.run(setting, &archive, screen)?;
        checks.extend([seen.bomb(), seen.balance()]);
    }
    show_rows(screen, &checks);
    Ok(checks)
}

/// Tasks alive when `fork` first failed, what was still free, and contiguous allocations on the way: with mapped stacks none.
fn fragmented(seen: &Seen, mapped: bool) -> [Check; 4] {
    let free = seen.check("free_mib", |facts| {
        let free = free(facts, "full")? / 1024;
        Ok(verdict(true, format!("{free} MiB were free when fork failed")).with_figure(free, "MiB"))
    });
    let contiguous = seen.check("contiguous", |facts| {
        let [asked, got] = facts.numbers("crowd.contiguous")?;
        let detail = format!("{asked} times several frames side by side were asked for, {got} times there were any");
        Ok(verdict(!mapped || asked == 0, detail).with_figure(asked, "allocations"))
    });
    // Where stacks are contiguous there may be none at all: that is the point.
    [seen.alive("processes", u64::from(mapped)), free, contiguous, seen.balance()]
}

#[cfg(test)]
mod tests {
    use super::fragmented;
    use crate::bench::crowd::Seen;
    use crate::checks::{Check, Verdict};
    use crate::console::Transcript;
    use crate::outcome::Outcome;

    const LOG: &str = "\
fact crowd.memory before 100000 100
fact crowd.memory full 2048 16100
fact crowd.alive processes 1000
fact crowd.refused processes 12 1
fact crowd.memory after 100000 100
fact balance.frames 500 500
fact balance.heap 64 64 0
fact balance.tasks 2 2
fact balance.slots 0
fact balance.processes 0 0
fact crowd.contiguous 0 0
exit 0
";

    fn seen(log: &str) -> Seen {
        Seen::of("s", Outcome::Orderly, Transcript::of(log))
    }

    fn verdicts(checks: &[Check]) -> Vec<(&str, Verdict)> {
        checks.iter().map(|check| (check.name.as_str(), check.outcome)).collect()
    }

    #[test]
    fn mapped_stacks_pass_when_nothing_contiguous_was_asked_for() {
        let good = fragmented(&seen(LOG), true);
        let names = ["s.alive", "s.free_mib", "s.contiguous", "s.balance"];
        assert_eq!(verdicts(&good), names.map(|name| (name, Verdict::Pass)));
        assert_eq!((good[0].figure.clone(), good[1].figure.clone()), (Some(1000.into()), Some(2.into())));
        let asked = LOG.replace("contiguous 0 0", "contiguous 5 0");
        assert_eq!(fragmented(&seen(&asked), true)[2].outcome, Verdict::Fail);
        assert_eq!(fragmented(&seen(&asked), false)[2].outcome, Verdict::Pass);
    }

    #[test]
    fn what_does_not_come_back_or_is_refused_with_another_error_falls_short() {
        for (from, to) in [
            ("frames 500 500", "frames 500 499"),
            ("heap 64 64 0", "heap 64 65 0"),
            ("heap 64 64 0", "heap 64 64 8"),
            ("tasks 2 2", "tasks 2 3"),
            ("slots 0", "slots 1"),
            ("processes 0 0", "processes 0 1"),
        ] {
            assert_eq!(seen(&LOG.replace(from, to)).balance().outcome, Verdict::Fail, "{to}");
        }
        assert_eq!(seen(&LOG.replace("processes 12 1", "processes 14 1")).alive("processes", 1).outcome, Verdict::Fail);
        let badly = seen(&LOG.replace("exit 0", "exit 1")).balance();
        assert!(badly.outcome == Verdict::Fail && badly.detail.contains("exit 1"));
    }

    #[test]
    fn a_bomb_passes_when_a_fork_works_after_it() {
        let log = "fact bomb.alive 199\nfact bomb.refused 11 199\nfact bomb.status 0\nfact bomb.after 0\nexit 0\n";
        assert_eq!(seen(log).bomb().outcome, Verdict::Pass);
        assert_eq!(seen(&log.replace("after 0", "after 9")).bomb().outcome, Verdict::Fail);
        assert_eq!(seen(&log.replace("refused 11", "refused 38")).bomb().outcome, Verdict::Fail);
    }
}
