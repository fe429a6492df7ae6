//! Tasks that ask for a stack: refused by name, or let through, and then each byte is right.

use super::refused::{Asked, Refused};
use super::{Policy, nothing_passed, passed, right, said, settled, tasks};
use crate::crash::facts::{Evidence, Shortfall, hold};
use crate::crash::special::Seen;

/// A task's own buffer: refused by name, or read and written by the device.
pub(in crate::crash) fn from_own_stack(crash: &Evidence) -> Result<Seen, Shortfall> {
    tasks(crash, 1)?;
    exchanged(crash)
}

/// Another task's buffer: it is its stack that is named, and not that of the task that asked.
pub(in crate::crash) fn from_other_stack(crash: &Evidence) -> Result<Seen, Shortfall> {
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
pub(in crate::crash) fn across_the_ends(crash: &Evidence) -> Result<Seen, Shortfall> {
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
