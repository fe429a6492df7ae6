//! Dirty bits: what the hardware sets is never lost, and what has no dirty bit counts as written.

mod common;

use core::sync::atomic::{AtomicBool, Ordering};

use common::{Slab, base, frame, range, slot, va, word};
use vmstack::{Pages, PhysAddr};
use vmstack_paging::{Aarch64, Access, Attributes, Format, Mapper, Riscv64, Sv48, X86_64};

/// A format whose hardware records writes, and how it does.
trait RecordsWrites: Format {
    /// The word of a leaf after a write through it, or `None` if the write faults.
    fn written(word: u64) -> Option<u64>;
}

impl RecordsWrites for X86_64 {
    fn written(word: u64) -> Option<u64> {
        (word & 0b11 == 0b11).then_some(word | 1 << 6)
    }
}

impl RecordsWrites for Riscv64<4, true> {
    fn written(word: u64) -> Option<u64> {
        (word & 0b101 == 0b101).then_some(word | 1 << 7)
    }
}

impl RecordsWrites for Aarch64<true, true> {
    fn written(word: u64) -> Option<u64> {
        (word & 1 == 1 && word & 1 << 51 != 0).then_some(word & !(1 << 7))
    }
}

/// A write by the processor to the page at `at`: it changes the word in one locked step. Whether it was permitted.
fn write<F: RecordsWrites>(slab: &Slab, root: PhysAddr, at: usize) -> bool {
    let word = word(slot::<F>(slab, root, at));
    word.fetch_update(Ordering::AcqRel, Ordering::Acquire, F::written).is_ok()
}

fn mapped<F: Format>(slab: &Slab, root: PhysAddr, pages: usize) -> (Mapper<'_, F, Slab>, Pages) {
    // SAFETY: the root is a live table of this slab, and only mappers and the test's hardware change what is in it.
    let mapper = unsafe { Mapper::<F, _>::new(root, slab) };
    let pages = Pages::new(va(base::<F>()), pages);
    let attributes = Attributes::kernel(Access::ReadWrite);
    // SAFETY: no CPU walks these tables.
    unsafe { mapper.map(pages, attributes, (0..).map(frame)) }.expect("the pages are free");
    (mapper, pages)
}

fn park_and_take<F: Format>(mapper: &Mapper<'_, F, Slab>, pages: Pages) -> Vec<bool> {
    let mut dirty = Vec::new();
    // SAFETY: no CPU walks these tables.
    unsafe { mapper.park(pages) }.expect("the pages are mapped");
    // SAFETY: no CPU walks these tables.
    unsafe { mapper.take_parked(pages, |_, bit| dirty.push(bit)) }.expect("the pages are parked");
    dirty
}

fn a_page_is_dirty_once_it_was_written<F: RecordsWrites>() {
    let (slab, root) = Slab::with_root();
    let (mapper, pages) = mapped::<F>(&slab, root, 4);
    assert_eq!(mapper.dirty(pages), 0);
    assert!(write::<F>(&slab, root, base::<F>() + 4096));
    assert!(write::<F>(&slab, root, base::<F>() + 3 * 4096));
    assert_eq!(mapper.dirty(pages), 0b1010);
    assert_eq!(mapper.dirty(Pages::new(pages.start(), 6)), 0b11_1010, "nothing is promised of absent pages");
    mapper.clear_dirty(pages).expect("it is a run of pages");
    assert_eq!(mapper.dirty(pages), 0);
    assert!(write::<F>(&slab, root, base::<F>()));
    assert_eq!(park_and_take(&mapper, pages), [true, false, false, false]);
}

fn a_change_of_access_keeps_the_dirty_bit<F: RecordsWrites>() {
    let (slab, root) = Slab::with_root();
    let (mapper, pages) = mapped::<F>(&slab, root, 2);
    assert!(write::<F>(&slab, root, base::<F>()));
    for access in [Access::Read, Access::ReadExecute, Access::ReadWrite] {
        // SAFETY: no CPU walks these tables.
        unsafe { mapper.protect(pages, access) }.expect("the pages are mapped");
        assert_eq!(mapper.dirty(pages), 0b01);
        assert_eq!(write::<F>(&slab, root, base::<F>()), access.is_writable());
    }
}

/// A processor writes to every page in turn while another CPU parks them one by one: whenever the write was let
/// through, the bit has come along with the frame.
fn a_write_at_the_moment_of_parking_is_never_lost<F: RecordsWrites>() {
    const PAGES: usize = 512;
    for _ in 0..20 {
        let (slab, root) = Slab::with_root();
        let (mapper, pages) = mapped::<F>(&slab, root, PAGES);
        let started = AtomicBool::new(false);
        let (written, taken) = std::thread::scope(|scope| {
            let processor = scope.spawn(|| {
                started.store(true, Ordering::Release);
                let pages = (0..PAGES).map(|page| base::<F>() + page * 4096);
                pages.map(|at| write::<F>(&slab, root, at)).collect::<Vec<_>>()
            });
            while !started.load(Ordering::Acquire) {
                core::hint::spin_loop();
            }
            let taken = park_and_take(&mapper, pages);
            (processor.join().expect("the processor does not fail"), taken)
        });
        assert_eq!(written, taken);
    }
}

macro_rules! for_formats_that_record_writes {
    ($($property:ident)+) => {
        for_formats_that_record_writes!(@ x86_64: vmstack_paging::X86_64, $($property)+);
        for_formats_that_record_writes!(@ sv48_svadu: vmstack_paging::Riscv64<4, true>, $($property)+);
        for_formats_that_record_writes!(@ aarch64_dirty: vmstack_paging::Aarch64<true, true>, $($property)+);
    };
    (@ $module:ident: $format:ty, $($property:ident)+) => {
        mod $module {
            $(
                #[test]
                fn $property() {
                    super::$property::<$format>();
                }
            )+
        }
    };
}

for_formats_that_record_writes! {
    a_page_is_dirty_once_it_was_written
    a_change_of_access_keeps_the_dirty_bit
    a_write_at_the_moment_of_parking_is_never_lost
}

#[test]
fn without_hardware_dirty_bits_every_page_counts_as_written() {
    let (slab, root) = Slab::with_root();
    let (mapper, pages) = mapped::<Sv48>(&slab, root, 3);
    mapper.clear_dirty(pages).expect("it is a run of pages");
    assert_eq!(mapper.dirty(pages), 0b111);
    assert_eq!(park_and_take(&mapper, pages), [true; 3]);
}

#[test]
fn at_most_128_pages_are_asked_at_once() {
    let (slab, root) = Slab::with_root();
    let (mapper, _) = mapped::<X86_64>(&slab, root, 130);
    assert!(write::<X86_64>(&slab, root, base::<X86_64>() + 127 * 4096));
    assert!(write::<X86_64>(&slab, root, base::<X86_64>() + 128 * 4096));
    assert_eq!(mapper.dirty(Pages::new(va(base::<X86_64>()), 130)), 1 << 127);
    assert_eq!(mapper.dirty(Pages::new(va(base::<X86_64>()), 0)), 0);
    assert_eq!(mapper.dirty(Pages::new(va(1 << 50), 2)), 0b11, "nothing is promised of what is not canonical");
    assert_eq!(mapper.census(range(base::<X86_64>(), 1 << 30)).leaves, 130);
}
