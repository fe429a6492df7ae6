//! The story on the hosted port: the same stacks in a Linux process, real faults, no emulator.
//!
//! The first thing of every run, and all of it where no emulator can be had. The port prints nothing itself: it returns
//! what happened, and this judges it under the names that the kernel's story uses. What only a kernel can show is skipped.

use vmstack::Phase;
use vmstack_hosted::current::{self, Cost, Costs};
use vmstack_hosted::story::{self, AreaStory, STACK_SIZE, Story};

use crate::checks::{Check, Verdict};
use crate::screen::Screen;
use crate::story::areas::Account;
use crate::story::drawing::{Slot, draw};
use crate::story::listing;

/// Columns of the drawing.
const COLUMNS: usize = 80;
const NO_CONTROL: &str = "the control needs stacks without guards, which only the kernel has";
const NO_COUNTING: &str = "instructions and page tables are counted in the kernel; a process does not see its own";
/// What is skipped, and why.
const SKIPPED: [(&str, &str); 25] = [
    ("control.neighbour_corrupted", NO_CONTROL),
    ("control.thread_info_corrupted", NO_CONTROL),
    ("control.mapped_thread_info_corrupted", NO_CONTROL),
    ("zero.words", "the port's own tests look at every word; its story does not"),
    ("protection.writable_text", "page tables are the kernel's; a process does not see its own"),
    ("cost.page_table_bytes_per_stack", NO_COUNTING),
    ("cost.alloc_free_virtual", NO_COUNTING),
    ("cost.alloc_free_direct", NO_COUNTING),
    ("cost.current_percpu", NO_COUNTING),
    ("cost.current_struct", NO_COUNTING),
    ("cost.current_slot", NO_COUNTING),
    ("flush.zero_words", FLUSHED),
    ("flush.frame_words", FLUSHED),
    ("control.unflushed_zero_words", FLUSHED),
    ("control.unflushed_frame_words", FLUSHED),
    ("storage.checksums", NO_DISK),
    ("storage.overflow_depth", NO_DISK),
    ("storage.one_process", NO_DISK),
    ("storage.disk_unchanged", NO_DISK),
    ("storage.ring", NO_DISK),
    ("storage.depth_8k", NO_DISK),
    ("storage.depth_16k", NO_DISK),
    ("storage.depth_32k", NO_DISK),
    ("storage.depth_64k", NO_DISK),
    ("storage.balance", NO_DISK),
];
/// Why nothing is read from a disk.
const NO_DISK: &str = "a process has no disk, and no kernel stack that its layers could fill";
/// Why there are no stale translations to look for.
const FLUSHED: &str = "Linux has flushed every TLB when a call that changes mappings returns";

/// What the checks are called when the kernel's are in the same list.
const PREFIX: &str = "hosted.";

/// Runs the hosted story in this process, shows it, and returns its findings.
#[must_use]
pub fn tell(screen: &mut Screen) -> Vec<Check> {
    screen.heading("In a Linux process: mapped stacks with guards, a real overflow");
    match story::tell() {
        Ok(story) => {
            show(&story, screen);
            let mut checks = judge(&story);
            checks.extend(costs(current::measure().map_err(|error| error.to_string())));
            checks
        }
        Err(error) => vec![Check::fail("overflow.reported_once", format!("the hosted story broke off: {error}"))],
    }
}

/// The same findings under names of their own, for a run that goes on to the kernel. What is skipped is left out.
#[must_use]
pub fn beside_kernel(checks: Vec<Check>) -> Vec<Check> {
    let told = checks.into_iter().filter(|check| check.outcome != Verdict::Skip);
    told.map(|check| Check { name: format!("{PREFIX}{}", check.name), ..check }).collect()
}

fn show(story: &Story, screen: &mut Screen) {
    screen.line("");
    story.report.lines().for_each(|line| screen.line(line));
    screen.line("");
    screen.line(&format!("  {} of the {} other tasks went on after the overflow", story.survivors, story.others));
    let slots: Vec<Slot<'_>> = story.slots.iter().map(slot).collect();
    draw(&slots, COLUMNS).iter().for_each(|line| screen.line(line));
    show_areas(&story.areas, screen);
}

/// The areas of a vmalloc, how their addresses are used, and what became of whoever left one.
fn show_areas(story: &AreaStory, screen: &mut Screen) {
    listing::draw(&Account::of_hosted(story)).iter().for_each(|line| screen.line(line));
    screen.line("");
    story.report.lines().for_each(|line| screen.line(line));
}

fn slot(state: &vmstack_hosted::SlotState) -> Slot<'static> {
    let live = state.phase == Phase::Live;
    Slot {
        index: u64::from(state.index),
        state: if live { "live" } else { "ready" },
        used: state.used as u64,
        size: STACK_SIZE as u64,
        owner: state.owner.clone(),
    }
}

fn judge(story: &Story) -> Vec<Check> {
    let mut checks = Vec::from(overflow(story));
    checks.extend(memory(story));
    checks.extend(areas(&story.areas));
    checks.extend(SKIPPED.map(|(name, why)| Check::skip(name, why)));
    checks
}

fn verdict(holds: bool) -> Verdict {
    if holds { Verdict::Pass } else { Verdict::Fail }
}

fn overflow(story: &Story) -> [Check; 3] {
    let Story { reported, killed, others, survivors, .. } = story;
    let once = format!("{reported} reports; one overflow was provoked");
    let dead = format!("killed: {}", killed.join(", "));
    let alive = format!("{survivors} of the {others} other tasks went on after the overflow");
    [
        Check::new("overflow.reported_once", verdict(*reported == 1), once).with_figure(*reported, "reports"),
        Check::new("overflow.task_killed", verdict(killed.len() == 1), dead),
        Check::new("overflow.survivors", verdict(survivors == others && *others > 0), alive)
            .with_figure(*survivors, "tasks"),
    ]
}

