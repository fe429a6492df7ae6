//! Tasks that die while the device has their stack, and whoever has the stack next.

use super::{Policy, ended, numbers_of, of, passed, right, said, settled, tasks};
use crate::console::number;
use crate::crash::facts::{Evidence, Holds, Shortfall, hold, odd};
use crate::crash::special::Seen;

/// Tasks die, by overflow and by exit, while the device writes their stack.
pub(in crate::crash) fn task_dies(crash: &Evidence) -> Result<Seen, Shortfall> {
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
pub(in crate::crash) fn then_reuse(crash: &Evidence) -> Result<Seen, Shortfall> {
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

/// Tasks die with three requests each in flight, one on each CPU; another task ends what they began.
pub(in crate::crash) fn overflow_in_flight(crash: &Evidence) -> Result<Seen, Shortfall> {
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
