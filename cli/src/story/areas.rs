//! Areas of any size, as both stories tell of them: what is listed, whether the counts agree, and what is left in the end.
//!
//! Facts, all numbers of pages but where something else is said:
//!
//! ```text
//!   vmalloc.area START END BYTES PAGES KIND LARGE CALLER      one each, lowest address first
//!   vmalloc.usage ALLOCATED FREED MAPPED                      by the counters
//!   vmalloc.recount AREAS BYTES PAGES RESERVED RECORDS        by the records
//!   vmalloc.tables MAPPED TABLES                              by the page tables
//!   vmalloc.addresses USED GUARDS PADDING SLOTS RUNS WAITING  how the addresses are used
//! ```

use vmstack_hosted::story::AreaStory;
use vmstack_vmalloc::AreaInfo;

use super::{Finding, listing};
use crate::console::{BadFact, Transcript, number};
use crate::screen::Screen;

/// One area, as the guest lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) bytes: u64,
    pub(crate) pages: u64,
    /// How many of its chunks a large page maps.
    pub(crate) large: u64,
    pub(crate) kind: String,
    /// Who asked for it: `FILE:LINE`.
    pub(crate) caller: String,
}

/// How the addresses that were ever used are used, in pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Addresses {
    pub(crate) used: u64,
    pub(crate) guards: u64,
    pub(crate) padding: u64,
    pub(crate) free_slots: u64,
    pub(crate) free_runs: u64,
    pub(crate) waiting: u64,
}

/// Everything that was said of the areas while they were there.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    pub(crate) listed: Vec<Listed>,
    /// Pages behind areas that can be accessed, where somebody looked.
    pub(crate) open_guards: Option<u64>,
    pub(crate) allocated: u64,
    pub(crate) freed: u64,
    /// Pages that are mapped for areas, by the counters.
    pub(crate) mapped: u64,
    pub(crate) areas: u64,
    pub(crate) bytes: u64,
    pub(crate) pages: u64,
    pub(crate) reserved: u64,
    pub(crate) records: u64,
    /// Pages that the page tables map in the range, and how many page tables there are, where somebody can see them.
    pub(crate) tables: Option<[u64; 2]>,
    pub(crate) addresses: Addresses,
    /// Pages that were never used, those that records may take, and the whole range.
    pub(crate) never_used: [u64; 3],
    /// How many free runs there are, and the longest.
    pub(crate) runs: [u64; 2],
    /// What is lost beside areas, and what lies scattered of what is free, in thousandths.
    pub(crate) permille: [u64; 2],
}

impl Account {
    /// What the guest said.
    pub(super) fn of(facts: &Transcript) -> Result<Self, BadFact> {
        let [allocated, freed, mapped] = facts.numbers("vmalloc.usage")?;
        let [areas, bytes, pages, reserved, records] = facts.numbers("vmalloc.recount")?;
        let [used, guards, padding, free_slots, free_runs, waiting] = facts.numbers("vmalloc.addresses")?;
        Ok(Self {
            listed: facts.all("vmalloc.area").iter().map(|words| listed(words)).collect::<Result<_, _>>()?,
            open_guards: Some(facts.number("vmalloc.open_guards")?),
            allocated,
            freed,
            mapped,
            areas,
            bytes,
            pages,
            reserved,
            records,
            tables: Some(facts.numbers("vmalloc.tables")?),
            addresses: Addresses { used, guards, padding, free_slots, free_runs, waiting },
            never_used: facts.numbers("vmalloc.never_used")?,
            runs: facts.numbers("vmalloc.free")?,
            permille: facts.numbers("vmalloc.permille")?,
        })
    }

    /// What the hosted port says.
    pub(crate) fn of_hosted(story: &AreaStory) -> Self {
        let AreaStory { listing, page_bytes, usage, recount, fragmentation: room, .. } = story;
        Self {
            listed: listing.iter().map(|area| Listed::hosted(area, *page_bytes)).collect(),
            open_guards: None,
            allocated: usage.allocated,
            freed: usage.freed,
            mapped: usage.pages(),
            areas: recount.areas,
            bytes: recount.bytes,
            pages: recount.pages,
            reserved: recount.reserved_pages,
            records: recount.record_pages,
            tables: None,
            addresses: Addresses {
                used: room.used,
                guards: room.guards,
                padding: room.padding,
                free_slots: room.free_slots,
                free_runs: room.free_runs,
                waiting: room.waiting,
            },
            never_used: [room.fresh, room.records, room.range],
            runs: [room.runs, room.longest_run],
            permille: [room.lost_permille(), room.scattered_permille()],
        }
    }

    /// The listing, the records, the counters and the page tables tell of the same areas (INV-COUNT).
    pub(crate) fn listing(&self) -> Finding {
        let sum = |of: fn(&Listed) -> u64| self.listed.iter().map(of).sum::<u64>();
        let listed = [self.listed.len() as u64, sum(|area| area.bytes), sum(|area| area.pages)];
        let mapped = self.pages.saturating_sub(self.reserved);
        let agree = listed == [self.areas, self.bytes, self.pages]
            && self.alive() == self.areas
            && self.mapped == mapped
            && self.tables.is_none_or(|[in_tables, _]| in_tables == mapped + self.records);
        let whole = self.listed.iter().all(Listed::is_whole) && self.listed.is_sorted_by(|a, b| a.end <= b.start);
        Finding::new(agree && whole && self.areas > 0, self.counts(listed)).with_figure(listed[0])
    }

