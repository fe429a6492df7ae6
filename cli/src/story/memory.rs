//! What stacks take of memory: fragmented memory, guards, page tables, and whether all of it comes back.

use super::Finding;
use crate::console::{BadFact, Transcript};
use crate::screen::Screen;

const DIRECT: &str = "fragmentation.direct.got";
const VIRTUAL: &str = "fragmentation.virtual.got";
const FREE: &str = "fragmentation.free";

/// Memory is free, but no two frames of it are neighbours: a contiguous stack cannot be had.
pub(super) fn direct_fails(facts: &Transcript) -> Result<Finding, BadFact> {
    let (free, got) = (facts.number(FREE)?, facts.number(DIRECT)?);
    let detail = format!("with {free} bytes free but scattered, {got} contiguous stacks could be had");
    Ok(Finding::new(free > 0 && got == 0, detail).with_figure(got))
}

/// The same memory, page by page.
pub(super) fn virtual_succeeds(facts: &Transcript) -> Result<Finding, BadFact> {
    let (free, got) = (facts.number(FREE)?, facts.number(VIRTUAL)?);
    let detail = format!("with {free} bytes free but scattered, {got} stacks could be had page by page");
    Ok(Finding::new(got > facts.number(DIRECT)?, detail).with_figure(got))
}

/// INV-ZERO: a stack that is handed out reads as zero, whoever used it before.
pub(super) fn zero_words(facts: &Transcript) -> Result<Finding, BadFact> {
    let words = facts.number("zero.words")?;
    let detail = format!("{words} words that are not zero in stacks that were handed out after the tasks were gone");
    Ok(Finding::new(words == 0, detail).with_figure(words))
}

/// INV-GUARD: guards take no frame.
pub(super) fn guard_frames(facts: &Transcript) -> Result<Finding, BadFact> {
    let frames = facts.number("guard.frames")?;
    let detail = format!("{frames} frames are mapped where guards should be");
    Ok(Finding::new(frames == 0, detail).with_figure(frames))
}

/// W^X: what can be executed cannot be written, under any address.
pub(super) fn writable_text(facts: &Transcript) -> Result<Finding, BadFact> {
    let pages = facts.number("protection.writable_text")?;
    let detail = format!("{pages} mappings through which the kernel's code could be written, the direct map included");
    Ok(Finding::new(pages == 0, detail).with_figure(pages))
}

/// INV-COUNT, for frames. The figure is what was lost; negative when there are more than before.
pub(super) fn balance_frames(facts: &Transcript) -> Result<Finding, BadFact> {
    let [before, after] = facts.numbers("balance.frames")?;
    let [tables_before, tables_after] = facts.numbers("balance.tables")?;
    let detail = format!(
        "{before} frames before and {after} after all tasks were gone; page tables of the area: {tables_before} before, \
         {tables_after} after"
    );
    let lost = i64::try_from(i128::from(before) - i128::from(after)).unwrap_or(i64::MAX);
    Ok(Finding::new(before == after, detail).with_figure(lost))
}

/// INV-COUNT, for slots.
pub(super) fn balance_slots(facts: &Transcript) -> Result<Finding, BadFact> {
    let live = facts.number("balance.slots")?;
    Ok(Finding::new(live == 0, format!("{live} slots are live after all tasks were gone")).with_figure(live))
}

/// The figure is in bytes for each stack.
pub(super) fn page_tables(facts: &Transcript) -> Result<Finding, BadFact> {
    let [stacks, bytes] = facts.numbers("cost.page_table_bytes")?;
    let detail = format!("{bytes} bytes of page tables for {stacks} stacks");
    let finding = Finding::new(stacks > 0, detail);
    match bytes.checked_rem(stacks) {
        None => Ok(finding),
        Some(0) => Ok(finding.with_figure(bytes / stacks)),
        Some(_) => Ok(Finding { figure: serde_json::Number::from_f64(tenths(bytes, stacks)), ..finding }),
    }
}

/// The quotient, to a tenth.
#[expect(clippy::cast_precision_loss, reason = "sizes of page tables are far below 2^53 bytes")]
fn tenths(bytes: u64, stacks: u64) -> f64 {
    (bytes as f64 / stacks as f64 * 10.0).round() / 10.0
}

/// Two lines: what scattered memory was good for.
pub(super) fn show(facts: &Transcript, screen: &mut Screen) {
    if let (Ok(free), Ok(direct), Ok(mapped)) = (facts.number(FREE), facts.number(DIRECT), facts.number(VIRTUAL)) {
        screen.line(&format!("  {} KiB of memory free, no two pages of it neighbours:", free / 1024));
        screen.line(&format!("  contiguous stacks that could be had: {direct}; page by page: {mapped}"));
    }
}
