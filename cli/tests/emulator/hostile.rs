//! Programs that mean ill, and memory that runs out at the worst time: the kernel answers with an error, and all that it gave it gets back.
//!
//! What a run leaves behind is counted by the kernel, and the command fails where that does not agree: a status of 0 says that too.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use libtest_mimic::Failed;

use super::{expect, program, run, vmstack};

/// The facts of a run whose names begin with `start`: the rest of each.
fn facts(output: &Output, start: &str) -> Vec<Vec<String>> {
    let start = format!("fact {start}");
    let text = String::from_utf8_lossy(&output.stdout);
    let lines = text.lines().filter_map(|line| line.strip_prefix(&start));
    lines.map(|line| line.split_whitespace().map(str::to_owned).collect()).collect()
}

/// How long one of them may take, in seconds: where nothing else runs it is a few, but a machine that builds something meanwhile was seen to
/// take thirty times as long.
const TIME_LIMIT: &str = "600";

/// A run of one of these programs that ends well.
fn well(cpus: &str, flags: &[&str], name: &str, words: &[&str]) -> Result<Output, Failed> {
    let program = program(name);
    let mut command = vmstack(&["run", "--cpus", cpus]);
    let output =
        command.args(flags).args(["--program", &program]).args(words).env("VMSTACK_TIME_LIMIT", TIME_LIMIT).output()?;
    expect(output.status.code() == Some(0), &output)?;
    Ok(output)
}

pub(super) fn bad_pointers_are_bad_addresses() -> Result<(), Failed> {
    let output = well("2", &[], "hostile", &["pointers"])?;
    let calls = facts(&output, "hostile.calls").concat();
    expect(facts(&output, "hostile.odd").is_empty() && calls.first().is_some_and(|calls| calls.len() >= 4), &output)
}

pub(super) fn no_call_with_whatever_words_harms_the_kernel() -> Result<(), Failed> {
    for cpus in ["1", "2"] {
        for words in [["numbers"].as_slice(), &["random", "1", "10000"], &["threads", "2", "4000"]] {
            let output = well(cpus, &[], "hostile", words)?;
            expect(
                facts(&output, "hostile.answers 14").len() == 1 && !facts(&output, "hostile.children").is_empty(),
                &output,
            )?;
        }
    }
    Ok(())
}

/// What a call that is killed on its way leaves open is closed, and who is killed last takes its process with it.
pub(super) fn calls_are_killed_at_every_point_and_nothing_is_lost() -> Result<(), Failed> {
    for cpus in ["1", "2"] {
        let output = well(cpus, &[], "deep", &[])?;
        for call in ["dup", "dup2", "fcntl", "open", "write", "poll", "close", "exit"] {
            let words = facts(&output, &format!("deep.{call} ")).concat();
            let killed = words.get(1).and_then(|killed| killed.parse().ok());
            expect(killed.is_some_and(|killed: u32| killed > 300), &output)?;
        }
    }
    Ok(())
}

/// How many allocations each call must have at least, for them to be on its way at all.
const ALLOCATIONS: [(&str, u32); 12] = [
    ("clone", 2),
    // The stack as such, its frames, and the struct.
    ("clone_cold", 3),
    ("fork", 10),
    ("vfork", 5),
    ("share-files", 10),
    ("execve", 10),
    ("pipe", 2),
    ("touch", 1),
    ("mremap", 3),
    ("open", 1),
    // Each layer, and the list of them; what is open, and the buffers.
    ("layers", 20),
    ("dup", 1),
];

pub(super) fn every_allocation_fails_once_and_nothing_is_lost() -> Result<(), Failed> {
    for cpus in ["1", "2"] {
        let output = well(cpus, &[], "failing", &[])?;
        for (call, least) in ALLOCATIONS {
            let points = facts(&output, &format!("failing.{call} ")).concat();
            expect(
                points.first().and_then(|points| points.parse().ok()).is_some_and(|points: u32| points >= least),
                &output,
            )?;
        }
        // Memory or a number of threads is what there is no more of.
        let refused = facts(&output, "failing.refused ");
        expect(refused.iter().all(|words| matches!(words[1].as_str(), "11" | "12")), &output)?;
        // A thread that shares all of its memory, and a call that allocates for itself, is told; only its own pages can kill: those of
        // a child's copy.
        let killed = facts(&output, "failing.killed ");
        let by_pages = |call: &str| matches!(call, "fork" | "share-files" | "execve" | "touch");
        expect(killed.iter().all(|words| words[1] == "0" || by_pages(&words[0])), &output)?;
    }
    Ok(())
}

