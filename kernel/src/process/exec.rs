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
//!
//! Segments are mapped from the file; their pages come when they are used. All of a new memory is made before anything of the old one is given
//! up: whatever fails, the old program goes on. The new one is kept by the task that makes it, so it is not lost if that is killed.

use alloc::sync::Arc;
use alloc::vec::Vec;

use vmstack::VirtAddr;

use super::elf::{self, ElfError, Plan, Segment};
use crate::arch::layout::PAGE_SIZE;
use crate::arch::{features, fpu};
use crate::fs::{self, Node};
use crate::mm::heap::{self, OutOfHeap};
use crate::mm::memory::{Kind, MapRequest, Memory, Rights, STACK_BYTES, STACK_TOP, Where};
use crate::mm::space::SpaceError;
use crate::random::Stream;
use crate::sync::Section;
use crate::syscall::Errno;
use crate::task::kept::{self, Kept};

const WORD: usize = size_of::<usize>();
/// How many bytes of arguments and of environment are accepted together, a word for each pointer included: a quarter of the stack.
pub(crate) const MAX_STRINGS: usize = STACK_BYTES / 4;
/// How long one of them can be, in bytes, without the zero at its end.
pub(crate) const MAX_STRING: usize = (128 << 10) - 1;
/// How long the first line of a script can be, and how often the interpreter can be a script itself.
const MAX_LINE: usize = 256;
const MAX_SCRIPTS: usize = 5;

/// Entries of the auxiliary vector, by Linux's numbers.
mod aux {
    pub(super) const NULL: usize = 0;
    pub(super) const PHDR: usize = 3;
    pub(super) const PHENT: usize = 4;
    pub(super) const PHNUM: usize = 5;
    pub(super) const PAGESZ: usize = 6;
    pub(super) const BASE: usize = 7;
    pub(super) const FLAGS: usize = 8;
    pub(super) const ENTRY: usize = 9;
    pub(super) const UID: usize = 11;
    pub(super) const EUID: usize = 12;
    pub(super) const GID: usize = 13;
    pub(super) const EGID: usize = 14;
    pub(super) const PLATFORM: usize = 15;
    pub(super) const HWCAP: usize = 16;
    pub(super) const CLKTCK: usize = 17;
    pub(super) const SECURE: usize = 23;
    pub(super) const RANDOM: usize = 25;
    pub(super) const HWCAP2: usize = 26;
    pub(super) const EXECFN: usize = 31;
    pub(super) const MINSIGSTKSZ: usize = 51;
}

/// Strings one after the other, each ended by a zero.
#[derive(Clone, Debug, Default)]
pub(crate) struct StringList {
    bytes: Vec<u8>,
    count: usize,
}

impl StringList {
    /// Adds `string`, of which a zero and what follows it do not count.
    pub(crate) fn push(&mut self, string: &[u8]) -> Result<(), OutOfHeap> {
        let string = string.split(|&byte| byte == 0).next().unwrap_or(&[]);
        self.append(|bytes| {
            heap::reserve(bytes, string.len())?;
            bytes.extend_from_slice(string);
            Ok(())
        })
    }

    /// Adds what `append` appends, in which there is no zero.
    pub(crate) fn append<E: From<OutOfHeap>>(
        &mut self,
        append: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        append(&mut self.bytes)?;
        heap::reserve(&mut self.bytes, 1)?;
        self.bytes.push(0);
        self.count += 1;
        Ok(())
    }

    /// The strings as they lie, shared: what `/proc` shows of them.
    pub(crate) fn to_shared(&self) -> Result<Arc<Vec<u8>>, OutOfHeap> {
        const SHOWN: usize = 4096;
        let mut bytes = Vec::new();
        let shown = self.bytes.get(..SHOWN).unwrap_or(&self.bytes);
        heap::reserve(&mut bytes, shown.len())?;
        bytes.extend_from_slice(shown);
        heap::try_arc(bytes)
    }

    /// Bytes in all, zeros included.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// How many strings.
    fn count(&self) -> usize {
        self.count
    }

    /// The first string, or an empty one.
    fn first(&self) -> &[u8] {
        self.bytes.split(|&byte| byte == 0).next().unwrap_or(&[])
    }

