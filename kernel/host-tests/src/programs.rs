//! What the loader makes of programs: of good ones, of damaged ones, and of rubbish. Whatever the bytes are, a plan is one that can be
//! mapped, or there is none.

#[path = "../../src/process/elf.rs"]
mod elf_file;

use elf_file::{ElfError, Plan, plan};

use crate::memory::Random;

const PAGE: usize = 4096;

/// A program of `segments`, each: offset, address, bytes in the file, bytes in memory, flags.
fn program(kind: u16, machine: u16, segments: &[[u64; 5]]) -> Vec<u8> {
    let mut file = vec![0; 3 * PAGE];
    let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"\x7fELF\x02\x01\x01");
    [(16, kind), (18, machine), (52, 64), (54, 56), (56, segments.len() as u16), (58, 64)]
        .iter()
        .for_each(|&(at, word)| put(at, &word.to_le_bytes()));
    put(20, &1_u32.to_le_bytes());
    put(24, &0x40_1000_u64.to_le_bytes());
    put(32, &64_u64.to_le_bytes());
    for (index, &[offset, address, in_file, in_memory, flags]) in segments.iter().enumerate() {
        let at = 64 + index * 56;
        put(at, &1_u32.to_le_bytes());
        put(at + 4, &(flags as u32).to_le_bytes());
        [offset, address, address, in_file, in_memory, PAGE as u64]
            .iter()
            .enumerate()
            .for_each(|(word, value)| put(at + 8 + 8 * word, &value.to_le_bytes()));
    }
    file
}

const TEXT: [u64; 5] = [0x1000, 0x40_1000, 0x800, 0x800, 5];
const DATA: [u64; 5] = [0x1800, 0x40_2800, 0x900, 0x5000, 6];

fn fixed(segments: &[[u64; 5]]) -> Vec<u8> {
    program(2, 62, segments)
}

/// Whether a plan can be mapped as it is.
fn check(plan: &Plan<'_>, file: &[u8]) {
    let mut end = PAGE;
    for segment in &plan.segments {
        assert!(segment.start % PAGE == 0 && segment.file_bytes % PAGE == 0 && segment.zero_bytes % PAGE == 0);
        assert!(segment.start >= end, "segments overlap");
        end =
            segment.start.checked_add(segment.file_bytes).and_then(|end| end.checked_add(segment.zero_bytes)).unwrap();
        assert!(end > segment.start && end <= 1 << 47);
        assert!(segment.file.len() <= segment.file_bytes && segment.file.len() + PAGE > segment.file_bytes);
        assert!(!(segment.write && segment.execute));
        let bytes = segment.file.as_ptr_range();
        assert!(
            segment.file.is_empty()
                || (file.as_ptr_range().start <= bytes.start && bytes.end <= file.as_ptr_range().end)
        );
    }
    assert!(plan.end == end && plan.entry >= PAGE && plan.entry < 1 << 47);
}

#[test]
fn a_program_is_laid_out_in_whole_pages_with_zeros_after_the_file() {
    let file = fixed(&[TEXT, DATA]);
    let plan = plan(&file).expect("it is a program");
    check(&plan, &file);
    let [text, data] = plan.segments[..] else { panic!("two segments") };
    assert_eq!((text.start, text.file_bytes, text.zero_bytes, text.execute), (0x40_1000, PAGE, 0, true));
    assert_eq!((data.start, data.file_bytes, data.zero_bytes, data.write), (0x40_2000, 2 * PAGE, 4 * PAGE, true));
    assert_eq!(data.file.len(), 0x1100);
    assert_eq!((plan.entry, plan.end), (0x40_1000, 0x40_8000));
    // No segment shows the headers: they are nowhere.
    assert_eq!(plan.headers, (0, 2, 56));
}

#[test]
fn a_program_that_does_not_care_goes_where_such_programs_go() {
    let file = program(3, 62, &[[0x1000, 0x1000, 0x800, 0x800, 5]]);
    let plan = plan(&file).expect("it is a program");
    assert_eq!(plan.segments[0].start, 0x5555_5555_5000);
}

