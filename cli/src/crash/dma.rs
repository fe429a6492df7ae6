//! What is expected of crashes that are about a device and a stack: who was refused and why, what the bytes are, and that nothing is kept.
//!
//! A crash's word is the policy under which it was provoked.

use super::facts::{Evidence, Holds, Shortfall, hold, odd};
use super::special::Seen;
use crate::console::number;

/// Where the scripts are that ask.
const SCRIPTS: &str = "src/crash/dma/";
/// How a refusal begins in words.
const WORDS: &str = "vmstack: no DMA to ";

/// What is done about stacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Policy {
    Refuse,
    Bounce,
    Map,
}

impl Policy {
    fn of(crash: &Evidence) -> Result<Self, Shortfall> {
        match crash.word.split_once(':') {
            Some((_, "refuse")) => Ok(Self::Refuse),
            Some((_, "bounce")) => Ok(Self::Bounce),
            Some((_, "map")) => Ok(Self::Map),
            _ => Err(Shortfall(format!("`{}` is under no policy", crash.word))),
        }
    }

    /// How stacks are let through.
    fn passage(self) -> Option<&'static str> {
        match self {
            Self::Refuse => None,
            Self::Bounce => Some("bounced"),
            Self::Map => Some("mapped"),
        }
    }

    /// What the door counts when this many stacks were let through, beside so many that were refused, and of which so many were gone.
    fn counters(self, refused: u64, passed: u64, gone: u64) -> [u64; 5] {
        match self {
            Self::Refuse => [refused, 0, 0, 0, 0],
            Self::Bounce => [refused, passed, 0, gone, 0],
            Self::Map => [refused, 0, passed, 0, 0],
        }
    }
}

/// The device was there, the door counted this, and holds nothing any more.
pub(super) fn settled(crash: &Evidence, counters: [u64; 5]) -> Holds {
    hold(crash.facts.number("dma.device")? == 1, || "the device is not plugged in".into())?;
    let counted: [u64; 5] = crash.facts.numbers("dma.counters")?;
    hold(counted == counters, || {
        format!("refused, bounced, mapped, gone, lost: {counted:?} requests, not {counters:?}")
    })?;
    let [before, after] = crash.facts.numbers("dma.pool")?;
    hold(before == after, || format!("{before} bounce buffers were in use before, {after} are after"))?;
    let [pinned, miscounted, left] = crash.facts.numbers("dma.left")?;
    hold(pinned == 0, || format!("{pinned} stacks are left to pins"))?;
    hold(miscounted == 0, || format!("the pins of {miscounted} stacks are miscounted"))?;
    hold(left == 0, || format!("{left} requests of the device have not ended"))
}

/// A `fact dma.refused`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refused<'a> {
    what: &'a str,
    why: &'a str,
    caller: &'a str,
    addr: u64,
    bytes: u64,
    entry: u64,
    low: u64,
    high: u64,
    offset: u64,
    owner: u64,
    /// The line before it.
    told: &'a str,
}

impl<'a> Refused<'a> {
    fn read(words: &'a [String], told: &'a str) -> Option<Self> {
        let [what, why, caller, numbers @ ..] = words else { return None };
        let numbers: Option<Vec<u64>> = numbers.iter().map(|word| number(word)).collect();
        let [addr, bytes, entry, low, high, offset, owner] = numbers?.try_into().ok()?;
        Some(Self { what, why, caller, addr, bytes, entry, low, high, offset, owner, told })
    }