    /// The strings, without their zeros.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.bytes.split_inclusive(|&byte| byte == 0).map(|string| string.strip_suffix(&[0]).unwrap_or(string))
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
    pub(crate) memory: Kept<Arc<Memory>>,
    pub(crate) entry: VirtAddr,
    pub(crate) stack: VirtAddr,
}

impl From<ElfError> for Errno {
    fn from(error: ElfError) -> Self {
        match error {
            ElfError::NotExecutable => Self::NOEXEC,
            // Its interpreter is not there.
            ElfError::Dynamic => Self::NOENT,
        }
    }
}

/// Builds the memory of the program in `file`, which `path` leads to, or of the interpreter of the script there, which is looked for from
/// `folder`.
pub(crate) fn build(folder: Node, path: &[u8], file: &'static [u8], strings: &Strings) -> Result<Program, Errno> {
    let Some(script) = Script::parse(file) else { return build_elf(path, file, &strings.arguments, strings) };
    let mut arguments = script.arguments(path, &strings.arguments)?;
    let mut file = find(folder, script.interpreter)?.1;
    for _ in 1..MAX_SCRIPTS {
        let Some(script) = Script::parse(file) else { return build_elf(path, file, &arguments, strings) };
        // The script that is interpreted is the one before: it is the first of the arguments so far.
        let interpreted = script.arguments(arguments.first(), &arguments)?;
        arguments = interpreted;
        file = find(folder, script.interpreter)?.1;
    }
    Err(Errno::LOOP)
}

/// The program's file at `path`, and what is in it.
pub(crate) fn find(folder: Node, path: &[u8]) -> Result<(Node, &'static [u8]), Errno> {
    let mut copy = Vec::new();
    heap::reserve(&mut copy, path.len())?;
    copy.extend_from_slice(path);
    fs::program(folder, copy)
}

/// The first line of a script: `#!interpreter argument`.
#[derive(Clone, Copy, Debug)]
struct Script<'a> {
    interpreter: &'a [u8],
    argument: &'a [u8],
}

impl<'a> Script<'a> {
    fn parse(file: &'a [u8]) -> Option<Self> {
        let start = file.get(..file.len().min(MAX_LINE))?.strip_prefix(b"#!")?;
        let whole = start.split(|&byte| byte == b'\n' || byte == 0).next()?;
        let line = whole.trim_ascii();
        let end = line.iter().position(u8::is_ascii_whitespace).unwrap_or(line.len());
        let (interpreter, argument) = line.split_at(end);
        // What is cut off names something else.
        if whole.len() + 2 == MAX_LINE && whole.ends_with(interpreter) {
            return None;
        }
        (!interpreter.is_empty()).then_some(Self { interpreter, argument: argument.trim_ascii() })
    }

    /// The interpreter's arguments: itself, the one of the line, the script, and the script's own from the second on.
    fn arguments(&self, path: &[u8], arguments: &StringList) -> Result<StringList, OutOfHeap> {
        let mut list = StringList::default();
        list.push(self.interpreter)?;
        if !self.argument.is_empty() {
            list.push(self.argument)?;
        }
        list.push(path)?;
        arguments.iter().skip(1).try_for_each(|argument| list.push(argument))?;
        Ok(list)
    }
}

/// Builds the memory of the ELF program in `file`, called `path`.
fn build_elf(path: &[u8], file: &'static [u8], arguments: &StringList, strings: &Strings) -> Result<Program, Errno> {
    let plan = elf::plan(file)?;
    let section = Section::enter();
    let memory = kept::keep(&"memory", Memory::new()?, &section);
    drop(section);
    plan.segments.iter().try_for_each(|segment| map_segment(&memory, segment))?;
    memory.start_heap(VirtAddr::new(plan.end + PAGE_SIZE));
    let stack = STACK_TOP.wrapping_sub(STACK_BYTES);
    map(&memory, stack, STACK_BYTES, Rights::READ_WRITE, None)?;
    let stack = StackBuilder { memory: &memory, at: STACK_TOP }.build(path, arguments, &strings.environment, &plan)?;
    Ok(Program { memory, entry: VirtAddr::new(plan.entry), stack })
}

fn map_segment(memory: &Memory, segment: &Segment<'static>) -> Result<(), Errno> {
    let rights = Rights::from_flags(segment.read, segment.write, segment.execute).ok_or(Errno::NOEXEC)?;
    let start = VirtAddr::new(segment.start);
    map(memory, start, segment.file_bytes, rights, Some(segment.file))?;
    map(memory, start.wrapping_add(segment.file_bytes), segment.zero_bytes, rights, None)
}