/// Frames by which memory may fall short of what there was before a storm of threads: page tables and records of their stacks, which stay.
const LEFT_OF_A_STORM: u64 = 160;
/// KiB of stacks that may be kept when all were to be given back: of tasks that have ended since.
const KEPT_SINCE: u64 = 128;

/// What is kept ready is of no consequence to who needs memory: as much can be had as when nothing was kept, and a fork that is refused when
/// nothing is left is not refused while something is kept. And who says so can have all of it given back.
pub(super) fn what_is_kept_ready_is_given_back_before_anybody_is_refused() -> Result<(), Failed> {
    for cpus in ["1", "4"] {
        let output = well(cpus, &[], "brim", &[])?;
        let numbers = |name: &str| -> Option<Vec<u64>> {
            let words = facts(&output, &format!("brim.{name} ")).concat();
            words.iter().map(|word| word.parse().ok()).collect()
        };
        for way in ["touch", "fill"] {
            let [before, after] = ["before", "after"].map(|when| numbers(&format!("{way} {when}")).unwrap_or_default());
            let same = before.len() == 2 && after.len() == 2 && after[0] + LEFT_OF_A_STORM >= before[0];
            // There was something to give back: far more than may be missing.
            expect(same && after[1] / 4 > 10 * LEFT_OF_A_STORM, &output)?;
            expect(numbers(&format!("kept {way} after")).is_some_and(|kept| kept[0] <= KEPT_SINCE), &output)?;
        }
        let forks = ["before", "after"].map(|when| numbers(&format!("fork {when}")).unwrap_or_default());
        expect(forks[0].first() == Some(&12) && forks[1].first() == Some(&0), &output)?;
        // A call that has taken a child and cannot say so is not made once more: it would take the other one.
        let reaps = ["before", "after"].map(|when| numbers(&format!("reap {when}")).unwrap_or_default());
        expect(reaps.iter().all(|gone| gone.first() == Some(&1)), &output)?;
        for (word, drops, error) in [("1", true, 0), ("2", true, 0), ("3", true, 0), ("4", false, 0)]
            .into_iter()
            .chain(["0", "5", "x"].map(|word| (word, false, 22)))
        {
            let said = numbers(&format!("drop {word}")).unwrap_or_default();
            expect(said.len() == 3 && (said[1] <= KEPT_SINCE) == drops && said[2] == error, &output)?;
        }
        expect(numbers("idle").is_some_and(|kept| kept.len() == 2 && kept[1] <= kept[0] / 2), &output)?;
    }
    Ok(())
}

pub(super) fn no_number_in_use_is_handed_out_again() -> Result<(), Failed> {
    for cpus in ["1", "2"] {
        let output = well(cpus, &[], "numbers", &[])?;
        let rounds = facts(&output, "numbers.rounds").concat();
        let begun = rounds.first().and_then(|rounds| rounds.parse().ok()).is_some_and(|rounds: u32| rounds >= 2);
        expect(begun && rounds.get(1).is_some_and(|twice| twice == "0"), &output)?;
        // EAGAIN, when each number is a child's.
        let full = facts(&output, "numbers.full").concat();
        expect(full.len() == 3 && full[1..] == ["11", "0"], &output)?;
    }
    Ok(())
}

pub(super) fn calls_that_are_not_there_are_listed() -> Result<(), Failed> {
    let output = run(&["run", "--missing-calls", "--program", "/bin/busybox", "id"])?;
    let said = String::from_utf8_lossy(&output.stderr);
    let missing: Vec<_> = said.lines().filter(|line| line.contains("no system call")).collect();
    // And not what every program asks for, to no harm.
    expect(missing == ["vmstack: no system call getgroups (115): 1 times ENOSYS"], &output)
}

