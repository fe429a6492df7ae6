//! RSDP, RSDT, XSDT, MADT.

use vmstack::PhysAddr;

use crate::memory::{BASE, Memory, Random};
use crate::x86_64::acpi::{AcpiError, Madt};

const RSDP: u64 = BASE;
const ROOT: u64 = BASE + 0x100;
const OTHER: u64 = BASE + 0x200;
const MADT: u64 = BASE + 0x300;

/// Sets the byte at `checksum` so that all of them add up to zero.
fn add_up(bytes: &mut [u8], checksum: usize) {
    bytes[checksum] = 0;
    let sum = bytes.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
    bytes[checksum] = sum.wrapping_neg();
}

fn table(signature: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 36];
    bytes[..4].copy_from_slice(signature);
    bytes.extend(body);
    let length = bytes.len() as u32;
    bytes[4..8].copy_from_slice(&length.to_le_bytes());
    add_up(&mut bytes, 9);
    bytes
}

fn rsdp(revision: u8) -> Vec<u8> {
    let mut bytes = vec![0; 36];
    bytes[..8].copy_from_slice(b"RSD PTR ");
    bytes[15] = revision;
    if revision < 2 {
        bytes[16..20].copy_from_slice(&(ROOT as u32).to_le_bytes());
    } else {
        bytes[20] = 36;
        bytes[24..32].copy_from_slice(&ROOT.to_le_bytes());
    }
    add_up(&mut bytes[..20], 8);
    add_up(&mut bytes, 32);
    bytes
}

fn madt_body() -> Vec<u8> {
    let mut body = 0xfee0_0000u32.to_le_bytes().to_vec();
    body.extend([1, 0, 0, 0]);
    // CPUs 0, 1 (not enabled), 2, 2 again, and 4 in the x2APIC form.
    for (id, flags) in [(0, 1), (1, 0), (2, 1), (2, 1)] {
        body.extend([0, 8, id, id, flags, 0, 0, 0]);
    }
    body.extend([9, 16, 0, 0, 4, 0, 0, 0, 1, 0, 0, 0, 4, 0, 0, 0]);
    // An I/O APIC, and the timer on its line 2; line 9 by level, active low.
    body.extend([1, 12, 7, 0, 0, 0, 0xc0, 0xfe, 0, 0, 0, 0]);
    body.extend([2, 10, 0, 0, 2, 0, 0, 0, 0, 0]);
    body.extend([2, 10, 0, 9, 9, 0, 0, 0, 0x0f, 0]);
    body
}

fn machine(revision: u8, madt: &[u8]) -> Memory {
    let mut memory = Memory::new(0x1000);
    memory.put(RSDP, &rsdp(revision));
    memory.put(OTHER, &table(b"FACP", &[0; 8]));
    memory.put(MADT, madt);
    if revision < 2 {
        let entries: Vec<u8> = [OTHER, MADT].iter().flat_map(|addr| (*addr as u32).to_le_bytes()).collect();
        memory.put(ROOT, &table(b"RSDT", &entries));
    } else {
        let entries: Vec<u8> = [OTHER, MADT].iter().flat_map(|addr| addr.to_le_bytes()).collect();
        memory.put(ROOT, &table(b"XSDT", &entries));
    }
    memory
}

fn find(memory: &Memory) -> Result<Madt, AcpiError> {
    Madt::find(Some(PhysAddr::new(RSDP)), memory.reader())
}

#[test]
fn what_the_madt_lists_is_found_through_either_root_table() {
    for revision in [0, 2] {
        let found = find(&machine(revision, &table(b"APIC", &madt_body()))).unwrap();
        assert_eq!(found.cpus(), [0, 2, 4]);
        assert_eq!(found.local_apic(), PhysAddr::new(0xfee0_0000));
        assert_eq!(found.io_apics().len(), 1);
        assert_eq!(found.io_apics()[0].address, PhysAddr::new(0xfec0_0000));
        assert_eq!(found.legacy_line(0).gsi, 2);
        assert_eq!(found.legacy_line(4).gsi, 4);
        assert!(found.legacy_line(9).level && found.legacy_line(9).active_low);
    }
}

#[test]
fn a_table_that_does_not_add_up_is_named() {
    for addr in [RSDP, ROOT, MADT] {
        let mut memory = machine(0, &table(b"APIC", &madt_body()));
        *memory.byte(addr + 16) ^= 0x80;
        assert_eq!(find(&memory).unwrap_err(), AcpiError::BadChecksum(PhysAddr::new(addr)));
    }
}

#[test]
fn an_entry_of_length_zero_ends_the_walk() {
    let mut body = madt_body();
    body.extend([0, 0, 0xff, 0xff]);
    assert_eq!(find(&machine(0, &table(b"APIC", &body))).unwrap().cpus(), [0, 2, 4]);
}

#[test]
fn more_cpus_than_the_kernel_can_use_are_refused() {
    let mut body = vec![0; 8];
    for id in 0..65 {
        body.extend([0, 8, id, id, 1, 0, 0, 0]);
    }
    assert_eq!(find(&machine(0, &table(b"APIC", &body))).unwrap_err(), AcpiError::TooManyCpus(65));
}

#[test]
fn without_a_madt_or_an_rsdp_there_is_an_error() {
    let without = machine(0, &table(b"HPET", &[]));
    assert_eq!(find(&without).unwrap_err(), AcpiError::NoMadt);
    assert_eq!(Madt::find(None, without.reader()).unwrap_err(), AcpiError::NoRsdp);
}

#[test]
fn a_table_out_of_reach_is_named() {
    let mut far = table(b"APIC", &[]);
    far[4..8].copy_from_slice(&0x1_0000u32.to_le_bytes());
    assert_eq!(find(&machine(0, &far)).unwrap_err(), AcpiError::Unreachable(PhysAddr::new(MADT), 0x1_0000));
}

#[test]
fn no_damage_makes_it_panic() {
    let mut random = Random(1);
    for _ in 0..2000 {
        let mut body = madt_body();
        for _ in 0..random.next() % 8 {
            let at = (random.next() % body.len() as u64) as usize;
            body[at] = random.next() as u8;
        }
        // The checksum is right, so that what is damaged is reached.
        let _ = find(&machine((random.next() % 3) as u8, &table(b"APIC", &body)));
    }
}
