//! What the guest printed of one crash: the lines between its beginning and its end.
//!
//! ```text
//!   fact crash.begin NAME
//!     the text of a report, then    fact oops NUMBER FINDING KIND VERDICT ADDRESS LOW HIGH SP IP CPU TASK BEYOND
//!     how it went with the others   fact victim ..., fact survivor ..., fact balance.* ..., fact lock ...
//!   fact crash.end NAME             not there after an orderly stop
//! ```
//!
//! `docs/console.md` has the whole list. A word that is not of the contract is a shortfall that quotes it.

use core::fmt;

use crate::console::{BadFact, Transcript, number};

/// How a report begins.
pub(super) const REPORT: &str = "BUG: ";
/// How the kernel announces an orderly stop.
pub(super) const PANIC: &str = "Kernel panic: ";

/// What fell short, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shortfall(pub(super) String);

impl From<BadFact> for Shortfall {
    fn from(bad: BadFact) -> Self {
        Self(bad.to_string())
    }
}

/// Nothing fell short, or what did.
pub(super) type Holds = Result<(), Shortfall>;

/// Holds if `condition` does; else `what` says what fell short.
pub(super) fn hold(condition: bool, what: impl FnOnce() -> String) -> Holds {
    if condition { Ok(()) } else { Err(Shortfall(what())) }
}

/// An enum whose variants are words of the console.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum $name { $($(#[$variant_doc])* $variant,)* }

        impl $name {
            /// The variant that the guest means by `word`.
            fn of(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)* _ => None }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$variant => $word,)* })
            }
        }
    };
}

words!(
    /// What a fault turned out to be.
    Finding {
        Walked = "overflow-walked",
        Jumped = "overflow-jumped",
        Underflow = "underflow",
        OtherGuard = "other-guard",
        Wild = "wild-pointer",
        Inside = "inside-stack",
        AreaAbove = "area-above",
        AreaBelow = "area-below",
        AreaFreed = "area-freed",
        AreaInside = "area-inside",
        AreaRecords = "area-records",
        AreaUnused = "area-unused",
    }
);

words!(
    /// Whose stack it was about: the first word of the report.
    Kind {
        Task = "TASK",
        Idle = "IDLE",
        Irq = "IRQ",
        Nmi = "NMI",
        Emergency = "EMERGENCY",
        Boot = "BOOT",
        Area = "AREA",
    }
);

words!(
    /// What the kernel did about it.
    Verdict {
        Killed = "killed",
        Abandoned = "abandoned",
        Replaced = "replaced",
        Stopped = "stopped",
    }
);

impl Finding {
    /// What the first line of a report says of it.
    pub(super) fn headline(self) -> &'static str {
        match self {
            Self::Inside => "was touched",
            Self::AreaFreed => "memory was touched that is free",
            Self::AreaInside => "memory was touched",
            Self::AreaRecords => "records were touched",
            Self::AreaUnused => "addresses were touched that are nobody's",
            _ => "guard page was hit",
        }
    }
}

/// One report, as data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Oops {
    /// Counts from 1 over the boot.
    pub(super) number: u64,
    pub(super) finding: Finding,
    pub(super) kind: Kind,
    pub(super) verdict: Verdict,
    pub(super) address: u64,
    /// The stack, or the area: its lowest address, and the first one above it.
    pub(super) low: u64,
    pub(super) high: u64,
    pub(super) stack_pointer: u64,
    pub(super) instruction: u64,
    pub(super) cpu: u64,
    pub(super) task: u64,
    /// Bytes past the end of the stack.
    pub(super) beyond: u64,
}

impl Oops {
    /// Reads the values of a `fact oops` line.
    pub(super) fn read(words: &[String]) -> Option<Self> {
        let [count, finding, kind, verdict, numbers @ ..] = words else { return None };
        let numbers: Vec<u64> = numbers.iter().map(|word| number(word)).collect::<Option<_>>()?;
        let [address, low, high, stack_pointer, instruction, cpu, task, beyond] = numbers.try_into().ok()?;
        Some(Self {
            number: number(count)?,
            finding: Finding::of(finding)?,
            kind: Kind::of(kind)?,
            verdict: Verdict::of(verdict)?,
            address,
            low,
            high,
            stack_pointer,
            instruction,
            cpu,
            task,
            beyond,
        })
    }

    /// The first line of its text.
    pub(super) fn headline(&self) -> String {
        let Self { kind, address, low, high, .. } = self;
        let what = self.finding.headline();
        let thing = if *kind == Kind::Area { "area" } else { "stack" };
        let named = if *kind == Kind::Area { "AREA".to_owned() } else { format!("{kind} stack") };
        format!("BUG: {named} {what} at {address:016x} ({thing} is {low:016x}..{high:016x})")
    }
}

/// How a task ended, or what else a fact says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Victim {
    pub(super) task: u64,
    /// As `wait4` gives it.
    pub(super) status: u64,
}

impl Victim {
    /// Whether SIGSEGV killed it: a raw wait status holds the signal in its low seven bits.
    pub(super) fn was_killed(self) -> bool {
        self.status & 0x7f == 11
    }
}