/// Where a field of an ELF file is, and how long, by name.
#[rustfmt::skip]
const FIELDS: [(&str, usize, usize); 16] = [
    ("magic", 0, 4), ("class", 4, 1), ("data", 5, 1), ("version-byte", 6, 1), ("abi", 7, 1), ("type", 16, 2),
    ("machine", 18, 2), ("version", 20, 4), ("entry", 24, 8), ("phoff", 32, 8), ("shoff", 40, 8), ("flags", 48, 4),
    ("ehsize", 52, 2), ("phentsize", 54, 2), ("phnum", 56, 2), ("shnum", 60, 2),
];

/// The same of what it says of a segment.
const OF_SEGMENT: [(&str, usize, usize); 6] = [
    ("p-type", 0, 4),
    ("p-offset", 8, 8),
    ("p-vaddr", 16, 8),
    ("p-filesz", 32, 8),
    ("p-memsz", 40, 8),
    ("p-align", 48, 8),
];

/// Where a good program speaks of the first segment that is loaded.
fn first_loaded(good: &[u8]) -> usize {
    (64..).step_by(56).find(|&at| good[at..at + 4] == [1, 0, 0, 0]).unwrap_or(64)
}

/// Files that are no ELF files at all.
const OTHERS: [(&str, &str); 8] = [
    ("script-missing", "#!/missing\n"),
    ("script-folder", "#!/proc\n"),
    ("script-empty", "#!\n"),
    ("script-blank", "#!   \n"),
    ("script-below-a-file", "#!/proc/self/exe/x\n"),
    ("script-argument", "#!/missing a b c\n"),
    ("script-no-end", "#!/missing"),
    ("text", "hello\n"),
];

/// Fills `folder` with what is made of a good program by damaging it.
fn damage(good: &[u8], folder: &Path) -> std::io::Result<()> {
    let write = |name: String, bytes: &[u8]| {
        let path = folder.join(format!("damaged-{name}"));
        fs::write(&path, bytes)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))
    };
    let segment = first_loaded(good);
    let fields = FIELDS.into_iter().chain(OF_SEGMENT.map(|(name, at, length)| (name, segment + at, length)));
    for (name, at, length) in fields {
        let own = good[at..at + length].iter().rev().fold(0, |word: u64, byte| word << 8 | u64::from(*byte));
        // 183: Arm's.
        for value in [0, 1, 3, 183, own + 1, 1 << (8 * length - 1), u64::MAX] {
            let mut file = good.to_vec();
            file[at..at + length].copy_from_slice(&value.to_le_bytes()[..length]);
            write(format!("{name}-{value:x}"), &file)?;
        }
    }
    for length in [0, 1, 3, 4, 16, 63, 64, 100] {
        write(format!("cut-{length}"), &good[..length])?;
    }
    write("script-long".to_owned(), format!("#!/{}\n", "x".repeat(300)).as_bytes())?;
    OTHERS.iter().try_for_each(|(name, text)| write((*name).to_owned(), text.as_bytes()))
}

/// What came of each file.
fn executed(output: &Output) -> BTreeMap<String, String> {
    facts(output, "hostile.executed").into_iter().map(|words| (words[0].clone(), words[1].clone())).collect()
}

/// Whether Linux's answer and this kernel's agree. What Linux kills when it is too late to go back is refused here; and so is a program at
/// address 0, where Linux has one only for who may do anything.
fn agree(name: &str, there: &str, here: &str) -> bool {
    there == here || (there == "killed" && here != "ran") || (name == "damaged-p-vaddr-0" && here == "8")
}

/// The same files on this machine's Linux and in the guest.
pub(super) fn what_is_no_program_is_refused_as_on_linux() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    damage(&fs::read(program("nothing"))?, folder.path())?;
    let place = folder.path().to_string_lossy().into_owned();
    // The limit of arguments goes by that of the stack.
    let script = "ulimit -s 8192; exec \"$0\" execute \"$1\"";
    let there = executed(&Command::new("sh").args(["-c", script, &program("hostile"), &place]).output()?);
    let here = executed(&well("2", &["--with", &place], "hostile", &["execute", &place])?);
    let differ = |(name, there): (&String, &String)| match here.get(name) {
        Some(here) if agree(name, there, here) => None,
        here => Some(format!("{name}: {there} on Linux, {here:?} here")),
    };
    let wrong: Vec<_> = there.iter().filter_map(differ).collect();
    if there.len() > 150 && wrong.is_empty() { Ok(()) } else { Err(format!("{} files; {wrong:?}", there.len()).into()) }
}
