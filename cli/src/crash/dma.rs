//! What is expected of crashes that are about a device and a stack: who was refused and why, what the bytes are, and that nothing is kept.
//!
//! A crash's word is the policy under which it was provoked. The scripts are in the kernel's `crash/dma`.
//!
//! | file | what |
//! | --- | --- |
//! | `refused` | who asked, for what, in whose stack |
//! | `asking`, `dying`, `limits` | the crashes, as in the kernel |
//! | `control` | what comes of an address that was computed |

use super::facts::{Evidence, Holds, Shortfall, hold, odd};
use super::special::Seen;
use crate::console::number;

mod asking;
mod control;
mod dying;
mod limits;
mod refused;

pub(super) use asking::{across_the_ends, from_other_stack, from_own_stack};
pub(super) use control::control;
pub(super) use dying::{overflow_in_flight, task_dies, then_reuse};
#[cfg(test)]
pub(super) use limits::BAD;
pub(super) use limits::{bad_input, exhausted};

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
fn settled(crash: &Evidence, counters: [u64; 5]) -> Holds {
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

/// The values of the one `fact name WHAT ...`.
fn of<'a>(crash: &'a Evidence, name: &str, what: &str) -> Result<&'a [String], Shortfall> {
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
