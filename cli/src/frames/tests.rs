//! Frames of small functions, assembled by hand; and what the gate says of images made of them.

use object::write::{Object, Symbol, SymbolSection};
use object::{Architecture, BinaryFormat, Endianness, SymbolFlags, SymbolKind, SymbolScope};

use super::walk::{Reader, Walked};
use super::{Image, gate};
use crate::checks::{Check, Verdict};

const PUSH_RBP: &[u8] = &[0x55];
const PUSH_RBX: &[u8] = &[0x53];
const POP_RBX: &[u8] = &[0x5b];
const FRAME_POINTER: &[u8] = &[0x48, 0x89, 0xe5]; // mov rbp, rsp
const SUB_PAGE: &[u8] = &[0x48, 0x81, 0xec, 0x00, 0x10, 0x00, 0x00]; // sub rsp, 4096
const SUB_TWO_PAGES: &[u8] = &[0x48, 0x81, 0xec, 0x00, 0x20, 0x00, 0x00]; // sub rsp, 8192
const SUB_64: &[u8] = &[0x48, 0x83, 0xec, 0x40]; // sub rsp, 64
const PROBE: &[u8] = &[0x48, 0xc7, 0x04, 0x24, 0, 0, 0, 0]; // mov qword ptr [rsp], 0
const END_OF_10_PAGES: &[u8] = &[0x4c, 0x8d, 0x9c, 0x24, 0x00, 0x60, 0xff, 0xff]; // lea r11, [rsp - 40960]
const UNTIL_END: &[u8] = &[0x4c, 0x39, 0xdc]; // cmp rsp, r11
const CALL_NEXT: &[u8] = &[0xe8, 0, 0, 0, 0];
const LEAVE: &[u8] = &[0xc9];
const RET: &[u8] = &[0xc3];

/// Ten pages, probed by a loop, and 64 bytes.
const LOOP: &[&[u8]] = &[END_OF_10_PAGES, SUB_PAGE, PROBE, UNTIL_END, &[0x75, 0xec], SUB_64, RET];

fn walk(code: &[&[u8]]) -> Walked {
    Reader::default().walk(&code.concat(), 0x1000)
}

fn size(code: &[&[u8]]) -> u64 {
    let walked = walk(code);
    assert_eq!((walked.unprobed_at, walked.unsized_at), (None, None));
    walked.size
}

#[test]
fn pushes_and_what_is_taken_off_the_stack_pointer_are_the_frame() {
    assert_eq!(size(&[RET]), 0);
    assert_eq!(size(&[PUSH_RBX, CALL_NEXT, POP_RBX, RET]), 8);
    assert_eq!(size(&[PUSH_RBP, FRAME_POINTER, SUB_64, CALL_NEXT, LEAVE, RET]), 72);
    assert_eq!(size(&[PUSH_RBP, FRAME_POINTER, PUSH_RBX, SUB_64, LEAVE, PUSH_RBX, PUSH_RBX, RET]), 80);
}

#[test]
fn an_aligned_frame_is_as_large_as_it_can_become() {
    let and_64 = &[0x48, 0x83, 0xe4, 0xc0]; // and rsp, -64
    assert_eq!(size(&[PUSH_RBP, FRAME_POINTER, and_64, SUB_64, LEAVE, RET]), 8 + 63 + 64);
}

#[test]
fn a_frame_that_is_made_only_on_one_way_counts() {
    let test_and_skip = &[0x85, 0xff, 0x74, 0x06]; // test edi, edi; je over what follows
    let add_64 = &[0x48, 0x83, 0xc4, 0x40];
    assert_eq!(size(&[test_and_skip, SUB_64, add_64, RET]), 64);
    assert_eq!(size(&[PUSH_RBX, &[0x85, 0xff, 0x74, 0x05], CALL_NEXT, POP_RBX, RET]), 8);
}

#[test]
fn what_a_table_of_jumps_leads_to_has_the_depth_of_the_jump() {
    let jump = &[0xff, 0xe0]; // jmp rax
    assert_eq!(size(&[SUB_64, jump, PUSH_RBX, RET, PUSH_RBX, PUSH_RBX, RET]), 64 + 16);
}

#[test]
fn another_stack_is_not_this_functions_frame() {
    let load = &[0x48, 0x89, 0xfc]; // mov rsp, rdi
    assert_eq!(size(&[PUSH_RBX, load, SUB_TWO_PAGES, RET]), 8);
}

#[test]
fn probes_in_line_are_recognised() {
    assert_eq!(size(&[SUB_PAGE, PROBE, SUB_PAGE, PROBE, SUB_64, RET]), 8192 + 64);
    assert_eq!(size(&[PUSH_RBX, SUB_PAGE, PROBE, RET]), 4096 + 8);
    let or = &[0x48, 0x83, 0x0c, 0x24, 0x00]; // or qword ptr [rsp], 0
    assert_eq!(size(&[SUB_PAGE, or, SUB_PAGE, or, RET]), 8192);
}

#[test]
fn a_loop_of_probes_is_recognised() {
    assert_eq!(size(LOOP), 40960 + 64);
    // mov r11, rsp; sub r11, 40960
    let end: &[u8] = &[0x49, 0x89, 0xe3, 0x49, 0x81, 0xeb, 0x00, 0xa0, 0x00, 0x00];
    assert_eq!(size(&[&[end], &LOOP[1..]].concat()), 40960 + 64);
}

