//! What nobody can carry out: more than the pool has, and what makes no sense.

use super::refused::{Asked, Refused};
use super::{Policy, ended, said, settled};
use crate::console::number;
use crate::crash::facts::{Evidence, Shortfall, hold, odd};
use crate::crash::special::Seen;

/// As many requests as there are buffers pass; the next one does not, until one has ended.
pub(in crate::crash) fn exhausted(crash: &Evidence) -> Result<Seen, Shortfall> {
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
pub(in crate::crash) const BAD: [(&str, [&str; 3], u64); 17] = [
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
    ("list", ["across-bottom:16"; 3], 2),
    ("full", ["list-full:2"; 3], 2),
    (UNSHARE, ["not-shared"; 3], 0),
];
/// A mistake at the end of a transfer, which is no request.
const UNSHARE: &str = "unshare";

/// Each request that makes no sense is refused by a reason of its own, and nothing is kept for it.
pub(in crate::crash) fn bad_input(crash: &Evidence) -> Result<Seen, Shortfall> {
    let mut refused = 0;
    for (column, policy) in ["refuse", "bounce", "map"].into_iter().enumerate() {
        for (row, expected, entry) in BAD {
            let words = bad(crash, policy, row)?;
            let [why, at] = words else { return Err(odd("dma.bad", words)) };
            hold(why == expected[column], || format!("{policy}: `{row}` came to {why}, not {}", expected[column]))?;
            hold(number(at) == Some(entry), || format!("{policy}: `{row}` is about entry {at}, not {entry}"))?;
            refused += u64::from(row != UNSHARE);
        }
    }
    let all = crash.facts.all("dma.bad").len();
    hold(all == 3 * BAD.len(), || format!("{all} rows, not {}", 3 * BAD.len()))?;
    settled(crash, [refused, 0, 0, 0, 0])?;
    Ok(said(&format!("{} rows under three policies, each with its own error", BAD.len())))
}

/// What is said of one row.
fn bad<'a>(crash: &'a Evidence, policy: &str, row: &str) -> Result<&'a [String], Shortfall> {
    let found = crash.facts.all("dma.bad").iter().find(|words| words.iter().take(2).eq([policy, row]));
    found.map(|words| &words[2..]).ok_or_else(|| Shortfall(format!("nothing is said of `{row}` under {policy}")))
}