fn map(memory: &Memory, at: VirtAddr, bytes: usize, rights: Rights, file: Option<&'static [u8]>) -> Result<(), Errno> {
    if bytes == 0 {
        return Ok(());
    }
    let request =
        MapRequest { place: Where::ThereIfFree(at), bytes, rights, kind: Kind::PRIVATE, file, populate: false };
    memory.map(&request).map(|_| ()).map_err(|error| match error {
        // Two parts of the program, or one and the stack, want the same place.
        SpaceError::Occupied => Errno::NOEXEC,
        error => error.into(),
    })
}

/// Writes a new program's stack, from the top down.
struct StackBuilder<'a> {
    memory: &'a Memory,
    at: VirtAddr,
}

impl StackBuilder<'_> {
    fn push(&mut self, bytes: &[u8]) -> Result<VirtAddr, SpaceError> {
        self.at = self.at.wrapping_sub(bytes.len());
        self.memory.write(self.at.get(), bytes)?;
        Ok(self.at)
    }

    fn push_string(&mut self, string: &[u8]) -> Result<VirtAddr, SpaceError> {
        self.push(&[0])?;
        self.push(string)
    }

    fn build(
        mut self,
        path: &[u8],
        arguments: &StringList,
        environment: &StringList,
        plan: &Plan<'_>,
    ) -> Result<VirtAddr, Errno> {
        let name = self.push_string(path)?;
        let platform = self.push_string(b"x86_64")?;
        let random = self.push(&random_bytes())?;
        let environment_at = self.push(&environment.bytes)?;
        let arguments_at = self.push(&arguments.bytes)?;
        let vector = vector(plan, name, platform, random);
        let count = arguments.count() + environment.count() + 3 + 2 * vector.len();
        let start = VirtAddr::new((self.at.get() - count * WORD) & !15);
        let mut words = Words(Vec::new());
        heap::reserve(&mut words.0, count * WORD)?;
        words.push(arguments.count());
        words.push_pointers(arguments_at, arguments);
        words.push_pointers(environment_at, environment);
        vector.iter().flat_map(|&(key, value)| [key, value]).for_each(|word| words.push(word));
        self.memory.write(start.get(), &words.0)?;
        Ok(start)
    }
}

/// The auxiliary vector.
fn vector(plan: &Plan<'_>, name: VirtAddr, platform: VirtAddr, random: VirtAddr) -> [(usize, usize); 20] {
    let (headers, count, bytes) = plan.headers;
    [
        (aux::HWCAP, features::hardware_capabilities()),
        (aux::PAGESZ, PAGE_SIZE),
        (aux::CLKTCK, 100),
        (aux::PHDR, headers),
        (aux::PHENT, bytes),
        (aux::PHNUM, count),
        (aux::BASE, 0),
        (aux::FLAGS, 0),
        (aux::ENTRY, plan.entry),
        (aux::UID, 0),
        (aux::EUID, 0),
        (aux::GID, 0),
        (aux::EGID, 0),
        (aux::SECURE, 0),
        (aux::RANDOM, random.get()),
        (aux::HWCAP2, 0),
        (aux::EXECFN, name.get()),
        (aux::PLATFORM, platform.get()),
        // The vector registers and what lies around them.
        (aux::MINSIGSTKSZ, fpu::area_bytes() + 1024),
        (aux::NULL, 0),
    ]
}

/// The words above a new program's stack pointer. There is room for them.
struct Words(Vec<u8>);

impl Words {
    fn push(&mut self, word: usize) {
        self.0.extend_from_slice(&word.to_le_bytes());
    }

    /// Pointers to the strings of `list`, which lie from `at` on, and a null pointer.
    fn push_pointers(&mut self, mut at: VirtAddr, list: &StringList) {
        for string in list.iter() {
            self.push(at.get());
            at = at.wrapping_add(string.len() + 1);
        }
        self.push(0);
    }
}

/// Sixteen bytes of the program's own.
fn random_bytes() -> [u8; 16] {
    let mut bytes = [0; 16];
    Stream::new().fill(&mut bytes);
    bytes
}
