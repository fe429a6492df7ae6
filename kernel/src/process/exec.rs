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

use alloc::sync::Arc;
use alloc::vec::Vec;

use vmstack::{VirtAddr, VirtRange};
use vmstack_paging::Access;

use super::elf::{self, ElfError, Loaded};
use crate::arch::cpu;
use crate::arch::layout::PAGE_SIZE;
use crate::mm::heap::{self, OutOfHeap};
use crate::mm::memory::{Layout, Memory};
use crate::mm::space::{AddressSpace, SpaceError};

const WORD: usize = size_of::<usize>();
const STACK_TOP: usize = 0x7fff_ffff_0000;
const STACK_BYTES: usize = 256 << 10;
/// Where mappings start.
const MAPPINGS: usize = 0x7f00_0000_0000;
/// How many bytes of arguments, and of environment, are accepted; eight for each pointer among them.
pub(crate) const MAX_STRINGS: usize = 64 << 10;

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

/// Strings one after the other, each ended by a zero.
#[derive(Clone, Debug, Default)]
pub(crate) struct StringList(Vec<u8>);

impl StringList {
    /// Adds `string`, of which a zero and what follows it do not count.
    pub(crate) fn push(&mut self, string: &[u8]) -> Result<(), OutOfHeap> {
        let string = string.split(|&byte| byte == 0).next().unwrap_or(&[]);
        heap::reserve(&mut self.0, string.len() + 1)?;
        self.0.extend_from_slice(string);
        self.0.push(0);
        Ok(())
    }

    /// Bytes in all, zeros included.
    pub(crate) fn bytes(&self) -> usize {
        self.0.len()
    }

    /// The strings as they lie, shared: what `/proc` shows of them.
    pub(crate) fn to_shared(&self) -> Result<Arc<Vec<u8>>, OutOfHeap> {
        const SHOWN: usize = 4096;
        let mut bytes = Vec::new();
        let shown = self.0.get(..SHOWN).unwrap_or(&self.0);
        heap::reserve(&mut bytes, shown.len())?;
        bytes.extend_from_slice(shown);
        heap::try_arc(bytes)
    }

    /// How many strings.
    fn count(&self) -> usize {
        self.0.iter().filter(|&&byte| byte == 0).count()
    }

    /// The strings, without their zeros.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split_inclusive(|&byte| byte == 0).map(|string| string.strip_suffix(&[0]).unwrap_or(string))
    }
}

/// A program's arguments and environment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Strings {
    pub(crate) arguments: StringList,
    pub(crate) environment: StringList,
}

/// A program ready to run.
#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) memory: Arc<Memory>,
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
    Ok(Program { memory: Memory::new(space, layout), entry: loaded.entry, stack })
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
        let environment = self.push(&strings.environment.0)?;
        let arguments = self.push(&strings.arguments.0)?;
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
        let pointers = strings.arguments.count() + strings.environment.count() + 3;
        let bytes = (pointers + 2 * vector.len()) * WORD;
        let start = VirtAddr::new((self.at.get() - bytes) & !15);
        self.at = start;
        self.word(strings.arguments.count())?;
        self.pointers(arguments, &strings.arguments)?;
        self.pointers(environment, &strings.environment)?;
        vector.iter().try_for_each(|&(key, value)| self.word(key).and_then(|()| self.word(value)))?;
        Ok(start)
    }

    /// Writes the next word, upwards.
    fn word(&mut self, word: usize) -> Result<(), SpaceError> {
        self.space.load(self.at, &word.to_le_bytes())?;
        self.at = self.at.wrapping_add(WORD);
        Ok(())
    }

    /// Writes pointers to the strings of `list`, which lie from `at` on, and a null pointer.
    fn pointers(&mut self, at: VirtAddr, list: &StringList) -> Result<(), SpaceError> {
        let mut at = at;
        for string in list.iter() {
            self.word(at.get())?;
            at = at.wrapping_add(string.len() + 1);
        }
        self.word(0)
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
