//! Traces: any sequence of frames, folded and written out again, is what it was.

use core::fmt::{self, Write};

use proptest::collection::vec;
use proptest::prelude::{Strategy, any, prop_assert, prop_assert_eq, proptest};
use vmstack::{MAX_CYCLE, Trace, TraceEnd, VirtAddr};

type Frame = (VirtAddr, Option<usize>);

/// A frame for each letter, with the place of the letter in the alphabet, in words, as its size.
fn frames(letters: &str) -> Vec<Frame> {
    letters.bytes().map(frame).collect()
}

fn frame(letter: u8) -> Frame {
    let bytes = usize::from(letter - b'a' + 1) * 16;
    (VirtAddr::new(usize::from(letter)), (letter != b'z').then_some(bytes))
}

fn expand(trace: &Trace) -> Vec<Frame> {
    let written_out = |group: vmstack::CallGroup<'_>| {
        let turn: Vec<_> = group.calls.iter().map(|call| (call.address(), call.frame_bytes())).collect();
        turn.repeat(group.turns)
    };
    trace.groups().flat_map(written_out).collect()
}

/// The groups, as `(ab)3 c`.
fn folded(letters: &str) -> String {
    let trace = Trace::take(frames(letters));
    let mut text = Vec::new();
    for group in trace.groups() {
        let calls: String = group.calls.iter().map(|call| char::from(call.address().get() as u8)).collect();
        text.push(if group.turns == 1 { calls } else { format!("({calls}){}", group.turns) });
    }
    text.join(" ")
}

fn name(address: VirtAddr, out: &mut dyn Write) -> fmt::Result {
    write!(out, "{}+0x4", ["f", "even", "odd", "entry"].get(address.get() & 3).unwrap_or(&"?"))
}

#[test]
fn a_recursion_is_one_group_whatever_its_cycle() {
    assert_eq!(folded("aaaaaaaaaaaa"), "(a)12");
    assert_eq!(folded("abababababab"), "(ab)6");
    assert_eq!(folded(&"abcdefgh".repeat(100)), "(abcdefgh)100");
    assert_eq!(folded(&format!("xy{}mn", "abc".repeat(50))), "x y (abc)50 m n");
    assert_eq!(folded("abababac"), "(ab)3 a c");
}

#[test]
fn a_cycle_with_a_repetition_in_it_is_found() {
    assert_eq!(folded(&"aab".repeat(40)), "(aab)40");
    assert_eq!(folded(&"aaab".repeat(40)), "(aaab)40");
    assert_eq!(folded(&"abb".repeat(80)), "(abb)80");
    assert_eq!(folded(&"bbcbcbbc".repeat(80)), "(bbcbcbbc)80");
    assert_eq!(folded(&"aabab".repeat(40)), "(aabab)40");
    assert_eq!(folded("aab"), "(a)2 b");
}

#[test]
fn two_recursions_one_after_the_other_are_two_groups() {
    assert_eq!(folded(&format!("{}{}", "a".repeat(300), "bc".repeat(300))), "(a)300 (bc)300");
}

#[test]
fn what_does_not_fit_is_counted_and_the_innermost_are_kept() {
    let many: Vec<Frame> = (0..200).map(|i| (VirtAddr::new(1000 + i), Some(16 + i))).collect();
    let trace = Trace::take(many.iter().copied());
    let kept = expand(&trace);
    assert_eq!((trace.frames(), kept.len() + trace.left_out()), (200, 200));
    assert!(kept.len() >= 32 && many.starts_with(&kept));
    assert_eq!(trace.bytes(), many.iter().filter_map(|frame| frame.1).sum());
    let biggest: Vec<_> = trace.biggest().map(|big| (big.call.address().get(), big.count)).collect();
    assert_eq!(biggest, [(1199, 1), (1198, 1), (1197, 1)], "though none of them found a place");
}

