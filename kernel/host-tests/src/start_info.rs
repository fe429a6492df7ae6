//! PVH's start info.

use vmstack::PhysAddr;

use crate::memory::{BASE, Memory, Random};
use crate::x86_64::start_info::{StartInfo, StartInfoError};

const MODULES: u64 = BASE + 0x100;
const REGIONS: u64 = BASE + 0x200;
const COMMAND_LINE: u64 = BASE + 0x400;
const INITRD: (u64, u64) = (0x9_d000, 0x1000);

fn words(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn machine() -> Memory {
    let mut memory = Memory::new(0x1000);
    // Magic and version, flags and number of modules, module list, command line, RSDP, memory map, its entries.
    let header = [0x1_336e_c578, 1 << 32, MODULES, COMMAND_LINE, 0xf_59d0, REGIONS, 3];
    memory.put(BASE, &words(&header));
    memory.put(MODULES, &words(&[INITRD.0, INITRD.1, 0, 0]));
    memory.put(REGIONS, &words(&[0, 0x9_fc00, 1, 0xf_0000, 0x1_0000, 2, u64::MAX, 2, 1]));
    memory.put(COMMAND_LINE, b"mode=story stacks=virtual\0");
    memory
}

fn read(memory: &Memory) -> Result<StartInfo, StartInfoError> {
    StartInfo::read(PhysAddr::new(BASE), memory.reader())
}

#[test]
fn what_the_loader_left_is_read() {
    let info = read(&machine()).unwrap();
    assert_eq!(info.command_line(), "mode=story stacks=virtual");
    assert_eq!(info.rsdp(), Some(PhysAddr::new(0xf_59d0)));
    let modules: Vec<_> = info.modules().map(|range| (range.start.get(), range.bytes)).collect();
    assert_eq!(modules, [INITRD]);
    let regions: Vec<_> = info.regions().map(|region| (region.range.start.get(), region.is_usable())).collect();
    assert_eq!(regions, [(0, true), (0xf_0000, false)], "an entry that wraps is left out");
}

#[test]
fn the_trampoline_page_is_free_memory() {
    // 0x9f000 is not whole, 0x9e000 would do, 0x9d000 is the module.
    assert_eq!(read(&machine()).unwrap().trampoline_page(), Some(PhysAddr::new(0x9_e000)));
    let mut taken = machine();
    taken.put(MODULES, &words(&[0x5000, 0x9_b000]));
    assert_eq!(read(&taken).unwrap().trampoline_page(), Some(PhysAddr::new(0x4000)));
}

#[test]
fn what_is_not_pvh_is_refused() {
    let mut memory = machine();
    *memory.byte(BASE) = 0;
    assert_eq!(read(&memory).unwrap_err(), StartInfoError::BadMagic(0x336e_c500));
    let mut old = machine();
    *old.byte(BASE + 4) = 0;
    assert_eq!(read(&old).unwrap_err(), StartInfoError::NoMemoryMap(0));
    let nowhere = StartInfo::read(PhysAddr::new(u64::MAX), machine().reader());
    assert_eq!(nowhere.unwrap_err(), StartInfoError::Unreachable(PhysAddr::new(u64::MAX), 56));
}

#[test]
fn counts_that_nobody_can_mean_are_refused() {
    let mut memory = machine();
    memory.put(BASE + 48, &u32::MAX.to_le_bytes());
    assert_eq!(read(&memory).unwrap_err(), StartInfoError::TooMany(u32::MAX));
}

#[test]
fn a_command_line_must_end_and_be_text() {
    let mut endless = machine();
    endless.put(COMMAND_LINE, &[b'a'; 0x1000 - 0x400]);
    assert!(matches!(read(&endless).unwrap_err(), StartInfoError::Unreachable(_, 1)));
    let mut binary = machine();
    binary.put(COMMAND_LINE, &[0xff, 0]);
    assert_eq!(read(&binary).unwrap_err(), StartInfoError::BadCommandLine(PhysAddr::new(COMMAND_LINE)));
}

#[test]
fn no_damage_makes_it_panic() {
    let mut random = Random(2);
    for _ in 0..2000 {
        let mut memory = machine();
        for _ in 0..random.next() % 8 {
            *memory.byte(BASE + 8 + random.next() % 0x400) = random.next() as u8;
        }
        if let Ok(info) = read(&memory) {
            let _ = (info.regions().count(), info.modules().count(), info.in_use().count(), info.trampoline_page());
        }
    }
}