    /// All of them, in order, each with what is said of it in words.
    pub(super) fn all(crash: &'a Evidence) -> Result<Vec<Self>, Shortfall> {
        let facts = crash.facts.all("dma.refused");
        let lines = crash.facts.lines().iter().map(|line| line.text.as_str());
        let told: Vec<&str> = lines.filter(|line| line.starts_with(WORDS)).collect();
        hold(told.len() == facts.len(), || format!("{} refusals, and {} in words", facts.len(), told.len()))?;
        let read =
            |(words, told): (&'a Vec<String>, _)| Self::read(words, told).ok_or_else(|| odd("dma.refused", words));
        facts.iter().zip(told).map(read).collect()
    }

    /// It was for this reason, and says who asked for what.
    pub(super) fn is_for(&self, why: &str) -> Holds {
        let Self { what, addr, bytes, caller, told, .. } = self;
        hold(self.why == why, || format!("`{what}` was refused by {}, not {why}", self.why))?;
        hold(caller.starts_with(SCRIPTS), || format!("`{what}` was asked for by {caller}, it says"))?;
        let said = format!("{WORDS}{bytes} bytes at {addr:016x} for {caller}:");
        hold(told.starts_with(&said), || format!("`{what}` is told of by `{told}`, which does not begin `{said}`"))
    }

    /// It names this stack, where in it the bytes begin, and its owner, also in words.
    fn names(&self, stack: &Asked) -> Holds {
        let Self { what, low, high, offset, owner, told, .. } = *self;
        let place = self.addr.saturating_sub(stack.low);
        hold((low, high) == (stack.low, stack.high), || format!("`{what}` names the stack {low:#x}..{high:#x}"))?;
        hold(offset == place, || format!("`{what}` is {offset} bytes above the bottom, it says, and not {place}"))?;
        hold(owner == stack.owner, || format!("`{what}` names task {owner}, and the stack is {}'s", stack.owner))?;
        let named = format!("owner {owner:#x} (pid {owner} (victim))");
        hold(told.ends_with(&named), || format!("`{what}` is told of by `{told}`, which does not end with `{named}`"))
    }
}

/// What is asked for, as the task knows it whose stack it is: `fact dma.stack`.
#[derive(Clone, Copy, Debug)]
struct Asked {
    low: u64,
    high: u64,
    owner: u64,
    at: u64,
    bytes: u64,
}

impl Asked {
    fn read(crash: &Evidence) -> Result<Self, Shortfall> {
        let [low, high, owner, at, bytes] = crash.facts.numbers("dma.stack")?;
        hold(low < high && owner != 0, || format!("{low:#x}..{high:#x} of task {owner} is no stack"))?;
        Ok(Self { low, high, owner, at, bytes })
    }
}

/// The values of the one `fact name WHAT ...`.
pub(super) fn of<'a>(crash: &'a Evidence, name: &str, what: &str) -> Result<&'a [String], Shortfall> {
    let mut found = crash.facts.all(name).iter().filter(|words| words.first().is_some_and(|word| word == what));
    match (found.next(), found.next()) {
        (Some(words), None) => Ok(&words[1..]),
        (None, _) => Err(Shortfall(format!("nothing is said of `{name} {what}`"))),
        (Some(_), Some(_)) => Err(Shortfall(format!("`{name} {what}` is told of more than once"))),
    }
}

/// The numbers of the one `fact name WHAT NUMBERS`.
fn numbers_of<const N: usize>(crash: &Evidence, name: &str, what: &str) -> Result<[u64; N], Shortfall> {
    let words = of(crash, name, what)?;
    let numbers: Option<Vec<u64>> = words.iter().map(|word| number(word)).collect();
    numbers.and_then(|numbers| numbers.try_into().ok()).ok_or_else(|| odd(name, words))
}

/// `WHAT` was let through so, in one segment at least, and ended so.
fn passed(crash: &Evidence, what: &str, passage: &str, end: &str) -> Holds {
    let words = of(crash, "dma.passed", what)?;
    let [how, segments] = words else { return Err(odd("dma.passed", words)) };
    hold(how == passage, || format!("`{what}` was {how}, not {passage}"))?;
    hold(number(segments).is_some_and(|segments| segments > 0), || format!("`{what}` was let through in no segment"))?;
    ended(crash, what, end)
}

fn ended(crash: &Evidence, what: &str, end: &str) -> Holds {
    let words = of(crash, "dma.end", what)?;
    hold(words == [end], || format!("`{what}` ended as {}, not {end}", words.join(" ")))
}

/// Every one of these bytes is as it must be.
fn right(crash: &Evidence, what: &str) -> Holds {
    let [bytes, right] = numbers_of(crash, "dma.bytes", what)?;
    hold(bytes > 0 && bytes == right, || format!("of the {bytes} bytes of `{what}` {right} are right"))
}

/// Nobody was killed, and so many tasks took part.
fn tasks(crash: &Evidence, count: usize) -> Holds {
    let victims = crash.victims()?.len();
    hold(victims == count, || format!("{victims} tasks took part, not {count}"))
}

fn nothing_passed(crash: &Evidence) -> Holds {
    let passed = crash.facts.all("dma.passed").len() + crash.facts.all("dma.end").len();
    hold(passed == 0, || format!("{passed} facts are of something that was let through"))
}

