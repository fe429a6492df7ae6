//! `execve`: a new memory for a process, and the stack that a program finds when it starts.
//!
//! ```text
//!   top of the user stack
//!   | strings: path, arguments, environment, 16 random bytes |
//!   | auxiliary vector, ended by AT_NULL                     |
//!   | environment pointers, ended by 0                       |
//!   | argument pointers, ended by 0                          |
//!   | argument count                                         |  <── rsp, a multiple of 16
//! ```

use alloc::vec::Vec;

use vmstack::{VirtAddr, VirtRange};
use vmstack_paging::Access;

use super::elf::{self, ElfError, Loaded};
use super::{Layout, Memory};
use crate::arch::cpu;
use crate::arch::layout::PAGE_SIZE;
use crate::mm::space::{AddressSpace, SpaceError};

const STACK_TOP: usize = 0x7fff_ffff_0000;
const STACK_BYTES: usize = 256 << 10;
/// Where mappings start.
const MAPPINGS: usize = 0x7f00_0000_0000;
/// How many bytes of arguments and environment are accepted.
pub(crate) const MAX_STRINGS: usize = 128 << 10;

/// Entries of the auxiliary vector, by Linux's numbers.
mod aux {
    pub(super) const NULL: usize = 0;
    pub(super) const PHDR: usize = 3;
    pub(super) const PHENT: usize = 4;
    pub(super) const PHNUM: usize = 5;
    pub(super) const PAGESZ: usize = 6;
    pub(super) const ENTRY: usize = 9;
    pub(super) const SECURE: usize = 23;
    pub(super) const RANDOM: usize = 25;
    pub(super) const EXECFN: usize = 31;
}

/// A program's arguments and environment, as bytes without their final zeros.
#[derive(Clone, Debug, Default)]
pub(crate) struct Strings {
    pub(crate) arguments: Vec<Vec<u8>>,
    pub(crate) environment: Vec<Vec<u8>>,
}

/// A program ready to run.
#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) memory: Memory,
    pub(crate) entry: VirtAddr,
    pub(crate) stack: VirtAddr,
}

/// Builds the memory of the program in `file`, called `path`.
pub(crate) fn build(path: &[u8], file: &[u8], strings: &Strings) -> Result<Program, ElfError> {
    let mut space = AddressSpace::new()?;
    let loaded = elf::load(file, &mut space)?;
    let bottom = VirtAddr::new(STACK_TOP - STACK_BYTES);
    let range = VirtRange::new(bottom, STACK_BYTES).ok_or(SpaceError::BadRange)?;
    space.map(range, Access::ReadWrite)?;
    let stack = StackBuilder { space: &space, at: VirtAddr::new(STACK_TOP) }.build(path, strings, &loaded)?;
    let heap = loaded.end.wrapping_add(PAGE_SIZE);
    let layout = Layout { heap_start: heap, heap_end: heap, next_mapping: VirtAddr::new(MAPPINGS) };
    Ok(Program { memory: Memory { space, layout }, entry: loaded.entry, stack })
}

/// Writes a new program's stack, from the top down.
struct StackBuilder<'a> {
    space: &'a AddressSpace,
    at: VirtAddr,
}

impl StackBuilder<'_> {
    fn push(&mut self, bytes: &[u8]) -> Result<VirtAddr, SpaceError> {
        self.at = self.at.wrapping_sub(bytes.len());
        self.space.load(self.at, bytes)?;
        Ok(self.at)
    }

    fn push_string(&mut self, string: &[u8]) -> Result<VirtAddr, SpaceError> {
        self.push(&[0])?;
        self.push(string)
    }

    fn build(mut self, path: &[u8], strings: &Strings, loaded: &Loaded) -> Result<VirtAddr, SpaceError> {
        let name = self.push_string(path)?;
        let random = self.push(&random_bytes())?;
        let place = |builder: &mut Self, strings: &[Vec<u8>]| -> Result<Vec<usize>, SpaceError> {
            strings.iter().map(|string| builder.push_string(string).map(VirtAddr::get)).collect()
        };
        let arguments = place(&mut self, &strings.arguments)?;
        let environment = place(&mut self, &strings.environment)?;
        let mut words = Vec::new();
        words.push(arguments.len());
        words.extend(arguments);
        words.push(0);
        words.extend(environment);
        words.push(0);
        let (headers, count, bytes) = loaded.headers;
        let vector = [
            (aux::PHDR, headers.get()),
            (aux::PHNUM, count),
            (aux::PHENT, bytes),
            (aux::PAGESZ, PAGE_SIZE),
            (aux::ENTRY, loaded.entry.get()),
            (aux::SECURE, 0),
            (aux::RANDOM, random.get()),
            (aux::EXECFN, name.get()),
            (aux::NULL, 0),
        ];
        words.extend(vector.iter().flat_map(|&(key, value)| [key, value]));
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.at = VirtAddr::new((self.at.get() - bytes.len()) & !15);
        self.space.load(self.at, &bytes)?;
        Ok(self.at)
    }
}

/// Sixteen bytes that differ from program to program. The kernel promises nobody that they cannot be guessed.
fn random_bytes() -> [u8; 16] {
    let mut bytes = [0; 16];
    let mut word = cpu::cycles() | 1;
    for byte in &mut bytes {
        word ^= word << 13;
        word ^= word >> 7;
        word ^= word << 17;
        *byte = word as u8;
    }
    bytes
}
