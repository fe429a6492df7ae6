//! Any sequence of operations, against a model: what `model.rs` draws with proptest, `bytes.rs` from bytes of a fixed seed, and the fuzzer from its own.

#![allow(dead_code, reason = "each test program uses its own part of this")]
#![allow(clippy::unwrap_used, clippy::undocumented_unsafe_blocks, reason = "a test says what it does by failing")]
#![allow(clippy::allow_attributes, reason = "an expectation would fail in the programs that use all of it")]

mod looking;
mod op;

pub(crate) use op::{Free, Lay, Op, Size, Way};

use core::panic::Location;
use std::collections::BTreeMap;

use arbitrary::Unstructured;

use crate::fake::{
    CHUNK, DATA, Expected, Fake, FakeError, Flush, PAGE, READ_ONLY, STALE, State, Supply, assert_nothing_left,
    assert_tables_agree, give_everything_back, vmalloc_of,
};
use vmstack::{PhysAddr, VirtAddr};
use vmstack_paging::Attributes;
use vmstack_vmalloc::{Area, AreaError, AreaInfo, FreeError, Kind, Request, Tag, Vmalloc};

/// An area that was handed out.
#[derive(Clone, Debug)]
pub(crate) struct Live {
    info: AreaInfo,
    /// What it is mapped with, if it is.
    attributes: Option<Attributes>,
    /// The frames that it was made of, if somebody lent them.
    frames: Option<Vec<PhysAddr>>,
    /// What was written last, and to which page.
    mark: Option<(usize, u64)>,
}

pub(crate) struct Model<'a> {
    fake: &'a Fake,
    vmalloc: &'a Vmalloc<&'a Fake>,
    cpu: usize,
    /// By first address.
    live: BTreeMap<usize, Live>,
    /// Those that were freed, and whose addresses nobody else has.
    freed: BTreeMap<usize, Live>,
    /// The most bytes that an area can have.
    most: usize,
    steps: usize,
    /// Whether a failure was ordered that may not have come yet.
    failing: bool,
}

type Got<'a> = Result<Area<'a, &'a Fake>, AreaError<FakeError>>;

/// Does all of `ops`, and then gives everything back.
pub(crate) fn run(fake: &Fake, ops: &[Op]) {
    let vmalloc = &vmalloc_of(fake);
    let mut model = Model::new(fake, vmalloc);
    for op in ops {
        model.does(op);
        model.check();
    }
    model.ends();
}

/// Does what `bytes` stand for.
pub(crate) fn run_bytes(bytes: &[u8]) {
    let mut bytes = Unstructured::new(bytes);
    let Ok(first) = bytes.arbitrary::<u8>() else { return };
    let supply = Supply {
        flush: if first & 1 == 0 { Flush::WhenAsked } else { Flush::Now },
        foresees: first & 2 != 0,
        lent_twice: first & 4 != 0,
        large: usize::from(first >> 4),
        ..Supply::plenty()
    };
    let ops: Vec<Op> = bytes.arbitrary_iter().expect("there is an iterator").map_while(Result::ok).collect();
    run(&Fake::new(supply), &ops);
}

/// Bytes to whole pages.
fn pages(bytes: usize) -> usize {
    bytes.div_ceil(PAGE)
}

/// A few callers.
fn tag(which: usize) -> Tag {
    let tags: [&'static Location<'static>; 3] =
        [Tag::caller().location(), Tag::caller().location(), Location::caller()];
    Tag::new(tags[which % tags.len()])
}

impl<'a> Model<'a> {
    pub(crate) fn new(fake: &'a Fake, vmalloc: &'a Vmalloc<&'a Fake>) -> Self {
        let Err(AreaError::TooLarge { most, .. }) = vmalloc.reserve(&Request::new(usize::MAX / 2)).map(drop) else {
            panic!("half of all addresses are too many");
        };
        let (live, freed) = (BTreeMap::new(), BTreeMap::new());
        Self { fake, vmalloc, cpu: 0, live, freed, most, steps: 0, failing: false }
    }

    pub(crate) fn does(&mut self, op: &Op) {
        let (fake, vmalloc) = (self.fake, self.vmalloc);
        match *op {
            Op::Alloc(size, lay) => self.allocates(size, lay, false),
            Op::Brief(size, lay) => self.allocates(size, lay, true),
            Op::Reserve(size, lay) => self.reserves(size, lay),
            Op::Vmap { pages, first, way } => self.lends(usize::from(pages), usize::from(first), way),
            Op::Free(which) => self.frees(usize::from(which)),
            Op::BadFree(what, which, at) => self.frees_badly(what, usize::from(which), at as usize),
            Op::Find(at) => self.looks_at(self.anywhere(at as usize)),
            Op::Write(which, page) => self.writes(usize::from(which), usize::from(page)),
            Op::Speculate(at) => drop(fake.touch(self.anywhere(at as usize))),
            Op::RunOn(cpu) => {
                self.cpu = usize::from(cpu) % fake.supply().cpus;
                fake.run_on(self.cpu);
            }
            Op::FailIn(n) => {
                fake.failing().after(usize::from(n));
                self.failing = true;
            }
            Op::Drain => vmalloc.drain(),
            Op::Trim => vmalloc.trim(),
            Op::Pressure => vmalloc.pressure(),
            Op::Answer => vmalloc.answer_pressure(),
            Op::LeaveCpu => vmalloc.leave_cpu(),
        }
        self.steps += 1;
    }