fn said(words: &str) -> Seen {
    Seen { said: words.into(), ..Seen::default() }
}

/// A task's own buffer: refused by name, or read and written by the device.
pub(super) fn from_own_stack(crash: &Evidence) -> Result<Seen, Shortfall> {
    tasks(crash, 1)?;
    exchanged(crash)
}

/// Another task's buffer: it is its stack that is named, and not that of the task that asked.
pub(super) fn from_other_stack(crash: &Evidence) -> Result<Seen, Shortfall> {
    tasks(crash, 2)?;
    let owner = Asked::read(crash)?.owner;
    let others = crash.victims()?.into_iter().filter(|victim| victim.task != owner).count();
    hold(others == 1, || format!("task {owner} asked for its own stack, it seems"))?;
    exchanged(crash)
}

fn exchanged(crash: &Evidence) -> Result<Seen, Shortfall> {
    let (policy, asked) = (Policy::of(crash)?, Asked::read(crash)?);
    let refused = Refused::all(crash)?;
    right(crash, "write")?;
    let Some(passage) = policy.passage() else {
        let what: Vec<&str> = refused.iter().map(|refused| refused.what).collect();
        hold(what == ["read", "write"], || format!("what was refused is {what:?}"))?;
        for refused in &refused {
            refused.is_for("stack")?;
            let whole = (refused.addr, refused.bytes, refused.entry) == (asked.at, asked.bytes, 0);
            hold(whole, || format!("`{}` is {} bytes at {:#x}", refused.what, refused.bytes, refused.addr))?;
            refused.names(&asked)?;
        }
        nothing_passed(crash)?;
        settled(crash, policy.counters(2, 0, 0))?;
        return Ok(said("both ways refused; the caller, the stack and its owner are named"));
    };
    hold(refused.is_empty(), || format!("{} requests were refused", refused.len()))?;
    ["read", "write"].into_iter().try_for_each(|what| passed(crash, what, passage, "finished"))?;
    right(crash, "read")?;
    settled(crash, policy.counters(0, 2, 0))?;
    Ok(said("each byte right, both ways"))
}

/// What is not all in one stack is refused, whatever the policy is, and alone or in a list.
pub(super) fn across_the_ends(crash: &Evidence) -> Result<Seen, Shortfall> {
    let (policy, asked) = (Policy::of(crash)?, Asked::read(crash)?);
    let out = asked.high.saturating_sub(asked.at);
    let (top, bottom) = (format!("across-top:{}", asked.bytes.saturating_sub(out)), format!("across-bottom:{out}"));
    // Under the strictest policy it is the list's good entry that is refused: it is a stack's.
    let list = if policy == Policy::Refuse { ("stack", 0) } else { (top.as_str(), 1) };
    let rows = [
        ("top", top.as_str(), 0),
        ("last", "across-top:1", 0),
        ("bottom", bottom.as_str(), 0),
        ("all", "across-bottom:1", 0),
        ("list", list.0, list.1),
    ];
    let refused = Refused::all(crash)?;
    hold(refused.iter().map(|row| row.what).eq(rows.iter().map(|row| row.0)), || {
        format!("{} requests were refused, not {}, each in its turn", refused.len(), rows.len())
    })?;
    for (refused, (what, why, entry)) in refused.iter().zip(rows) {
        refused.is_for(why)?;
        refused.names(&asked)?;
        hold(refused.entry == entry, || format!("`{what}` is about entry {}, not {entry}", refused.entry))?;
    }
    nothing_passed(crash)?;
    tasks(crash, 1)?;
    settled(crash, policy.counters(5, 1, 0))?;
    Ok(said("refused, alone and in a list, and nothing is kept"))
}

/// Tasks die, by overflow and by exit, while the device writes their stack.
pub(super) fn task_dies(crash: &Evidence) -> Result<Seen, Shortfall> {
    let policy = Policy::of(crash)?;
    tasks(crash, 2)?;
    ["overflow", "exit"].into_iter().try_for_each(|death| died_in_transfer(crash, policy, death))?;
    settled(crash, policy.counters(0, 2, 2))?;
    Ok(said(match policy {
        Policy::Map => "its frames were nobody else's until the device was done, and then zero",
        _ => "what the device wrote was dropped",
    }))
}

