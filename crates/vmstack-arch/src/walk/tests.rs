//! Walks of whole and of damaged stacks, which are slices here.

use vmstack::Trace;

use super::{TraceEnd, VirtAddr, WORD, frames};

fn bounds(words: &[usize]) -> (VirtAddr, VirtAddr) {
    let low = VirtAddr::new(words.as_ptr().expose_provenance());
    (low, low.wrapping_add(words.len() * WORD))
}

/// A chain of frames at the given word offsets, each with return address 0x1000 + offset.
fn chain(offsets: &[usize]) -> Vec<usize> {
    let mut words = vec![0_usize; 64];
    let base = words.as_ptr().addr();
    for pair in offsets.windows(2) {
        words[pair[0]] = base + pair[1] * WORD;
    }
    for &offset in offsets {
        words[offset + 1] = 0x1000 + offset;
    }
    words
}

fn walk(words: &[usize], from: usize) -> Vec<(usize, usize)> {
    walk_to_end(words, from).0
}

fn walk_to_end(words: &[usize], from: usize) -> (Vec<(usize, usize)>, TraceEnd) {
    let (low, high) = bounds(words);
    // SAFETY: the range is the slice.
    let mut walk = unsafe { frames(low.wrapping_add(from * WORD), low, high) };
    let frames = walk.by_ref().map(|frame| (frame.return_address.get(), frame.caller_bytes)).collect();
    (frames, walk.end())
}

/// Garbage that repeats: a fixed recipe of numbers, many of them near the stack.
fn garbage(seed: usize, base: usize) -> Vec<usize> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    (0..64)
        .map(|_| match random() % 4 {
            0 => random(),
            1 => base.wrapping_add(random() % 1024).wrapping_sub(256),
            _ => base + random() % 64 * WORD,
        })
        .collect()
}

#[test]
fn a_chain_is_followed_to_its_end_with_the_size_of_each_frame() {
    let words = chain(&[2, 10, 30]);
    assert_eq!(walk(&words, 2), [(0x1002, 8 * WORD), (0x100a, 20 * WORD), (0x101e, 0)]);
}

#[test]
fn a_link_that_leaves_the_stack_ends_the_walk() {
    for bad in [1, usize::MAX, usize::MAX - 7, 0] {
        let mut words = chain(&[2, 10]);
        words[10] = bad;
        let (seen, end) = walk_to_end(&words, 2);
        let expected = if bad == 0 { TraceEnd::Chain } else { TraceEnd::LeftStack };
        assert!(bad == 1 || end == expected, "{bad:#x}: {end:?}");
        assert_eq!(seen.len(), 2, "{bad:#x}");
    }
}

#[test]
fn a_chain_that_goes_up_and_down_or_is_misaligned_ends_there_and_says_so() {
    for (link, expected) in [
        (1, TraceEnd::NotAscending),
        (10, TraceEnd::NotAscending),
        (63, TraceEnd::LeftStack),
        (64, TraceEnd::LeftStack),
        (100, TraceEnd::LeftStack),
    ] {
        let mut words = chain(&[2, 10]);
        words[10] = words.as_ptr().addr() + link * WORD;
        assert_eq!(walk_to_end(&words, 2), (vec![(0x1002, 8 * WORD), (0x100a, 0)], expected), "{link}");
    }
    let mut words = chain(&[2, 10]);
    words[10] = words.as_ptr().addr() + 20 * WORD + 4;
    assert_eq!(walk_to_end(&words, 2).1, TraceEnd::Misaligned);
}

#[test]
fn whatever_the_words_are_each_frame_is_inside_and_above_the_last() {
    for seed in 0..20_000 {
        let mut words = vec![0_usize; 64];
        let made = garbage(seed, words.as_ptr().addr());
        words.copy_from_slice(&made);
        let (low, high) = bounds(&words);
        // SAFETY: the range is the slice.
        let walk = unsafe { frames(VirtAddr::new(words[seed % 64]), low, high) };
        let pointers: Vec<_> = walk.map(|frame| frame.pointer).collect();
        assert!(pointers.len() <= 32 && pointers.is_sorted_by(|a, b| a.distance(*b) >= WORD && a < b));
        assert!(pointers.iter().all(|&at| at.is_aligned(WORD) && low <= at && at.wrapping_add(16) <= high));
    }
}

#[test]
fn the_innermost_frame_is_from_the_stack_pointer_to_the_return_address() {
    let words = chain(&[2, 10]);
    let (low, high) = bounds(&words);
    let (instruction, fp) = (VirtAddr::new(0x77), low.wrapping_add(2 * WORD));
    let size = |fp: VirtAddr, sp: VirtAddr| {
        // SAFETY: the range is the slice.
        unsafe { frames(fp, low, high) }.innermost(instruction, sp).1
    };
    assert_eq!(size(fp, low), Some(4 * WORD));
    assert_eq!(size(fp, low.wrapping_sub(100)), Some(4 * WORD + 100), "it has left the stack already");
    assert_eq!((size(fp, high), size(high, low), size(fp, VirtAddr::new(8))), (None, None, None));
}

#[test]
fn the_frame_where_the_chain_ends_has_no_size() {
    let words = chain(&[2, 10]);
    let (low, high) = bounds(&words);
    // SAFETY: the range is the slice.
    let walk = unsafe { frames(low.wrapping_add(2 * WORD), low, high) };
    let calls: Vec<_> = walk.map(|frame| frame.call()).collect();
    assert_eq!(calls, [(VirtAddr::new(0x1002), Some(8 * WORD)), (VirtAddr::new(0x100a), None)]);
}