fn memory(story: &Story) -> [Check; 5] {
    let scattered = &story.fragmented;
    let (free, run) = (scattered.free_bytes, scattered.longest_run_bytes);
    let direct = format!("with {free} bytes free but scattered, the longest run is {run} bytes");
    let mapped = format!("with {free} bytes free but scattered, a mapped stack could be had: {}", scattered.mapped);
    [
        Check::new("fragmentation.direct_fails", verdict(run < scattered.stack_bytes && free > 0), direct),
        Check::new("fragmentation.virtual_succeeds", verdict(scattered.mapped), mapped),
        guards(story.open_guard_pages),
        frames(story),
        slots(story),
    ]
}

fn guards(open: Option<usize>) -> Check {
    const NAME: &str = "guard.frames";
    match open {
        Some(open) => Check::new(NAME, verdict(open == 0), format!("{open} pages between the stacks can be accessed"))
            .with_figure(open, "frames"),
        None => Check::skip(NAME, "this system does not tell a process what it has mapped"),
    }
}

fn frames(story: &Story) -> Check {
    let held = |balance: &story::Balance| balance.frames_taken.saturating_sub(balance.record_frames);
    let (before, after) = (held(&story.before), held(&story.after));
    let detail = format!("{before} frames held before and {after} after all tasks were gone, records apart");
    Check::new("balance.frames", verdict(before == after), detail).with_figure(before.abs_diff(after), "frames")
}

fn slots(story: &Story) -> Check {
    let held = story.after.slots_held + story.after.slots_leaked;
    let detail = format!("{held} slots are held after all tasks were gone");
    Check::new("balance.slots", verdict(held == 0), detail).with_figure(held, "slots")
}

fn areas(story: &AreaStory) -> [Check; 5] {
    let account = Account::of_hosted(story);
    let named = "an access past the end of an area was reported with the area and who asked for it";
    let left = format!("{} frames are held after all areas were gone, records apart", story.frames_left);
    [
        account.listing().check("vmalloc.listing", "areas"),
        account.guards().check("vmalloc.guards", "guards"),
        account.addresses().check("vmalloc.addresses", "permille"),
        Check::new("vmalloc.overrun_named", verdict(story.named), format!("{named}: {}", story.named)),
        Check::new("balance.area_frames", verdict(story.frames_left == 0), left)
            .with_figure(story.frames_left, "frames"),
    ]
}

/// What each way to the running task's flags costs in time, beside the one that this kernel takes.
fn costs(measured: Result<Costs, String>) -> Vec<Check> {
    const NAMES: [&str; 3] = ["cost.current_percpu.ns", "cost.current_struct.ns", "cost.current_slot.ns"];
    let costs = match measured {
        Ok(costs) => costs,
        Err(error) => {
            return NAMES.map(|name| Check::skip(name, format!("it cannot be measured here: {error}"))).into();
        }
    };
    let Costs { per_cpu, task_struct, slot, .. } = costs;
    let words = ["in the per-CPU block", "in the task struct", "in a page of the stack's slot"];
    let rows = NAMES.into_iter().zip(words).zip([per_cpu, task_struct, slot]);
    rows.map(|((name, words), cost)| cost_of(name, words, cost, per_cpu)).collect()
}

fn cost_of(name: &str, words: &str, cost: Cost, least: Cost) -> Check {
    let ns = |picoseconds: u64| picoseconds as f64 / 1000.0;
    let times = |cost: u64, least: u64| cost as f64 / least.max(1) as f64;
    let detail = format!(
        "{:.2} ns with one task, {:.2} ns with a thousand in turns, to test the running task's flags {words}: {:.1} and {:.1} times the \
         per-CPU way",
        ns(cost.warm),
        ns(cost.cold),
        times(cost.warm, least.warm),
        times(cost.cold, least.cold)
    );
    // A figure of one run on one machine: nothing is expected of it.
    Check::new(name, Verdict::Pass, detail).with_figure(cost.cold, "ps")
}

#[cfg(test)]
mod tests {
    use super::{beside_kernel, judge};
    use crate::checks::{Verdict, all_hold};

    #[test]
    fn the_hosted_story_holds_and_has_the_names_of_the_kernels() {
        let checks = judge(&vmstack_hosted::story::tell().expect("it can be told"));
        assert!(all_hold(&checks), "{checks:#?}");
        let kernel = crate::story::SCENES.iter().flat_map(|scene| scene.claims.iter().map(|claim| claim.name));
        for name in kernel {
            assert!(checks.iter().any(|check| check.name == name), "{name} is missing");
        }
        let beside = beside_kernel(checks);
        assert!(beside.iter().all(|check| check.name.starts_with("hosted.") && check.outcome == Verdict::Pass));
    }

    #[test]
    fn each_claim_can_fail() {
        let told = vmstack_hosted::story::tell().expect("it can be told");
        let mut bad = told.clone();
        bad.reported = 2;
        bad.killed.clear();
        bad.survivors = 0;
        bad.fragmented.longest_run_bytes = 1 << 20;
        bad.fragmented.mapped = false;
        bad.open_guard_pages = Some(1);
        bad.after.frames_taken += 1;
        bad.after.slots_leaked = 1;
        bad.areas.recount.areas += 1;
        bad.areas.fragmentation.used += 1;
        // Twice the same area: nothing lies between the two.
        bad.areas.listing.insert(0, bad.areas.listing[0]);
        bad.areas.named = false;
        bad.areas.frames_left = 1;
        let checks = judge(&bad);
        assert!(checks.iter().all(|check| check.outcome != Verdict::Pass), "{checks:#?}");
    }
}