fn died_in_transfer(crash: &Evidence, policy: Policy, death: &str) -> Holds {
    let maps = policy == Policy::Map;
    let (fate, end) = if maps { ("pinned", "finished") } else { ("given-back", "gone") };
    let words = of(crash, "dma.dead", death)?;
    let (found, [bytes, begun]) = match words {
        [found, bytes, begun] => (found, [bytes, begun].map(|word| number(word).unwrap_or(0))),
        _ => return Err(odd("dma.dead", words)),
    };
    hold(found == fate, || format!("after the {death} the stack was {found}, not {fate}"))?;
    hold(0 < begun && begun < bytes, || {
        format!("the device had begun {begun} of {bytes} bytes when the task was dead: nothing is shown")
    })?;
    let [rest, arrived] = numbers_of(crash, "dma.arrived", death)?;
    hold(rest == bytes - begun && (!maps || arrived == rest), || {
        format!("of the {rest} bytes that the device wrote after the {death} {arrived} are in the stack's frames")
    })?;
    ended(crash, death, end)?;
    strangers(crash, death, maps)?;
    next_owner(crash, death)
}

/// Who else took stacks and frames meanwhile had none of the dead task's, and nobody's were altered.
fn strangers(crash: &Evidence, death: &str, maps: bool) -> Holds {
    const FEW: u64 = 16;
    let [stacks, frames, shared, altered] = numbers_of(crash, "dma.strangers", death)?;
    hold(stacks >= FEW && frames >= FEW, || {
        format!("{stacks} stacks and {frames} frames were taken: nothing is shown")
    })?;
    hold(!maps || shared == 0, || format!("{shared} frames were somebody's that the device still wrote"))?;
    hold(altered == 0, || format!("{altered} bytes of others were altered"))
}

/// The same stack was somebody's again, and read as zero. Returns how many of its frames it had before.
fn next_owner(crash: &Evidence, what: &str) -> Holds {
    let [found, _, dirty] = numbers_of(crash, "dma.next", what)?;
    hold(found == 1, || format!("after `{what}` the stack was never handed out again"))?;
    hold(dirty == 0, || format!("after `{what}` {dirty} bytes of the next owners' stacks were not zero"))
}

/// A page that its task never touched, and the device wrote.
pub(super) fn then_reuse(crash: &Evidence) -> Result<Seen, Shortfall> {
    const PAGES: u64 = 4;
    let policy = Policy::of(crash)?;
    tasks(crash, 1)?;
    let touched = crash.facts.number("dma.untouched")?;
    hold(touched == 0, || format!("{touched} bytes of the page were touched before"))?;
    passed(crash, "write", "mapped", "finished")?;
    right(crash, "write")?;
    let fate = of(crash, "dma.dead", "exit")?.first().map_or("", String::as_str);
    hold(fate == "given-back", || format!("after the transfer the stack was {fate}"))?;
    next_owner(crash, "write")?;
    let [_, kept, _] = numbers_of(crash, "dma.next", "write")?;
    hold(kept == PAGES, || format!("the next owner had {kept} of the {PAGES} frames: nothing is shown of the others"))?;
    settled(crash, policy.counters(0, 1, 0))?;
    Ok(said("the next owner had the same frames, and read zero"))
}

/// As many requests as there are buffers pass; the next one does not, until one has ended.
pub(super) fn exhausted(crash: &Evidence) -> Result<Seen, Shortfall> {
    let policy = Policy::of(crash)?;
    let [held, in_use] = crash.facts.numbers("dma.exhausted")?;
    hold(held > 0 && held == in_use, || format!("{held} requests were let through, and {in_use} buffers were in use"))?;
    let refused = Refused::all(crash)?;
    let [refused] = refused.as_slice() else {
        return Err(Shortfall(format!("{} requests were refused, not the one too many", refused.len())));
    };
    refused.is_for(&format!("pool-exhausted:{held}"))?;
    let owner = crash.victims()?.first().map_or(0, |victim| victim.task);
    refused.names(&Asked { low: refused.low, high: refused.high, owner, at: refused.addr, bytes: refused.bytes })?;
    hold(crash.facts.number("dma.small")? == 1, || "small buffers were exhausted too".into())?;
    ended(crash, "first", "finished")?;
    hold(crash.facts.number("dma.again")? == 1, || "the buffer that was given back was not found again".into())?;
    settled(crash, policy.counters(1, held + 2, 0))?;
    Ok(said(&format!("{held} buffers, then a refusal, and again when one had ended")))
}

