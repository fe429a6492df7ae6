//! What an entry says survives the way through 64 bits and back, in every format.

mod common;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use vmstack::PhysAddr;
use vmstack_paging::{Access, Attributes, Entry, Format, Level};

fn level() -> impl Strategy<Value = Level> {
    (0_u8..=2).prop_map(Level::new)
}

fn attributes() -> impl Strategy<Value = Attributes> {
    let access = prop_oneof![Just(Access::Read), Just(Access::ReadWrite), Just(Access::ReadExecute)];
    (access, any::<[bool; 3]>()).prop_map(|(access, [user, global, uncached])| {
        let base = if user { Attributes::user(access) } else { Attributes::kernel(access) };
        base.with_global(global).with_uncached(uncached)
    })
}

/// A physical address that an entry of `level` can hold.
fn frame<F: Format>(raw: u64, level: Level) -> PhysAddr {
    let bytes = F::entry_bytes(level) as u64;
    PhysAddr::new(raw % (1 << F::PHYS_BITS) / bytes * bytes)
}

fn check<S: Strategy>(strategy: S, property: impl Fn(S::Value) -> Result<(), TestCaseError>) {
    TestRunner::default().run(&strategy, property).expect("the property holds");
}

fn a_leaf_reads_back_as_it_was_written<F: Format>() {
    check((any::<u64>(), level(), attributes(), any::<bool>()), |(raw, level, attributes, dirty)| {
        let dirty = dirty || !F::HAS_DIRTY;
        let leaf = Entry::Leaf { frame: frame::<F>(raw, level), attributes, dirty };
        prop_assert_eq!(F::decode(F::encode(leaf, level), level), leaf);
        Ok(())
    });
}

fn a_leaf_without_hardware_dirty_bits_reads_as_dirty<F: Format>() {
    check((any::<u64>(), level(), attributes()), |(raw, level, attributes)| {
        let clean = Entry::Leaf { frame: frame::<F>(raw, level), attributes, dirty: false };
        let read = F::decode(F::encode(clean, level), level);
        prop_assert_eq!(read, clean.with_dirty(!F::HAS_DIRTY));
        Ok(())
    });
}

fn a_parked_entry_keeps_its_frame_and_is_absent_for_the_hardware<F: Format>() {
    check((any::<u64>(), level(), any::<bool>()), |(raw, level, dirty)| {
        let parked = Entry::Parked { frame: frame::<F>(raw, level), dirty };
        let word = F::encode(parked, level);
        prop_assert_eq!(F::decode(word, level), parked);
        prop_assert_ne!(word, 0);
        prop_assert_eq!(word & 1, 0, "bit 0 is P, valid or V in all three architectures");
        Ok(())
    });
}

fn a_table_reads_back_as_it_was_written<F: Format>() {
    check((any::<u64>(), 1..F::LEVELS), |(raw, level)| {
        let level = Level::new(level);
        let table = Entry::Table { at: frame::<F>(raw, Level::PAGE) };
        prop_assert_eq!(F::decode(F::encode(table, level), level), table);
        Ok(())
    });
}

fn only_the_word_zero_is_absent<F: Format>() {
    check((1..=u64::MAX, 0..F::LEVELS), |(raw, level)| {
        prop_assert_ne!(F::decode(raw, Level::new(level)), Entry::Absent);
        Ok(())
    });
    assert_eq!(F::decode(0, Level::PAGE), Entry::Absent);
    assert_eq!(F::encode(Entry::Absent, Level::PAGE), 0);
}

fn any_word_decodes_to_what_encodes_to_the_same_meaning<F: Format>() {
    check((any::<u64>(), 0..F::LEVELS), |(raw, level)| {
        let level = Level::new(level);
        let entry = F::decode(raw, level);
        prop_assert_eq!(F::decode(F::encode(entry, level), level), entry);
        Ok(())
    });
}

fn no_leaf_is_found_above_the_largest<F: Format>() {
    check((any::<u64>(), F::LARGEST_LEAF.number() + 1..=F::LEVELS), |(raw, level)| {
        if level < F::LEVELS {
            let found = F::decode(raw, Level::new(level));
            prop_assert!(!matches!(found, Entry::Leaf { .. }), "{:?}", found);
        }
        Ok(())
    });
}