#[test]
fn an_endless_chain_ends_at_the_limit() {
    let mut letters = (0_usize..).map(|i| (VirtAddr::new(i % 3), Some(16)));
    let trace = Trace::take(letters.by_ref()).ended(TraceEnd::NotAscending);
    assert_eq!((trace.end(), trace.frames()), (TraceEnd::Limit, 32 << 10));
    assert_eq!((trace.groups().count(), trace.left_out()), (3, 0), "the last turn is not whole");
    let garbage = Trace::take((0_usize..).map(|i| (VirtAddr::new(i * i), Some(i))));
    assert_eq!((garbage.end(), garbage.frames()), (TraceEnd::Limit, 32 << 10));
    assert_eq!(Trace::take(frames("abc")).ended(TraceEnd::LeftStack).end(), TraceEnd::LeftStack);
}

#[test]
fn the_text_shows_the_cycle_the_sizes_and_the_biggest_frames() {
    let mut all = vec![(VirtAddr::new(0), Some(1040))];
    (0..120).for_each(|_| all.extend([(VirtAddr::new(1), Some(64)), (VirtAddr::new(2), Some(48))]));
    all.extend([(VirtAddr::new(5), Some(32)), (VirtAddr::new(5), Some(32)), (VirtAddr::new(3), None)]);
    let expected = "Call trace, 244 frames, 14544 bytes:\n\
                    \u{20}   1040 bytes  f+0x4\n\
                    \u{20}     64 bytes  even+0x4  \\ 120 turns of 2 frames, 112 bytes a turn\n\
                    \u{20}     48 bytes  odd+0x4   /\n\
                    \u{20}     32 bytes  even+0x4  > 2 turns of 1 frame, 32 bytes a turn\n\
                    \u{20}      ? bytes  entry+0x4\n\
                    biggest frames: 1040 bytes in f+0x4, 64 bytes in even+0x4 (120 times), \
                    48 bytes in odd+0x4 (120 times); 14480 bytes together\n";
    assert_eq!(Trace::take(all.iter().copied()).text(&name).to_string(), expected);
    let cut = Trace::take((0..100).map(|i| (VirtAddr::new(i * i), None))).ended(TraceEnd::NotAscending);
    let text = cut.text(&name).to_string();
    assert!(text.contains("\n  and 52 frames more\n"), "{text}");
    assert!(text.ends_with("  the trace ends here: the chain is circular or goes down\n"), "{text}");
    assert_eq!(Trace::empty().text(&name).to_string(), "Call trace, 0 frames, 0 bytes:\n");
}

#[test]
fn a_run_that_is_longer_than_any_stack_is_cut_at_the_limit() {
    let mut trace = Trace::empty();
    let mut taking = trace.retake();
    assert!(taking.add(VirtAddr::new(1), Some(16), (32 << 10) - 2) && taking.add(VirtAddr::new(2), Some(16), 1));
    assert!(taking.add(VirtAddr::new(3), Some(16), 0) && !taking.add(VirtAddr::new(3), Some(16), usize::MAX));
    taking.ended(TraceEnd::LeftStack);
    assert_eq!((trace.end(), trace.frames(), trace.groups().count()), (TraceEnd::Limit, 32 << 10, 3));
}

#[test]
fn a_trace_fits_in_a_record() {
    assert!(size_of::<Trace>() <= 1280, "{} bytes", size_of::<Trace>());
}

/// Sequences that repeat themselves at several levels, as recursions do, with disturbances.
fn repetitive() -> impl Strategy<Value = Vec<u8>> {
    let block = (vec(b'a'..b'e', 1..6), 1_usize..9);
    let blocks = vec(block, 0..6)
        .prop_map(|blocks| blocks.into_iter().flat_map(|(letters, turns)| letters.repeat(turns)).collect::<Vec<u8>>());
    (blocks, 1_usize..5, vec(b'a'..=b'z', 0..10)).prop_map(|(blocks, turns, tail)| {
        let mut letters = blocks.repeat(turns);
        letters.extend(tail);
        letters
    })
}