    /// Somewhere in the range, or a little outside.
    fn anywhere(&self, at: usize) -> VirtAddr {
        let bytes = self.fake.range().bytes() + 2 * CHUNK;
        self.fake.range().start().wrapping_sub(CHUNK).wrapping_add(at.wrapping_mul(2053) % bytes)
    }

    fn nth(&self, which: usize) -> Option<usize> {
        let n = which.checked_rem(self.live.len())?;
        self.live.keys().nth(n).copied()
    }

    fn allocates(&mut self, size: Size, lay: Lay, brief: bool) {
        let request = lay.request(size);
        let got = if lay.waits() { self.vmalloc.alloc_waiting(&request) } else { self.vmalloc.alloc(&request) };
        let got = self.again_if_full(got, &request, lay);
        let Some(area) = self.judged(got, &request, lay.waits()) else { return };
        let live = Live { info: area.info().expect("it is alive"), attributes: Some(DATA), frames: None, mark: None };
        self.expect_contents(&live.info, lay.zeroed());
        self.got(area, live, lay.align(), Kind::Memory);
        if brief {
            // What was put down is taken up again, and dropped.
            let (&start, _) = self.live.iter().next_back().expect("there is one");
            self.frees_at(start);
        }
    }

    fn reserves(&mut self, size: Size, lay: Lay) {
        let request = lay.request(size);
        let got = self.vmalloc.reserve(&request);
        let Some(area) = self.judged(got, &request, false) else { return };
        let live = Live { info: area.info().expect("it is alive"), attributes: None, frames: None, mark: None };
        self.fake.assert_unknown(live.info.range);
        self.got(area, live, lay.align(), Kind::Reserved);
    }

    fn lends(&mut self, pages: usize, first: usize, way: Way) {
        let lent = self.fake.supply().lent;
        let frames: Vec<PhysAddr> =
            (0..pages % 700).map(|page| self.fake.lent_frame((first + page * 3) % lent)).collect();
        let attributes = if way.read_only() { READ_ONLY } else { DATA };
        let got = if way.short_lived() {
            unsafe { self.vmalloc.map_ram(&frames, attributes) }
        } else {
            unsafe { self.vmalloc.vmap(frames.iter().copied(), attributes, tag(first)) }
        };
        match got {
            Ok(area) => {
                let kind = if way.short_lived() { Kind::ShortLived } else { Kind::Lent };
                let live = Live {
                    info: area.info().expect("it is alive"),
                    attributes: Some(attributes),
                    frames: Some(frames),
                    mark: None,
                };
                self.got(area, live, 1, kind);
            }
            Err(AreaError::ZeroSize) => assert!(frames.is_empty()),
            Err(AreaError::Refused { frame, reason: FakeError::LentTwice }) => {
                let before = self.live.values().filter_map(|live| live.frames.as_ref()).flatten();
                let here = frames.iter().filter(|&&other| other == frame).count();
                let held = before.filter(|&&other| other == frame).count() > 0 || self.fake.count(State::Unmapped) > 0;
                assert!(here > 1 || held || self.fake.lent().0 > 0, "{frame:?} was lent only once");
            }
            Err(error) => self.expect_reason(error, pages, false),
        }
    }