fn a_leaf_is_clean_if_it_decodes_so<F: Format>() {
    let decoded = |raw| matches!(F::decode(raw, Level::PAGE), Entry::Leaf { dirty: false, .. });
    check((any::<u64>(), attributes(), any::<bool>()), |(raw, attributes, dirty)| {
        let leaf = Entry::Leaf { frame: frame::<F>(raw, Level::PAGE), attributes, dirty };
        for word in [raw, F::encode(leaf, Level::PAGE), 0] {
            prop_assert_eq!(F::is_clean(word), decoded(word));
        }
        Ok(())
    });
}

fn a_table_is_followed_if_the_word_decodes_so<F: Format>() {
    check((any::<u64>(), 1..F::LEVELS), |(raw, level)| {
        let level = Level::new(level);
        let table = F::encode(Entry::Table { at: frame::<F>(raw, Level::PAGE) }, level);
        for word in [raw, table, raw & !1, 0] {
            let decoded = match F::decode(word, level) {
                Entry::Table { at } => Some(at),
                _ => None,
            };
            prop_assert_eq!(F::table_at(word, level), decoded);
        }
        Ok(())
    });
}

/// What the provided methods of a format would say if they were not overridden.
fn decoded<F: Format>(word: u64) -> [Option<u64>; 3] {
    match F::decode(word, Level::PAGE) {
        entry @ Entry::Leaf { frame, .. } => {
            let parked = entry.parked().map(|parked| F::encode(parked, Level::PAGE));
            [Some(frame.get()), parked, None]
        }
        Entry::Parked { frame, .. } => [None, None, Some(frame.get())],
        _ => [None; 3],
    }
}

fn the_short_ways_say_what_decoding_says<F: Format>() {
    check((any::<u64>(), attributes(), any::<bool>(), 0_u32..64), |(raw, attributes, dirty, flip)| {
        let frame = frame::<F>(raw, Level::PAGE);
        let leaf = F::encode(Entry::Leaf { frame, attributes, dirty }, Level::PAGE);
        let parked = F::encode(Entry::Parked { frame, dirty }, Level::PAGE);
        for word in [raw, leaf, parked, leaf ^ 1 << flip, parked ^ 1 << flip, 0] {
            let short = [F::frame_at(word).map(PhysAddr::get), F::park(word), F::parked_frame(word).map(PhysAddr::get)];
            prop_assert_eq!(short, decoded::<F>(word), "{:#x}", word);
            let surely = F::SURELY_CLEAN.is_some_and(|(bits, clean)| word & bits == clean);
            prop_assert!(!surely || F::is_clean(word), "{:#x}", word);
        }
        Ok(())
    });
}

fn neighbours_differ_by_as_much_as_the_format_says<F: Format>() {
    let Some((step, recorded)) = F::NEIGHBOURS else { return };
    check((any::<u64>(), attributes(), any::<[bool; 2]>()), |(raw, attributes, [first, second])| {
        // The next frame is one that an entry can hold, too.
        let frame = PhysAddr::new(frame::<F>(raw, Level::PAGE).get() & !(1 << (F::PHYS_BITS - 1)));
        let leaf = |frame, dirty| F::encode(Entry::Leaf { frame, attributes, dirty }, Level::PAGE);
        let next = frame.wrapping_add(F::page_bytes() as u64);
        prop_assert_eq!(((leaf(frame, first) + step) ^ leaf(next, second)) & !recorded, 0);
        Ok(())
    });
}

for_every_format! {
    neighbours_differ_by_as_much_as_the_format_says
    the_short_ways_say_what_decoding_says
    a_leaf_is_clean_if_it_decodes_so
    a_leaf_reads_back_as_it_was_written
    a_leaf_without_hardware_dirty_bits_reads_as_dirty
    a_parked_entry_keeps_its_frame_and_is_absent_for_the_hardware
    a_table_is_followed_if_the_word_decodes_so
    a_table_reads_back_as_it_was_written
    only_the_word_zero_is_absent
    any_word_decodes_to_what_encodes_to_the_same_meaning
    no_leaf_is_found_above_the_largest
}