/// Everything that is known of one crash. What is in it was printed between its beginning and its end.
#[derive(Clone, Debug)]
pub(super) struct Evidence {
    /// The name, and what follows its colon.
    pub(super) word: String,
    /// The lines between.
    pub(super) facts: Transcript,
    /// Whether its end was printed.
    pub(super) ended: bool,
    /// Arenas of the heap that were given up in this boot before it began.
    pub(super) retired_before: u64,
    /// Where a report begins after its end, and before the next crash; and announcements.
    pub(super) late: Vec<String>,
    /// The machine.
    pub(super) machine: Machine,
    /// The CPUs that have reports: all of the kernel's, or those that the port took. Each report is asked for it.
    cpus: u64,
}

/// Where it was printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Machine {
    /// The kernel, with so many CPUs.
    Kernel { cpus: u32 },
    /// A Linux process.
    Hosted,
}

impl Evidence {
    /// The crashes of a boot of `machine`, in the order in which they began.
    pub(super) fn of_boot(transcript: &Transcript, machine: Machine) -> Vec<Self> {
        let mut all: Vec<Self> = Vec::new();
        for line in transcript.lines() {
            if let Some(word) = line.text.strip_prefix("fact crash.begin ") {
                let (word, facts) = (word.trim().to_owned(), Transcript::default());
                let retired_before = all.last().map_or(0, Self::retired);
                all.push(Self { word, facts, ended: false, retired_before, late: Vec::new(), machine, cpus: 0 });
                continue;
            }
            let Some(open) = all.last_mut() else { continue };
            if open.ended {
                let is_late = line.text.starts_with(REPORT) || line.text.contains(PANIC);
                open.late.extend(is_late.then(|| line.text.clone()));
                continue;
            }
            match line.text.strip_prefix("fact crash.end ") {
                Some(word) if word.trim() == open.word => open.ended = true,
                _ => {
                    open.facts.hear(line.at, line.text.as_bytes());
                    open.facts.hear(line.at, b"\n");
                }
            }
        }
        all.iter_mut().for_each(|crash| crash.cpus = crash.count_cpus());
        all
    }

    /// Arenas of the heap that were given up in this boot by its end.
    fn retired(&self) -> u64 {
        self.facts.numbers::<3>("balance.retired").map_or(self.retired_before, |[arenas, _, _]| arenas)
    }

    /// Whether it is of the hosted port.
    pub(super) fn is_hosted(&self) -> bool {
        self.machine == Machine::Hosted
    }

    /// The CPUs that have reports: all of the kernel's, or those that the port took.
    pub(super) fn cpus(&self) -> u64 {
        self.cpus
    }

    fn count_cpus(&self) -> u64 {
        match self.machine {
            Machine::Kernel { cpus } => cpus.into(),
            Machine::Hosted => self.oopses().unwrap_or_default().iter().map(|oops| oops.cpu + 1).max().unwrap_or(0),
        }
    }

    /// Whether the kernel said that it does not know this crash.
    pub(super) fn is_unknown(&self) -> bool {
        self.facts.count_starting("there is no crash called ") > 0
    }

    /// The reports, in the order in which they were printed.
    pub(super) fn oopses(&self) -> Result<Vec<Oops>, Shortfall> {
        let read = |words: &Vec<String>| Oops::read(words).ok_or_else(|| odd("oops", words));
        self.facts.all("oops").iter().map(read).collect()
    }

    /// The tasks that the crash was provoked in.
    pub(super) fn victims(&self) -> Result<Vec<Victim>, Shortfall> {
        let read = |words: &Vec<String>| match numbers(words).as_deref() {
            Some(&[task, status]) => Ok(Victim { task, status }),
            _ => Err(odd("victim", words)),
        };
        self.facts.all("victim").iter().map(read).collect()
    }

    /// The `N` numbers of each `fact name`.
    pub(super) fn each<const N: usize>(&self, name: &str) -> Result<Vec<[u64; N]>, Shortfall> {
        let read = |words: &Vec<String>| {
            numbers(words).and_then(|numbers| numbers.try_into().ok()).ok_or_else(|| odd(name, words))
        };
        self.facts.all(name).iter().map(read).collect()
    }

    /// A word and the `N` numbers after it of each `fact name`.
    pub(super) fn named<const N: usize>(&self, name: &str) -> Result<Vec<(&str, [u64; N])>, Shortfall> {
        let read = |words: &'_ Vec<String>| {
            let numbers = numbers(words.get(1..).unwrap_or_default());
            numbers.and_then(|numbers| numbers.try_into().ok()).ok_or_else(|| odd(name, words))
        };
        let each = self.facts.all(name).iter();
        each.map(|words| Ok((words.first().map_or("", String::as_str), read(words)?))).collect()
    }
}

fn numbers(words: &[String]) -> Option<Vec<u64>> {
    words.iter().map(|word| number(word)).collect()
}

/// The shortfall of a fact that has not the form of the contract.
pub(super) fn odd(name: &str, words: &[String]) -> Shortfall {
    Shortfall(format!("the guest printed `fact {name} {}`, which is not of the agreed form", words.join(" ")))
}
