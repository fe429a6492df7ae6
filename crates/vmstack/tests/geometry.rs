//! Every bad shape has an error of its own, and every good one keeps its guards.

#![expect(clippy::unwrap_used, clippy::undocumented_unsafe_blocks, reason = "a test says what it does by failing")]

mod fake;

use fake::{Fake, FakeError, FakeOf, Flush};
use proptest::prelude::{Strategy, prop_assert, prop_assert_eq, proptest};
use vmstack::{AreaConfig, Geometry, GeometryError, InitError, StackArea, VirtAddr, VirtRange};

const MIB: usize = 1 << 20;

fn shape_of<const PAGE: usize>(
    build: impl FnOnce(&FakeOf<PAGE>) -> AreaConfig,
) -> Result<Geometry, InitError<FakeError>> {
    let fake = FakeOf::<PAGE>::new(2, 64, 4 * MIB, Flush::Now);
    let area = StackArea::new(&fake);
    // The fake's memory is this area's alone.
    unsafe { area.init(&build(&fake)) }.copied()
}

fn error_of(build: impl FnOnce(&Fake) -> AreaConfig) -> GeometryError {
    match shape_of::<4096>(build) {
        Err(InitError::Geometry(error)) => error,
        other => panic!("{other:?} is not a geometry error"),
    }
}

#[test]
fn every_bad_combination_has_its_own_error() {
    use GeometryError as E;
    let size = 16 << 10;
    let cases: Vec<(GeometryError, GeometryError)> = vec![
        (error_of(|f| f.config(4, 2048)), E::StackTooSmall { size: 2048, min: 4096 }),
        (error_of(|f| f.config(4, MIB)), E::StackTooLarge { size: MIB, max: 512 << 10 }),
        (error_of(|f| f.config(4, 12 << 10)), E::StackNotPowerOfTwo { size: 12 << 10 }),
        (error_of(|f| f.config(4, size).populated(4096)), E::PartlyPopulated { size, populated: 4096 }),
        (error_of(|f| f.config(4, size).leading_guard(0)), E::NoLeadingGuard),
        (error_of(|f| f.config(4, size).trailing_guard(0)), E::NoTrailingGuard),
        (error_of(|f| f.config(4, size).leading_guard(100)), E::LeadingGuardNotPages { guard: 100, page: 4096 }),
        (error_of(|f| f.config(4, size).trailing_guard(100)), E::TrailingGuardNotPages { guard: 100, page: 4096 }),
        (error_of(|f| f.config(4, size).stride(48 << 10)), E::StrideNotPowerOfTwo { stride: 48 << 10 }),
        (error_of(|f| f.config(4, size).stride(size)), E::StrideTooSmall { stride: size, needed: size + 4096 }),
        (error_of(|f| f.config(0, size)), E::NoSlots),
        (error_of(|f| f.config((1 << 22) + 1, size)), E::TooManySlots { slots: (1 << 22) + 1, max: 1 << 22 }),
        (error_of(|f| AreaConfig::new(f.range(), 4, size, 0)), E::NoCpus),
        (error_of(|f| AreaConfig::new(f.range(), 4, size, 5000)), E::TooManyCpus { cpus: 5000, max: 4096 }),
    ];
    for (got, expected) in &cases {
        assert_eq!(got, expected);
        assert!(!got.to_string().is_empty());
    }
}

#[test]
fn a_range_off_its_page_boundaries_is_refused() {
    let error = error_of(|f| {
        let range = VirtRange::new(f.range().start().wrapping_add(8), MIB).unwrap();
        AreaConfig::new(range, 4, 16 << 10, 1)
    });
    assert!(matches!(error, GeometryError::RangeNotPages { page: 4096, .. }), "{error:?}");
}

#[test]
fn an_address_space_too_small_for_the_slots_says_what_is_needed() {
    let error = error_of(|f| f.config(4096, 16 << 10));
    let GeometryError::RangeTooSmall { needed: Some(needed), have } = error else { panic!("{error:?}") };
    assert_eq!(have, 4 * MIB);
    assert!(needed > 128 * MIB && needed < 130 * MIB, "{needed}");
}

#[test]
fn a_guard_that_no_address_space_holds_is_an_error_and_not_an_overflow() {
    let error = error_of(|f| f.config(4, 16 << 10).leading_guard(usize::MAX & !4095));
    assert!(matches!(error, GeometryError::RangeTooSmall { needed: None, .. }), "{error:?}");
    let high = VirtRange::new(VirtAddr::new(usize::MAX & !0xf_ffff), MIB / 2).unwrap();
    let error = error_of(|_| AreaConfig::new(high, 1 << 22, 512 << 10, 1));
    assert!(matches!(error, GeometryError::RangeTooSmall { .. }), "{error:?}");
}

#[test]
fn the_bytes_needed_have_the_errors_of_the_shape() {
    let needed = |slots, size| StackArea::<&Fake>::bytes_needed(&AreaConfig::new(VirtRange::EMPTY, slots, size, 1));
    assert_eq!(needed(0, 4096), Err(GeometryError::NoSlots));
    assert_eq!(needed(1, 2048), Err(GeometryError::StackTooSmall { size: 2048, min: 4096 }));
    let endless = AreaConfig::new(VirtRange::EMPTY, 4, 4096, 1).stride(1 << (usize::BITS - 1));
    let error = GeometryError::RangeTooSmall { needed: None, have: 0 };
    assert_eq!(StackArea::<&Fake>::bytes_needed(&endless), Err(error));
}