#[test]
fn a_page_without_a_probe_is_found() {
    let at = |code: &[&[u8]]| walk(code).unprobed_at;
    assert_eq!(at(&[SUB_TWO_PAGES, PROBE, RET]), Some(0x1000));
    assert_eq!(at(&[SUB_PAGE, PROBE, SUB_PAGE, SUB_64, RET]), Some(0x1000 + 22));
    let by_register: &[u8] = &[0xb8, 0x00, 0x20, 0x00, 0x00, 0x48, 0x29, 0xc4]; // mov eax, 8192; sub rsp, rax
    assert_eq!((at(&[by_register, RET]), walk(&[by_register, RET]).size), (Some(0x1005), 8192));
    let untouched = walk(&[END_OF_10_PAGES, SUB_PAGE, UNTIL_END, &[0x75, 0xf4], RET]);
    assert!(untouched.unprobed_at.is_some() && untouched.size == 40960, "{untouched:?}");
}

#[test]
fn a_frame_of_unknown_size_is_said_to_be_one() {
    let by_argument = &[0x48, 0x29, 0xfc]; // sub rsp, rdi
    assert_eq!(walk(&[PUSH_RBX, by_argument, RET]).unsized_at, Some(0x1001));
}

#[test]
fn any_bytes_are_read_without_a_panic() {
    let mut reader = Reader::default();
    let mut word = 1_u32;
    for length in 0..600 {
        let code: Vec<u8> = (0..length)
            .map(|_| {
                word = word.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (word >> 24) as u8
            })
            .collect();
        reader.walk(&code, u64::MAX - 100);
    }
}

/// An image of these functions.
fn image(functions: &[(&str, &[&[u8]])]) -> Vec<u8> {
    let mut object = Object::new(BinaryFormat::Elf, Architecture::X86_64, Endianness::Little);
    let text = object.section_id(object::write::StandardSection::Text);
    for (name, code) in functions {
        let code = code.concat();
        let symbol = object.add_symbol(Symbol {
            name: name.as_bytes().to_vec(),
            value: 0,
            size: code.len() as u64,
            kind: SymbolKind::Text,
            scope: SymbolScope::Linkage,
            weak: false,
            section: SymbolSection::Undefined,
            flags: SymbolFlags::None,
        });
        object.add_symbol_data(symbol, text, &code, 16);
    }
    object.write().expect("an image")
}

fn checks(functions: &[(&str, &[&[u8]])]) -> [Check; 2] {
    Image::of(image(functions)).expect("readable").checks()
}

const ON_PURPOSE: &str = "vmstack_kernel::crash::frames::larger_than_the_guard";

#[test]
fn the_largest_frame_is_named_and_those_on_purpose_are_left_out() {
    let [largest, probes] = checks(&[("a", &[PUSH_RBX, RET]), ("b", &[SUB_64, RET]), (ON_PURPOSE, LOOP)]);
    assert_eq!((largest.outcome, largest.figure), (Verdict::Pass, Some(64.into())));
    assert!(largest.detail.starts_with("b has 64 bytes"), "{}", largest.detail);
    assert_eq!((probes.outcome, probes.figure), (Verdict::Pass, Some(1.into())));
    assert!(probes.detail.ends_with(ON_PURPOSE), "{}", probes.detail);
}

#[test]
fn only_the_whole_path_is_on_purpose() {
    for name in ["x_vmstack_kernel::crash::frames::f", "vmstack_kernel::crash::frames_too::f", "crash::frames::f"] {
        let [largest, _] = checks(&[(name, LOOP)]);
        assert_eq!((largest.outcome, largest.figure), (Verdict::Fail, Some(41024.into())), "{name}");
    }
}

#[test]
fn an_image_without_a_large_frame_shows_no_probe() {
    let [_, probes] = checks(&[("a", &[PUSH_RBX, RET])]);
    assert_eq!((probes.outcome, probes.figure), (Verdict::Skip, Some(0.into())));
}

#[test]
fn canaries_are_seen_by_what_is_called_for_them() {
    let has = |name| Image::of(image(&[(name, &[RET])])).expect("readable").has_canaries();
    assert!(has("__stack_chk_fail") && !has("stack_chk"));
}

#[test]
fn the_gate_counts_the_functions_that_it_refuses() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("kernel");
    let pass = |functions: &[(&str, &[&[u8]])]| {
        std::fs::write(&path, image(functions)).expect("written");
        gate(&path).map_err(|refused| refused.to_string())
    };
    assert_eq!(pass(&[("a", &[SUB_64, RET]), (ON_PURPOSE, LOOP)]), Ok(()));
    let large = pass(&[("a", LOOP), ("b", &[SUB_TWO_PAGES, RET]), ("c", &[RET])]).expect_err("refused");
    assert!(large.contains("2 frame(s)"), "{large}");
    // Nobody may leave out probes, not even on purpose.
    assert!(pass(&[(ON_PURPOSE, &[SUB_TWO_PAGES, RET])]).is_err());
    assert!(gate(&folder.path().join("none")).is_err());
}