fn check(letters: &[u8]) -> Result<(), proptest::test_runner::TestCaseError> {
    let frames: Vec<Frame> = letters.iter().map(|&letter| frame(letter)).collect();
    let trace = Trace::take(frames.iter().copied());
    let kept = expand(&trace);
    prop_assert_eq!(kept.len() + trace.left_out(), frames.len());
    prop_assert!(frames.starts_with(&kept));
    prop_assert_eq!((trace.frames(), trace.end()), (frames.len(), TraceEnd::Chain));
    prop_assert_eq!(trace.bytes(), frames.iter().filter_map(|frame| frame.1).sum::<usize>());
    prop_assert!(trace.groups().all(|group| group.calls.len() <= MAX_CYCLE && group.turns > 0));
    let mut sizes: Vec<usize> = frames.iter().filter_map(|frame| frame.1).collect();
    sizes.sort_unstable();
    sizes.dedup();
    let biggest: Vec<usize> = trace.biggest().filter_map(|big| big.call.frame_bytes()).collect();
    prop_assert!(sizes.iter().rev().take(3).eq(biggest.iter()));
    for big in trace.biggest() {
        let same = |frame: &&Frame| **frame == (big.call.address(), big.call.frame_bytes());
        prop_assert_eq!(big.count as usize, frames.iter().filter(same).count());
    }
    Ok(())
}

proptest! {
    #[test]
    fn any_sequence_folded_and_written_out_is_what_it_was(letters in vec(b'a'..=b'z', 0..300)) {
        check(&letters)?;
    }

    #[test]
    fn so_is_a_sequence_that_repeats_itself(letters in repetitive()) {
        check(&letters)?;
    }

    #[test]
    fn frames_that_come_in_runs_make_the_trace_that_they_make_one_by_one(
        runs in vec((b'a'..=b'h', 0_usize..20), 0..80), turns in 1_usize..4, last in repetitive(),
    ) {
        let runs = runs.repeat(turns);
        let letters: Vec<u8> = runs.iter().flat_map(|&(letter, times)| vec![letter; times]).collect();
        check(&letters)?;
        // What was there before is gone.
        let mut trace = Trace::take(last.iter().map(|&letter| frame(letter))).ended(TraceEnd::Misaligned);
        let mut taking = trace.retake();
        for &(letter, times) in &runs {
            let (address, bytes) = frame(letter);
            prop_assert!(taking.add(address, bytes, times));
        }
        drop(taking);
        prop_assert_eq!(trace, Trace::take(letters.iter().map(|&letter| frame(letter))));
    }

    #[test]
    fn a_long_recursion_is_folded_whatever_comes_before_and_after(
        cycle in vec(b'a'..b'd', 1..=MAX_CYCLE), turns in 40_usize..400,
        before in vec(b'm'..b'y', 0..6), after in vec(b'm'..b'y', 0..6),
    ) {
        let letters: Vec<u8> = [before, cycle.repeat(turns), after].concat();
        check(&letters)?;
        let trace = Trace::take(letters.iter().map(|&letter| frame(letter)));
        prop_assert_eq!(trace.left_out(), 0);
        let folded: usize = trace.groups().map(|group| group.calls.len()).sum();
        prop_assert!(folded <= 12 + 3 * MAX_CYCLE, "{} calls", folded);
    }

    #[test]
    fn sizes_and_addresses_of_any_value_are_kept(addresses in vec((any::<usize>(), any::<Option<u32>>()), 0..40)) {
        let frames: Vec<Frame> =
            addresses.iter().map(|&(address, bytes)| (VirtAddr::new(address), bytes.map(|bytes| bytes as usize))).collect();
        let kept = expand(&Trace::take(frames.iter().copied()));
        let same = |(kept, frame): (&Frame, &Frame)| kept.0 == frame.0 && (kept.1 == frame.1 || kept.1.is_none());
        prop_assert!(kept.len() == frames.len() && kept.iter().zip(&frames).all(same));
    }
}
