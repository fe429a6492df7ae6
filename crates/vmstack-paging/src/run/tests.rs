use super::*;
use crate::{Aarch64User, Sv39, X86_64};

const LAST_PAGE: VirtAddr = VirtAddr::new(usize::MAX - 0xfff);

fn range(start: usize, bytes: usize) -> VirtRange {
    VirtRange::new(VirtAddr::new(start), bytes).expect("the range fits")
}

#[test]
fn the_last_page_of_the_address_space_is_a_page() {
    let run = Run::check::<X86_64>(Pages::new(LAST_PAGE, 1)).expect("a run");
    assert_eq!(run.page::<X86_64>(0), Some(LAST_PAGE));
    assert_eq!(run.page::<X86_64>(1), None);
    assert!(Run::check::<X86_64>(Pages::new(LAST_PAGE, 2)).is_err());
}

#[test]
fn a_run_does_not_cross_the_hole() {
    let last_of_lower = VirtAddr::new(0x0000_7fff_ffff_f000);
    assert!(Run::check::<X86_64>(Pages::new(last_of_lower, 1)).is_ok());
    let crossing = Run::check::<X86_64>(Pages::new(last_of_lower, 2));
    assert_eq!(crossing, Err(BadRun::NotCanonical { at: last_of_lower }));
    let across = Pages::new(VirtAddr::new(0), usize::MAX / 4096);
    assert!(Run::check::<X86_64>(across).is_err());
}

#[test]
fn a_run_starts_on_a_page_boundary() {
    let at = VirtAddr::new(0x1800);
    assert_eq!(Run::check::<Sv39>(Pages::new(at, 1)), Err(BadRun::Misaligned { at }));
    assert!(Run::covering::<Sv39>(range(0x1000, 0x1800)).is_err());
}

#[test]
fn pieces_are_as_big_as_alignment_permits_and_cover_all() {
    let (large, huge) = (2 << 20, 1 << 30);
    let run = Run::covering::<X86_64>(range(huge - large - 0x1000, large + huge + 0x2000)).expect("a run");
    let frame = PhysAddr::new((huge - large - 0x1000) as u64);
    let leaves: Vec<_> = pieces::<X86_64>(run, frame, Level::HUGE).collect();
    let levels: Vec<_> = leaves.iter().map(|piece| piece.level).collect();
    assert_eq!(levels, [Level::PAGE, Level::LARGE, Level::HUGE, Level::PAGE]);
    assert!(leaves.iter().all(|piece| piece.at.get() as u64 == piece.frame.get()));
    let capped = pieces::<X86_64>(run, frame, Level::LARGE).filter(|piece| piece.level == Level::LARGE);
    assert_eq!(capped.count(), 1 + 512);
}

#[test]
fn a_piece_is_small_when_virtual_and_physical_are_out_of_step() {
    let run = Run::covering::<X86_64>(range(4 << 20, 4 << 20)).expect("a run");
    let leaves = pieces::<X86_64>(run, PhysAddr::new(0x1000), Level::HUGE);
    assert!(leaves.clone().all(|piece| piece.level == Level::PAGE));
    assert_eq!(leaves.count(), 1024);
}

#[test]
fn a_span_is_cut_at_entry_boundaries() {
    let span = Span::of(range(0x1f_f800, 0x1000)).expect("not empty");
    let parts: Vec<_> =
        span.parts::<X86_64>(Level::LARGE).map(|part| (part.first().get(), part.last().get())).collect();
    assert_eq!(parts, [(0x1f_f800, 0x1f_ffff), (0x20_0000, 0x20_07ff)]);
}

#[test]
fn a_span_ends_with_the_address_space() {
    let last = Span { first: usize::MAX - 10, last: usize::MAX };
    assert_eq!(last.parts::<X86_64>(Level::PAGE).count(), 1);
    assert_eq!(Span::of(VirtRange::EMPTY), None);
}

#[test]
fn only_what_the_format_translates_is_swept() {
    let everything = range(0, usize::MAX);
    assert_eq!(Span::translated::<X86_64>(everything).count(), 2);
    let user: Vec<_> = Span::translated::<Aarch64User>(everything).collect();
    assert_eq!(user, [Span { first: 0, last: 0x0000_ffff_ffff_ffff }]);
    assert_eq!(Span::translated::<X86_64>(range(1 << 47, 1 << 47)).count(), 0);
}