#[test]
fn programs_that_cannot_be_are_refused() {
    let refused = |file: &[u8]| assert_eq!(plan(file).map(|_| ()), Err(ElfError::NotExecutable));
    refused(b"");
    refused(b"#!/bin/sh\n");
    // For another machine, or another kind of file.
    refused(&program(2, 183, &[TEXT]));
    refused(&program(1, 62, &[TEXT]));
    // Without segments, overlapping, out of order.
    refused(&fixed(&[]));
    refused(&fixed(&[TEXT, [0x1000, 0x40_1000, 0x10, 0x10, 4]]));
    refused(&fixed(&[DATA, TEXT]));
    // More in the file than in memory, more than the file has, wrapping, not aligned as the file is.
    refused(&fixed(&[[0x1000, 0x40_1000, 0x800, 0x7ff, 5]]));
    refused(&fixed(&[[0x1000, 0x40_1000, 0x8000, 0x8000, 5]]));
    refused(&fixed(&[[0x1000, 0xffff_ffff_ffff_f000, 0x800, 0x2000, 5]]));
    refused(&fixed(&[[0x1000, 0x40_1000, 0x800, u64::MAX - 0x1000, 6]]));
    refused(&fixed(&[[0xffff_ffff_ffff_f000, 0x40_1000, 0x2000, 0x2000, 5]]));
    refused(&fixed(&[[0x1004, 0x40_1000, 0x800, 0x800, 5]]));
    // At address 0, in the kernel's half, and both written and executed.
    refused(&fixed(&[[0, 0, 0x800, 0x800, 5]]));
    refused(&fixed(&[[0x1000, 0xffff_8000_0000_1000, 0x800, 0x800, 5]]));
    refused(&fixed(&[[0x1000, 0x40_1000, 0x800, 0x800, 7]]));
}

#[test]
fn a_program_with_an_interpreter_is_known_as_such() {
    let mut file = fixed(&[TEXT, DATA]);
    file[64] = 3;
    assert_eq!(plan(&file).map(|_| ()), Err(ElfError::Dynamic));
    // Its path does not end.
    file[0x17ff] = b'x';
    assert_eq!(plan(&file).map(|_| ()), Err(ElfError::NotExecutable));
}

#[test]
fn what_linux_does_not_look_at_does_not_matter() {
    let mut file = fixed(&[TEXT, DATA]);
    // Class, byte order and version; where sections are, and how many.
    file[4..16].fill(0xff);
    file[40..48].fill(0xff);
    file[58..64].fill(0xff);
    check(&plan(&file).expect("it is a program"), &file);
}

#[test]
fn a_terabyte_of_zeros_is_a_plan_that_somebody_else_refuses() {
    let file = fixed(&[TEXT, [0, 0x1000_0000, 0, 1 << 40, 6]]);
    assert_eq!(plan(&file).expect("only numbers").segments[1].zero_bytes, 1 << 40);
}

#[test]
fn damaged_programs_are_refused_or_can_be_mapped() {
    let mut random = Random(0x1234_5678_9abc_def1);
    let good = [fixed(&[TEXT, DATA]), program(3, 62, &[TEXT, DATA, [0, 0x50_0000, 0, 0x9000, 6]])];
    let mut planned = 0;
    for _ in 0..200_000 {
        let mut file = good[(random.next() % 2) as usize].clone();
        for _ in 0..1 + random.next() % 4 {
            let at = (random.next() % 232) as usize;
            match random.next() % 4 {
                0 => file[at] = random.next() as u8,
                1 => file[at] ^= 1 << (random.next() % 8),
                2 => file[at & !7..(at & !7) + 8].copy_from_slice(&[0xff; 8]),
                _ => file.truncate(at + (random.next() % 8192) as usize),
            }
            file.resize(file.len().max(240), 0);
        }
        if let Ok(plan) = plan(&file) {
            check(&plan, &file);
            planned += 1;
        }
    }
    assert!(planned > 1000, "hardly any file was good: {planned}");
}
