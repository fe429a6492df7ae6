//! A device that has a task's stack, or is not to have it.
//!
//! Each script asks the door for memory of a stack, as a driver does, with QEMU's `edu` as the device: it reads and writes when it is told to, and
//! takes its time, so that a task can die meanwhile. Where it is not plugged in, `fact dma.device 0` is all that is said.
//!
//! The word of a script is the door's policy while it runs: `refuse`, `bounce` or `map`.
//!
//! | file | what |
//! | --- | --- |
//! | `engine` | the driver: requests, and who ends them |
//! | `bytes` | what memory holds, and what the device does |
//! | `facts` | what is said of a refusal, and the balance of the door |
//! | `asking` | a task's own stack, another's, and what lies across the end of one |
//! | `dying` | tasks that die while the device has their stack, and who is next on it |
//! | `limits` | bad requests, and more than the pool has |
//! | `arithmetic` | the control: what comes of an address that was computed |

use vmstack::DmaPolicy;

use super::script::Script;
use crate::arch::edu_dma;
use crate::dma::DOOR;
use crate::{fact, println};

mod arithmetic;
mod asking;
mod bytes;
mod dying;
mod engine;
mod facts;
mod limits;

pub(crate) use engine::lock;
use facts::Tally;

pub(super) static SCRIPTS: [Script; 9] = [
    Script { name: "DMA_FROM_STACK", run: |word| under(word, asking::from_own_stack) },
    Script { name: "DMA_FROM_OTHER_STACK", run: |word| under(word, asking::from_other_stack) },
    Script { name: "DMA_ACROSS_STACK_TOP", run: |word| under(word, asking::across_the_ends) },
    Script { name: "DMA_STACK_TASK_DIES", run: |word| under(word, dying::in_mid_transfer) },
    Script { name: "DMA_THEN_REUSE", run: |word| under(word, dying::then_reuse) },
    Script { name: "DMA_BOUNCE_EXHAUSTED", run: |word| under(word, limits::exhaust) },
    Script { name: "DMA_BAD_INPUT", run: |word| under(word, limits::bad_input) },
    Script { name: "DMA_BY_ARITHMETIC", run: |_| under("map", arithmetic::control) },
    Script { name: "OVERFLOW_WITH_DMA_IN_FLIGHT", run: |word| under(word, dying::overflow_in_flight) },
];

/// Runs a script under the policy called `word`, and says what the door did meanwhile, and what it still holds.
fn under(word: &str, run: fn()) {
    fact!("dma.device", "{}", u8::from(edu_dma::is_there()));
    let Some(policy) = policy(word).filter(|_| edu_dma::is_there()) else { return };
    let usual = DOOR.policy();
    DOOR.set_policy(policy);
    let before = Tally::take();
    run();
    engine::wait_for_all();
    Tally::take().print_since(&before);
    DOOR.set_policy(usual);
}

fn policy(word: &str) -> Option<DmaPolicy> {
    let found = match word {
        "refuse" => Some(DmaPolicy::Refuse),
        "bounce" => Some(DmaPolicy::Bounce),
        "map" => Some(DmaPolicy::Map),
        _ => None,
    };
    if found.is_none() {
        println!("vmstack: there is no policy called `{word}`");
    }
    found
}