    /// Areas that are alive, by the counters.
    const fn alive(&self) -> u64 {
        self.allocated.saturating_sub(self.freed)
    }

    /// What each count comes to, beside what is `listed`: areas, bytes, pages.
    fn counts(&self, [listed, listed_bytes, listed_pages]: [u64; 3]) -> String {
        let Self { areas, bytes, pages, mapped, records, .. } = self;
        let in_tables =
            self.tables.map(|[pages, _]| format!("; by the page tables {pages}, with {records} of records"));
        format!(
            "{listed} areas of {listed_bytes} bytes in {listed_pages} pages are listed; the records have {areas} of {bytes} in {pages}; \
             by the counters {} are alive and {mapped} pages mapped{}",
            self.alive(),
            in_tables.unwrap_or_default()
        )
    }

    /// INV-GUARD, for areas: behind each is a page that is nobody's.
    pub(crate) fn guards(&self) -> Finding {
        let pairs = self.listed.windows(2);
        let touching = pairs.filter(|pair| pair[1].start < pair[0].end.saturating_add(pair[0].page())).count() as u64;
        let open = self.open_guards.unwrap_or(0);
        let looked = self.open_guards.map_or_else(String::new, |open| format!(", and {open} guards are mapped"));
        let detail =
            format!("{touching} of {} areas have no guard between them and the next{looked}", self.listed.len());
        Finding::new(touching + open == 0 && !self.listed.is_empty(), detail).with_figure(touching + open)
    }

    /// Each page of the range is one thing, and areas take what they are. The figure is what is lost beside them.
    pub(crate) fn addresses(&self) -> Finding {
        let [fresh, records, range] = self.never_used;
        let told = self.addresses.all().iter().sum::<u64>() + fresh + records;
        let Addresses { used, guards, padding, .. } = self.addresses;
        let holds = told == range && used == self.pages && guards == self.areas;
        let detail = format!(
            "of {range} pages of addresses {told} are accounted for; areas have {used}, beside them {guards} guards and {padding} of \
             padding"
        );
        Finding::new(holds, detail).with_figure(self.permille[0])
    }
}

impl Addresses {
    /// All parts, in the order in which they are drawn.
    pub(crate) const fn all(&self) -> [u64; 6] {
        [self.used, self.guards, self.padding, self.free_slots, self.free_runs, self.waiting]
    }
}

impl Listed {
    fn hosted(area: &AreaInfo, page: usize) -> Self {
        let (range, kind) = (area.range, area.kind.name().to_owned());
        Self {
            start: range.start().get() as u64,
            end: range.end().get() as u64,
            bytes: area.bytes as u64,
            pages: (range.bytes() / page) as u64,
            large: area.large as u64,
            kind,
            caller: area.tag.to_string(),
        }
    }

    /// The size of a page, by what is said of this area.
    fn page(&self) -> u64 {
        self.end.saturating_sub(self.start).checked_div(self.pages).unwrap_or(1).max(1)
    }

    /// Whether it has pages, all of them, and not more than its bytes need.
    fn is_whole(&self) -> bool {
        let held = self.end.saturating_sub(self.start);
        self.pages > 0 && held == self.pages * self.page() && self.bytes <= held && self.bytes + self.page() > held
    }
}

fn listed(words: &[String]) -> Result<Listed, BadFact> {
    let read = || {
        let [start, end, bytes, pages, kind, large, caller] = words else { return None };
        Some(Listed {
            start: number(start)?,
            end: number(end)?,
            bytes: number(bytes)?,
            pages: number(pages)?,
            large: number(large)?,
            kind: kind.clone(),
            caller: caller.clone(),
        })
    };
    read().ok_or_else(|| BadFact::Malformed("vmalloc.area".to_owned(), words.join(" "), 5))
}

/// The claims of the kernel's story.
pub(super) fn listing(facts: &Transcript) -> Result<Finding, BadFact> {
    Account::of(facts).map(|account| account.listing())
}

pub(super) fn guards(facts: &Transcript) -> Result<Finding, BadFact> {
    Account::of(facts).map(|account| account.guards())
}

pub(super) fn addresses(facts: &Transcript) -> Result<Finding, BadFact> {
    Account::of(facts).map(|account| account.addresses())
}

/// INV-COUNT, for the frames of areas: none is held, none is lent, and as many are there as before.
pub(super) fn frames(facts: &Transcript) -> Result<Finding, BadFact> {
    let [areas, held, lent] = facts.numbers("vmalloc.left")?;
    let [before, after] = facts.numbers("vmalloc.frames")?;
    let detail = format!(
        "{held} frames are held after all areas were gone, records apart, {lent} lent, {areas} areas left; {before} frames before and \
         {after} after, by recount"
    );
    let missing = held + lent + before.abs_diff(after);
    Ok(Finding::new(missing + areas == 0, detail).with_figure(missing))
}

/// The listing, the totals and the use of addresses; and what was left.
pub(super) fn show(facts: &Transcript, screen: &mut Screen) {
    if let Ok(account) = Account::of(facts) {
        listing::draw(&account).iter().for_each(|line| screen.line(line));
    }
    if let (Ok([_, held, lent]), Ok([before, after])) = (facts.numbers("vmalloc.left"), facts.numbers("vmalloc.frames"))
    {
        screen.line(&format!(
            "  after all areas were freed: {held} frames held, {lent} lent; {before} before, {after} after"
        ));
    }
}