/// Each row of bad input: what it must be refused by under each policy.
pub(super) const BAD: [(&str, [&str; 3], u64); 18] = [
    ("empty", ["empty"; 3], 0),
    ("wraps", ["wraps"; 3], 0),
    ("bottom", ["across-bottom:16"; 3], 0),
    ("top", ["across-top:48"; 3], 0),
    ("around", ["across-bottom:16"; 3], 0),
    ("guard", ["guard"; 3], 0),
    ("freed", ["idle"; 3], 0),
    ("unused", ["idle"; 3], 0),
    ("records", ["records"; 3], 0),
    ("unmapped", ["not-mapped"; 3], 0),
    ("half", ["not-mapped"; 3], 0),
    ("large", ["misaligned:64", "too-large:65536", "too-large:65536"], 0),
    ("coarse", ["stack", "too-large:65536", "too-large:65536"], 0),
    ("reach", ["stack", "pool-out-of-reach", "pool-out-of-reach"], 0),
    ("pieces", ["stack", PASSED, PASSED], 0),
    ("list", ["across-bottom:16"; 3], 2),
    ("full", ["list-full:2"; 3], 2),
    (UNSHARE, ["not-shared"; 3], 0),
];
/// What bounces instead.
const PASSED: &str = "passed";
/// A mistake at the end of a transfer, which is no request.
const UNSHARE: &str = "unshare";

/// Each request that makes no sense is refused by a reason of its own, and nothing is kept for it.
pub(super) fn bad_input(crash: &Evidence) -> Result<Seen, Shortfall> {
    let (mut refused, mut bounced) = (0, 0);
    for (column, policy) in ["refuse", "bounce", "map"].into_iter().enumerate() {
        for (row, expected, entry) in BAD {
            let words = bad(crash, policy, row)?;
            let [why, at] = words else { return Err(odd("dma.bad", words)) };
            hold(why == expected[column], || format!("{policy}: `{row}` came to {why}, not {}", expected[column]))?;
            hold(number(at) == Some(entry), || format!("{policy}: `{row}` is about entry {at}, not {entry}"))?;
            bounced += u64::from(why == PASSED);
            refused += u64::from(why != PASSED && row != UNSHARE);
        }
    }
    let all = crash.facts.all("dma.bad").len();
    hold(all == 3 * BAD.len(), || format!("{all} rows, not {}", 3 * BAD.len()))?;
    settled(crash, [refused, bounced, 0, 0, 0])?;
    Ok(said(&format!("{} rows under three policies, each with its own error", BAD.len())))
}

/// What is said of one row.
fn bad<'a>(crash: &'a Evidence, policy: &str, row: &str) -> Result<&'a [String], Shortfall> {
    let found = crash.facts.all("dma.bad").iter().find(|words| words.iter().take(2).eq([policy, row]));
    found.map(|words| &words[2..]).ok_or_else(|| Shortfall(format!("nothing is said of `{row}` under {policy}")))
}

/// Tasks die with three requests each in flight, one on each CPU; another task ends what they began.
pub(super) fn overflow_in_flight(crash: &Evidence) -> Result<Seen, Shortfall> {
    const EACH: u64 = 3;
    let policy = Policy::of(crash)?;
    let (cpus, maps) = (crash.cpus(), policy == Policy::Map);
    let [victims, requests, pinned] = crash.facts.numbers("dma.flights")?;
    hold(victims == cpus && requests == EACH * victims, || {
        format!("{victims} tasks died with {requests} requests in flight, not {cpus} with {EACH} each")
    })?;
    let expected = if maps { victims } else { 0 };
    hold(pinned == expected, || format!("{pinned} of the dead tasks' stacks were pinned, not {expected}"))?;
    let [finished, gone] = crash.facts.numbers("dma.ended")?;
    // What the device only read is no loss.
    let expected = if maps { [requests, 0] } else { [victims, 2 * victims] };
    hold([finished, gone] == expected, || {
        format!("{finished} requests finished, {gone} found their stack gone: not {expected:?}")
    })?;
    tasks(crash, usize::try_from(victims + 1).unwrap_or(0))?;
    settled(crash, policy.counters(0, requests, 2 * victims))?;
    Ok(said(&format!("{requests} requests were ended by another task")))
}