#[test]
fn a_page_size_that_no_architecture_has_is_refused() {
    let shape = shape_of::<8192>(|f| f.config(4, 16 << 10));
    assert_eq!(shape, Err(InitError::Geometry(GeometryError::PageSize { page: 8192 })));
}

#[test]
fn a_stack_is_at_least_a_page_of_the_platform() {
    let shape = shape_of::<16384>(|f| f.config(4, 8 << 10));
    let error = GeometryError::StackTooSmall { size: 8 << 10, min: 16 << 10 };
    assert_eq!(shape, Err(InitError::Geometry(error)));
    assert_eq!(shape_of::<16384>(|f| f.config(4, 16 << 10)).map(|g| g.stack_pages()), Ok(1));
    assert_eq!(shape_of::<65536>(|f| f.config(2, 128 << 10)).map(|g| g.stack_pages()), Ok(2));
}

#[test]
fn four_million_slots_cost_at_most_64_kib_until_used() {
    for (pages, page) in [(first_cost::<4096>(), 4096), (first_cost::<16384>(), 16384), (first_cost::<65536>(), 65536)]
    {
        assert!(pages * page <= 64 << 10, "{pages} pages of {page}");
    }
}

fn first_cost<const PAGE: usize>() -> usize {
    // Address space for all of it, without memory: nothing but the directory is touched.
    let fake = FakeOf::<PAGE>::new(8, 64, 4 * MIB, Flush::Now);
    let area = StackArea::new(&fake);
    let stack = PAGE.max(4096);
    let slots = 1 << 22;
    let range = VirtRange::new(fake.range().start(), slots * stack * 2 + (1 << 30)).unwrap();
    unsafe { area.init(&AreaConfig::new(range, slots, stack, 8)) }.unwrap();
    assert_eq!(area.recount().metadata_pages, fake.mapped_pages());
    fake.mapped_pages()
}

#[test]
fn the_overflow_bit_tells_a_stack_from_the_guard_under_it() {
    for size in [4096, 8192, 16384, 65536] {
        let shape = shape_of::<4096>(|f| f.config(4, size)).unwrap();
        let bit = 1 << shape.overflow_bit().unwrap();
        for slot in (0..4).filter_map(|i| shape.slot(i)) {
            let bottom = shape.bottom(slot).get();
            assert!((bottom..bottom + size).step_by(64).all(|addr| addr & bit != 0));
            assert!((bottom - size..bottom).step_by(64).all(|addr| addr & bit == 0));
        }
    }
}

fn shapes() -> impl Strategy<Value = (usize, usize, usize, usize)> {
    (12_u32..17, 1_usize..6, 1_usize..6, 1_usize..9)
        .prop_map(|(shift, lead, trail, slots)| (1_usize << shift, lead * 4096, trail * 4096, slots))
}

proptest! {
    #[test]
    fn the_bytes_needed_are_enough_wherever_the_range_starts_and_not_many_more(
        (size, lead, trail, slots) in shapes(),
        start in 0_usize..64,
    ) {
        let fake = Fake::new(2, 64, 8 * MIB, Flush::Now);
        let config = |range| AreaConfig::new(range, slots, size, 2).leading_guard(lead).trailing_guard(trail);
        let bytes = StackArea::<&Fake>::bytes_needed(&config(VirtRange::EMPTY)).unwrap();
        let range = VirtRange::new(fake.range().start().wrapping_add(start * 4096), bytes).unwrap();
        let area = StackArea::new(&fake);
        let geometry = unsafe { area.init(&config(range)) }.unwrap();
        prop_assert!(bytes - geometry.whole_range().bytes() < geometry.stride());
        let short = VirtRange::new(range.start(), bytes - geometry.stride()).unwrap();
        let area = StackArea::new(&fake);
        let refused = unsafe { area.init(&config(short)) }.unwrap_err();
        prop_assert!(matches!(refused, InitError::Geometry(GeometryError::RangeTooSmall { .. })), "{refused:?}");
    }

    #[test]
    fn every_stack_has_the_guards_that_were_asked((size, lead, trail, slots) in shapes()) {
        let config = |f: &Fake| f.config(slots, size).leading_guard(lead).trailing_guard(trail);
        let shape = shape_of::<4096>(config).unwrap();
        prop_assert!(shape.guard() >= lead.max(trail));
        for i in 0..slots {
            let slot = shape.slot(i).unwrap();
            prop_assert_eq!(shape.top(slot).get() - shape.bottom(slot).get(), size);
            let next = shape.slot(i + 1).map_or(shape.slot_range().end(), |next| shape.bottom(next));
            let wanted = if i + 1 < slots { trail.max(lead) } else { trail };
            prop_assert!(next.get() - shape.top(slot).get() >= wanted);
            let before = if i == 0 { shape.slot_range().start() } else { shape.top(shape.slot(i - 1).unwrap()) };
            prop_assert!(shape.bottom(slot).get() - before.get() >= lead);
        }
    }
}