#[test]
fn frames_in_runs_are_the_frames_one_by_one() {
    let mut chains = vec![chain(&[2, 10, 18, 26, 34, 36, 38, 40, 61]), chain(&[2, 6, 10, 14, 62]), chain(&[2, 10])];
    for words in &mut chains {
        (0..64).for_each(|at| {
            if (0x1000..0x2000).contains(&words[at]) && at % 3 != 0 {
                words[at] = 0x1002;
            }
        });
    }
    for seed in 0..20_000 {
        let mut words = vec![0_usize; 64];
        let base = words.as_ptr().addr();
        let (from, step) = (seed % 7, 2 + seed % 5);
        words.copy_from_slice(&garbage(seed, base));
        (from..60 - step).step_by(step).take(seed % 13).for_each(|at| {
            (words[at], words[at + 1]) = (base + (at + step) * WORD, 0x4000);
        });
        chains.push(words);
    }
    for (seed, words) in chains.iter().enumerate() {
        let from = if seed < 3 { 2 } else { (seed - 3) % 7 };
        let (low, high) = bounds(words);
        let start = low.wrapping_add(from * WORD);
        // SAFETY: the range is the slice.
        let mut one = unsafe { frames(start, low, high) };
        let mut run = one.clone();
        let each: Vec<_> = one.by_ref().map(|frame| frame.call()).collect();
        let runs = run.runs().flat_map(|(address, bytes, times)| core::iter::repeat_n((address, bytes), times));
        assert_eq!(runs.collect::<Vec<_>>(), each, "{seed}");
        assert_eq!(one.end(), run.end(), "{seed}");
    }
}

#[test]
fn a_loop_ends_the_walk() {
    let mut words = chain(&[2, 10]);
    words[10] = words.as_ptr().addr() + 2 * WORD;
    assert_eq!(walk(&words, 2).len(), 2);
    words[2] = words.as_ptr().addr() + 2 * WORD;
    assert_eq!(walk(&words, 2).len(), 1);
}

#[test]
fn a_start_outside_the_stack_or_off_a_word_has_no_frames() {
    let words = chain(&[2, 10]);
    let (low, high) = bounds(&words);
    for start in [low.wrapping_sub(8), high, high.wrapping_sub(WORD), low.wrapping_add(17), VirtAddr::new(usize::MAX)] {
        // SAFETY: the range is the slice.
        assert_eq!(unsafe { frames(start, low, high) }.count(), 0, "{start}");
    }
}

type Call = (VirtAddr, Option<usize>);

/// The walk as one would write it who has no hurry: `words` is the stack, which begins at `base`.
fn by_hand(words: &[usize], base: usize, start: usize) -> (Vec<Call>, TraceEnd) {
    let top = base + words.len() * WORD;
    let (mut calls, mut link, mut least) = (Vec::<Call>::new(), start, base);
    let end = loop {
        let room = link.checked_add(2 * WORD).is_some_and(|end| end <= top);
        match link {
            0 => break TraceEnd::Chain,
            _ if !room => break TraceEnd::LeftStack,
            _ if !link.is_multiple_of(WORD) => break TraceEnd::Misaligned,
            _ if link < least => break TraceEnd::NotAscending,
            _ => {}
        }
        if let Some((_, size)) = calls.last_mut() {
            // Above, a link is known to be higher than the last by a word at least.
            *size = Some(link + WORD - least);
        }
        let at = (link - base) / WORD;
        if words[at + 1] == 0 {
            break TraceEnd::Chain;
        }
        calls.push((VirtAddr::new(words[at + 1]), None));
        (least, link) = (link + WORD, words[at]);
    };
    (calls, end)
}

/// A stack with recursions on it, of which some words are damaged. Its first frame is at word `seed % 4`.
fn damaged(words: &mut [usize], seed: usize) {
    let base = words.as_ptr().addr();
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    let mut at = seed % 4;
    // To the top, and every other time beyond.
    while at + 1 < words.len() {
        let (step, turns, address) = (1 + random(6), 1 + random(60), 0x4000 + 8 * random(3));
        for _ in 0..turns {
            let Some([link, returns_to]) = words.get_mut(at..at + 2) else { break };
            at += step;
            (*link, *returns_to) = (base + at * WORD, address);
        }
    }
    if seed.is_multiple_of(2) {
        words.iter_mut().rev().take(20).for_each(|word| *word = 0);
    }
    for _ in 0..random(4) {
        let garbage = [0, 1, usize::MAX - 7, base + random(words.len()) * WORD, base + random(9_000)];
        words[random(words.len())] = garbage[random(garbage.len())];
    }
}

#[test]
fn a_walk_in_runs_finds_what_a_simple_one_does_on_whole_and_on_damaged_stacks() {
    let mut words = vec![0; 600];
    let (mut whole, mut trace) = (0, Trace::empty());
    for seed in 0..20_000 {
        words.fill(0);
        damaged(&mut words, seed);
        let (low, high) = bounds(&words);
        let start = low.wrapping_add(seed % 4 * WORD);
        let (expected, end) = by_hand(&words, low.get(), start.get());
        // SAFETY: the range is the slice.
        let mut walk = unsafe { frames(start, low, high) };
        let mut calls = Vec::new();
        let mut taking = trace.retake();
        for (address, bytes, times) in walk.runs() {
            taking.add(address, bytes, times);
            calls.extend(core::iter::repeat_n((address, bytes), times));
        }
        taking.ended(walk.end());
        assert_eq!((&calls, walk.end()), (&expected, end), "{seed}");
        assert_eq!(trace, Trace::take(expected).ended(end), "{seed}: one by one");
        whole += usize::from(end == TraceEnd::Chain);
    }
    assert!((2_000..18_000).contains(&whole), "{whole} of 20,000 are whole");
}