    /// An area that could not be had for want of addresses, where it can wait: if there is room but for what is kept, it is had then.
    fn again_if_full(&mut self, got: Got<'a>, request: &Request, lay: Lay) -> Got<'a> {
        if !matches!(got, Err(AreaError::NoSpace { .. })) {
            return got;
        }
        self.gives_everything_back();
        let got = self.vmalloc.alloc_waiting(request);
        // Of runs that are long enough but lie wrong, some are tried.
        let all_tried = lay.align() <= CHUNK || self.vmalloc.fragmentation().runs <= 16;
        if matches!(got, Err(AreaError::NoSpace { .. })) && all_tried {
            assert!(!self.has_room(request.bytes(), lay.align()), "there is room for {request:?}");
        }
        got
    }

    /// Whether there are whole chunks in a row that no area touches.
    fn has_room(&self, bytes: usize, align: usize) -> bool {
        let need = pages(bytes) * PAGE + PAGE;
        let (align, areas) = (align.max(CHUNK), self.fake.areas());
        let mut start = areas.start().get().next_multiple_of(align);
        while start + need <= areas.end().get() {
            // Chunks that an area touches are its own, with its guards.
            let in_the_way = self.live.values().find(|live| {
                let (from, to) = (live.info.range.start().get(), live.info.range.end().get() + PAGE);
                from & !(CHUNK - 1) < start + need && start < to.next_multiple_of(CHUNK)
            });
            match in_the_way {
                None => return true,
                Some(live) => {
                    start = (live.info.range.end().get() + PAGE).next_multiple_of(CHUNK).next_multiple_of(align);
                }
            }
        }
        false
    }

    /// The area, or None and a good reason why there is none.
    fn judged(&self, got: Got<'a>, request: &Request, waited: bool) -> Option<Area<'a, &'a Fake>> {
        match got {
            Ok(area) => Some(area),
            Err(AreaError::ZeroSize) => {
                assert_eq!(request.bytes(), 0);
                None
            }
            Err(AreaError::TooLarge { most, .. }) => {
                assert!(request.bytes() > most && most == self.most, "{request:?}");
                None
            }
            Err(AreaError::NoSpace { .. } | AreaError::AlignmentTooLarge { .. }) => None,
            Err(error) => {
                self.expect_reason(error, pages(request.bytes()), waited);
                None
            }
        }
    }

    /// That it is true what the platform is said to have said.
    fn expect_reason(&self, error: AreaError<FakeError>, pages: usize, waited: bool) {
        let reason = match error {
            AreaError::NoFrames(reason) | AreaError::NoRecords(reason) | AreaError::NotMapped(reason) => reason,
            AreaError::Refused { reason, .. } => reason,
            AreaError::NoSpace { .. } => return,
            _ => panic!("{error}"),
        };
        match reason {
            FakeError::Told | FakeError::NoTables => assert!(self.failing, "{error}"),
            // Where nobody waited, some may have come back since.
            FakeError::NoFrames => {
                assert!(!waited || self.fake.free().0 < pages + 64, "{error}: {pages} of {:?}", self.fake.free());
            }
            FakeError::LentTwice => panic!("{error}"),
        }
    }

    fn expect_contents(&self, info: &AreaInfo, zeroed: bool) {
        let words = self.fake.words(info.range);
        assert_eq!(words.len(), info.range.bytes() / PAGE, "all of {info} is mapped");
        if zeroed {
            assert!(words.iter().all(|&word| word == 0), "{info} does not read as zero");
        } else {
            assert!(words.iter().all(|&word| word == 0 || word == STALE), "{info} holds what somebody wrote");
        }
    }

    /// What must hold of an area that was just handed out.
    fn got(&mut self, area: Area<'a, &'a Fake>, live: Live, align: usize, kind: Kind) {
        let info = live.info;
        assert_eq!((area.range(), area.start(), area.bytes()), (info.range, info.range.start(), info.bytes));
        assert_eq!((info.kind, info.range.bytes()), (kind, pages(info.bytes) * PAGE), "{info}");
        assert!(info.range.start().is_aligned(align.max(PAGE)), "{info} is not aligned to {align}");
        let (start, end) = (info.range.start().get(), info.range.end().get());
        assert!(info.range.start() >= self.fake.records().end(), "{info} lies in records");
        assert!(end + PAGE <= self.fake.range().end().get(), "{info} has no guard at the end of the range");
        let before = self.live.range(..start).next_back();
        assert!(
            before.is_none_or(|(_, before)| before.info.range.end().get() + PAGE <= start),
            "no guard below {info}"
        );
        let after = self.live.range(start..).next();
        assert!(after.is_none_or(|(&after, _)| end + PAGE <= after), "no guard above {info}");
        assert_eq!(self.fake.frame_at(info.range.start().wrapping_sub(1)), None, "INV-GUARD below {info}");
        assert_eq!(self.fake.frame_at(info.range.end()), None, "INV-GUARD above {info}");
        assert_eq!(area.into_raw(), info.range.start());
        self.freed.retain(|&from, freed| freed.info.range.end().get() + PAGE <= start || end + PAGE <= from);
        self.live.insert(start, live);
        self.looks_around(start);
    }

    fn frees(&mut self, which: usize) {
        if let Some(start) = self.nth(which) {
            self.frees_at(start);
        }
    }

    fn frees_at(&mut self, start: usize) {
        let live = self.live.remove(&start).expect("an area");
        if let Some((page, word)) = live.mark {
            let at = live.info.range.start().wrapping_add(page * PAGE);
            assert_eq!(self.fake.read(at), word, "somebody wrote to {}", live.info);
        }
        let addr = VirtAddr::new(start);
        assert_eq!(self.vmalloc.free(addr), Ok(()), "{}", live.info);
        assert!(self.fake.frame_at(addr).is_none(), "{} is mapped after it was freed", live.info);
        let twice = self.vmalloc.free(addr);
        assert_eq!(twice, Err(FreeError::Twice { addr, area: live.info }), "{}", live.info);
        self.freed.insert(start, live);
        self.looks_at(addr);
    }

    fn writes(&mut self, which: usize, page: usize) {
        let Some(start) = self.nth(which) else { return };
        let fake = self.fake;
        let live = self.live.get_mut(&start).expect("an area");
        let page = page % (live.info.range.bytes() / PAGE);
        let at = live.info.range.start().wrapping_add(page * PAGE);
        match (live.attributes, &live.frames) {
            (None, _) => assert!(!fake.touch(at), "a reservation is mapped"),
            // Others may have them too.
            (_, Some(_)) => assert!(fake.touch(at)),
            _ => {
                live.mark = Some((page, (start + self.steps) as u64));
                fake.write(at, (start + self.steps) as u64);
            }
        }
    }

    /// What must hold between any two operations.
    pub(crate) fn check(&mut self) {
        let fake = self.fake;
        let of_memory = self.live.values().filter(|live| live.info.kind == Kind::Memory);
        let memory: usize = of_memory.map(|live| live.info.range.bytes() / PAGE).sum();
        assert_eq!(fake.mapped(), memory + fake.record_pages(), "INV-COUNT: mapped are all areas and no others");
        if memory < 3000 || self.steps.is_multiple_of(32) {
            assert_tables_agree(fake, &self.expected());
            self.expect_listed();
            self.expect_counted();
        }
    }

    /// That the counters, and what is counted by walking the records, say what the model does (INV-COUNT).
    fn expect_counted(&self) {
        let sum = |of: fn(&AreaInfo) -> usize| self.live.values().map(|live| of(&live.info) as u64).sum::<u64>();
        let (areas, bytes) = (self.live.len() as u64, sum(|info| info.bytes));
        let all = sum(|info| info.range.bytes() / PAGE);
        let reserved = sum(|info| if info.kind == Kind::Reserved { info.range.bytes() / PAGE } else { 0 });
        let (usage, recount) = (self.vmalloc.usage(), self.vmalloc.recount());
        assert_eq!((usage.areas(), usage.pages()), (areas, all - reserved), "{usage:?}");
        assert_eq!((recount.areas, recount.bytes), (areas, bytes), "{recount:?}");
        assert_eq!((recount.pages, recount.reserved_pages), (all, reserved), "{recount:?}");
        assert_eq!(recount.record_pages, self.fake.record_pages() as u64, "{recount:?}");
        let addresses = self.vmalloc.fragmentation();
        let parts = [
            addresses.records,
            addresses.used,
            addresses.guards,
            addresses.padding,
            addresses.free_slots,
            addresses.free_runs,
            addresses.waiting,
            addresses.fresh,
        ];
        assert_eq!(addresses.range, (self.fake.range().bytes() / PAGE) as u64);
        assert_eq!(parts.iter().sum::<u64>(), addresses.range, "each page is one of these: {addresses:?}");
        assert_eq!((addresses.used, addresses.guards), (all, areas), "{addresses:?}");
        let large: usize = self.live.values().map(|live| live.info.large).sum();
        assert_eq!(addresses.large_chunks, large as u64, "{addresses:?}");
    }

    fn expected(&self) -> Vec<Expected> {
        let expected = |live: &Live| Expected {
            range: live.info.range,
            attributes: live.attributes,
            frames: live.frames.clone(),
            large: live.info.large,
        };
        self.live.values().map(expected).collect()
    }

    fn expect_listed(&self) {
        let mut listed = Vec::new();
        self.vmalloc.for_each(|info| listed.push(*info));
        listed.sort_by_key(|info| info.range.start());
        let live: Vec<AreaInfo> = self.live.values().map(|live| live.info).collect();
        assert_eq!(listed, live, "the listing has each area once");
    }

    fn gives_everything_back(&mut self) {
        self.failing = false;
        give_everything_back(self.fake, self.vmalloc);
        self.fake.run_on(self.cpu);
    }

    /// All areas are freed, each on some CPU, and nothing is left.
    pub(crate) fn ends(mut self) {
        self.fake.failing().stop();
        assert_tables_agree(self.fake, &self.expected());
        while let Some(start) = self.nth(self.steps * 7919) {
            self.does(&Op::RunOn((self.steps % 251) as u8));
            self.frees_at(start);
        }
        self.gives_everything_back();
        assert_nothing_left(self.fake, self.vmalloc);
        let all = self.vmalloc.reserve(&Request::new(self.most)).expect("all the range can be one area again");
        assert_eq!(all.bytes(), self.most);
        drop(all);
        self.gives_everything_back();
        assert_nothing_left(self.fake, self.vmalloc);
    }
}
