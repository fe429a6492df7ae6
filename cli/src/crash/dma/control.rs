//! The control for devices and stacks: what comes of a bus address that was computed, and of the same transfer by the library.

use super::refused::Refused;
use super::settled;
use crate::console::number;
use crate::crash::facts::{Evidence, Holds, Shortfall, hold, odd};
use crate::crash::special::Seen;

/// How a driver computes, and what part of the transfer goes elsewhere, in halves.
const WAYS: [(&str, u64); 2] = [("direct-map", 2), ("first-frame", 1)];
const DIRECTIONS: [&str; 2] = ["read", "write"];
/// The policies, and how stacks are let through under each.
const POLICIES: [(&str, &str); 3] = [("refuse", "refused"), ("bounce", "bounced"), ("map", "mapped")];

/// By arithmetic the device reads and writes a frame that is not the stack's; by the library it never does.
pub(in crate::crash) fn control(crash: &Evidence) -> Result<Seen, Shortfall> {
    let owned = crash.facts.number("dma.victims")?;
    hold(owned == WAYS.len() as u64, || format!("{owned} of the frames that are hit are the script's"))?;
    for (way, halves) in WAYS {
        DIRECTIONS.into_iter().try_for_each(|direction| computed(crash, way, halves, direction))?;
        for (policy, passage) in POLICIES {
            DIRECTIONS.into_iter().try_for_each(|direction| by_library(crash, [way, policy, direction, passage]))?;
        }
    }
    let refused = Refused::all(crash)?;
    refused.iter().try_for_each(|refused| refused.is_for("stack"))?;
    let each = (WAYS.len() * DIRECTIONS.len()) as u64;
    settled(crash, [each, each, each, 0, 0])?;
    let said = "computed, the device reads and writes another's frame; by the library it does not".to_owned();
    Ok(Seen { said, ..Seen::default() })
}

/// The numbers behind `words` in the one `fact name`.
fn row<const N: usize>(crash: &Evidence, name: &str, words: &[&str]) -> Result<[u64; N], Shortfall> {
    let mut rows = crash.facts.all(name).iter().filter(|row| row.iter().take(words.len()).eq(words));
    let (Some(row), None) = (rows.next(), rows.next()) else {
        return Err(Shortfall(format!("there is not one fact `{name} {}`", words.join(" "))));
    };
    let numbers: Option<Vec<u64>> = row[words.len()..].iter().map(|word| number(word)).collect();
    numbers.and_then(|numbers| numbers.try_into().ok()).ok_or_else(|| odd(name, row))
}

/// So many halves of the transfer are another frame's, and no more.
fn computed(crash: &Evidence, way: &str, halves: u64, direction: &str) -> Holds {
    let [bytes, right, hit] = row(crash, "dma.arithmetic", &[way, direction])?;
    hold(bytes > 0 && hit == bytes / 2 * halves && right + hit == bytes, || {
        format!("by the {way} the {direction} of {bytes} bytes had {right} right, and {hit} of another frame")
    })
}

/// Every byte is as it must be, and none of the other frame's was altered.
fn by_library(crash: &Evidence, words: [&str; 4]) -> Holds {
    let [bytes, right, altered] = row(crash, "dma.library", &words)?;
    let what = words.join(" ");
    hold(bytes > 0 && right == bytes, || format!("{what}: of {bytes} bytes {right} are right"))?;
    hold(altered == 0, || format!("{what}: {altered} bytes of another frame were altered"))
}
