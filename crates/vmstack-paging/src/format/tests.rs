use super::*;
use crate::fault::FaultKind;
use crate::{Aarch64Kernel, Aarch64User, Access, Attributes, Sv39, Sv48, Sv57, X86_64, X86_64La57};

fn canonical<F: Format>(addr: usize) -> bool {
    F::is_canonical(VirtAddr::new(addr))
}

#[test]
fn both_halves_of_x86_64_are_canonical_and_the_hole_is_not() {
    assert!(canonical::<X86_64>(0x0000_7fff_ffff_ffff));
    assert!(!canonical::<X86_64>(0x0000_8000_0000_0000));
    assert!(!canonical::<X86_64>(0xffff_7fff_ffff_ffff));
    assert!(canonical::<X86_64>(0xffff_8000_0000_0000));
    assert!(canonical::<X86_64La57>(0x00ff_ffff_ffff_ffff));
    assert!(!canonical::<X86_64La57>(0x0100_0000_0000_0000));
    assert!(canonical::<X86_64La57>(0xff00_0000_0000_0000));
}

#[test]
fn each_root_of_aarch64_translates_its_own_half_only() {
    assert!(canonical::<Aarch64User>(0x0000_ffff_ffff_ffff));
    assert!(!canonical::<Aarch64User>(0xffff_0000_0000_0000));
    assert!(canonical::<Aarch64Kernel>(0xffff_0000_0000_0000));
    assert!(!canonical::<Aarch64Kernel>(0x0000_ffff_ffff_ffff));
    assert!(!canonical::<Aarch64Kernel>(0xfffe_ffff_ffff_ffff));
}

#[test]
fn riscv_halves_have_38_47_and_56_bits() {
    assert!(canonical::<Sv39>(0x0000_003f_ffff_ffff) && !canonical::<Sv39>(0x0000_0040_0000_0000));
    assert!(canonical::<Sv39>(0xffff_ffc0_0000_0000) && !canonical::<Sv39>(0xffff_ffbf_ffff_ffff));
    assert!(canonical::<Sv48>(0xffff_8000_0000_0000) && canonical::<Sv57>(0xff00_0000_0000_0000));
}

#[test]
fn an_index_is_taken_from_its_own_nine_bits() {
    let addr = VirtAddr::new((0x1a << 48) | (5 << 39) | (6 << 30) | (7 << 21) | (8 << 12) | 0xabc);
    let index = |level| X86_64La57::index(addr, Level::new(level));
    assert_eq!([index(0), index(1), index(2), index(3), index(4)], [8, 7, 6, 5, 0x1a]);
}

#[test]
fn leaves_are_of_4_kib_2_mib_and_1_gib() {
    let sizes = [Level::PAGE, Level::LARGE, Level::HUGE, Level::new(3)].map(Sv48::leaf_bytes);
    assert_eq!(sizes, [Some(4096), Some(2 << 20), Some(1 << 30), None]);
}

#[test]
fn a_frame_must_be_aligned_and_not_too_high() {
    assert!(X86_64::<4>::can_hold(PhysAddr::new(0x000f_ffff_ffff_f000), Level::PAGE));
    assert!(!X86_64::<4>::can_hold(PhysAddr::new(0x0010_0000_0000_0000), Level::PAGE));
    assert!(!X86_64::<4>::can_hold(PhysAddr::new(0x1800), Level::PAGE));
    assert!(!X86_64::<4>::can_hold(PhysAddr::new(0x1000), Level::LARGE));
    assert!(!Aarch64User::can_hold(PhysAddr::new(1 << 48), Level::PAGE));
}

#[test]
fn entries_of_riscv_have_the_words_of_the_manual() {
    let data = Attributes::kernel(Access::ReadWrite);
    let leaf = Entry::Leaf { frame: PhysAddr::new(0x8020_0000), attributes: data, dirty: true };
    assert_eq!(Sv39::encode(leaf, Level::LARGE), 0x2008_00e7, "D A G, W R V");
    assert_eq!(Sv39::encode(Entry::Table { at: PhysAddr::new(0x8020_1000) }, Level::LARGE), 0x2008_0401, "V alone");
    let misaligned = 0x2008_04e7;
    assert_eq!(Sv39::decode(misaligned, Level::LARGE), Entry::Foreign { raw: misaligned });
    let write_only = 0x2008_00e5;
    assert_eq!(Sv39::decode(write_only, Level::PAGE), Entry::Foreign { raw: write_only });
}

#[test]
fn a_parked_entry_of_x86_64_does_not_name_its_frame_to_speculation() {
    let frame = PhysAddr::new(0x1234_5000);
    let parked = X86_64::<4>::encode(Entry::Parked { frame, dirty: true }, Level::PAGE);
    assert_eq!(parked & bits(12, 52), !frame.get() & bits(12, 52));
}

#[test]
fn a_word_that_is_writable_and_executable_is_foreign() {
    for raw in [0x1003, 0x1067] {
        assert_eq!(X86_64::<4>::decode(raw, Level::PAGE), Entry::Foreign { raw });
    }
    let raw = 0x2008_00ef;
    assert_eq!(Sv39::decode(raw, Level::PAGE), Entry::Foreign { raw });
    let raw = 0x0040_0000_4000_0403 | 0x300;
    assert_eq!(Aarch64Kernel::decode(raw, Level::PAGE), Entry::Foreign { raw });
}

#[test]
fn an_error_code_of_x86_64_says_what_was_attempted() {
    let write_to_absent_kernel_page = x86_64::decode_fault(0b00010);
    assert_eq!(write_to_absent_kernel_page.kind, FaultKind::Write);
    assert_eq!(write_to_absent_kernel_page.present, Some(false));
    assert_eq!(write_to_absent_kernel_page.user, Some(false));
    let user_fetch_forbidden = x86_64::decode_fault(0b10101);
    assert_eq!((user_fetch_forbidden.kind, user_fetch_forbidden.present), (FaultKind::Fetch, Some(true)));
    assert!(x86_64::decode_fault(0b01001).malformed);
}

#[test]
fn a_syndrome_of_aarch64_says_what_was_attempted() {
    let kernel_write_to_nothing = aarch64::decode_fault((0x25 << 26) | (1 << 6) | 0b000111).expect("a data abort");
    assert_eq!(kernel_write_to_nothing.kind, FaultKind::Write);
    assert_eq!((kernel_write_to_nothing.present, kernel_write_to_nothing.user), (Some(false), Some(false)));
    let user_fetch_forbidden = aarch64::decode_fault((0x20 << 26) | 0b001111).expect("an instruction abort");
    assert_eq!((user_fetch_forbidden.kind, user_fetch_forbidden.user), (FaultKind::Fetch, Some(true)));
    assert_eq!(aarch64::decode_fault((0x25 << 26) | 0b100001), None, "an alignment fault is no page fault");
    assert_eq!(aarch64::decode_fault(0x15 << 26), None, "a system call is no page fault");
}

#[test]
fn a_cause_of_riscv_says_what_was_attempted() {
    let kinds = [12, 13, 15].map(|cause| riscv64::decode_fault(cause).map(|fault| fault.kind));
    assert_eq!(kinds, [Some(FaultKind::Fetch), Some(FaultKind::Read), Some(FaultKind::Write)]);
    assert_eq!(riscv64::decode_fault(8), None, "a system call is no page fault");
}
