//! Static ELF programs: which are accepted, and how they are laid out in memory.
//!
//! Accepted: 64-bit little-endian x86-64, fixed (`ET_EXEC`) or position independent without an interpreter (`ET_DYN`,
//! static-pie: it relocates itself). Every number in the file is checked; nothing in it can make the kernel fault.
//!
//! This is arithmetic on bytes, tested on the host with damaged files (`kernel/host-tests`). Whoever maps what is planned here may still find
//! that it does not fit.
//!
//! ```text
//!   a segment     |   from the file    |     zeros     |
//!   pages         |      |      |   ...0 0 0|    |     |
//!                  `file` pages ──────────> `zero` pages ──>
//! ```

use arrayvec::ArrayVec;
use elf::abi::{EI_NIDENT, ELFMAGIC, EM_X86_64, ET_DYN, ET_EXEC, PF_R, PF_W, PF_X, PT_INTERP, PT_LOAD, PT_PHDR};
use elf::endian::LittleEndian;
use elf::file::{Class, FileHeader};
use elf::segment::{ProgramHeader, SegmentTable};

const PAGE: usize = 4096;
/// What a file begins with, what it says of one segment, and how long a table of those can be, in bytes.
const HEADER: usize = 64;
const SEGMENT: usize = 56;
const MAX_TABLE: usize = 1 << 16;
/// Segments lie below this.
const END: usize = (1 << 47) - 2 * PAGE;
/// Where a position-independent program goes, or the next address that is aligned as it wants.
const PIE_BASE: usize = 0x5555_5555_4000;
/// The largest alignment that is heeded.
const MAX_ALIGN: usize = 1 << 30;
/// How many segments a program can have.
const MAX_SEGMENTS: usize = 16;

/// Why a file cannot be run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ElfError {
    /// It is no ELF file, or a damaged one, or for another machine.
    NotExecutable,
    /// It wants an interpreter.
    Dynamic,
}

/// How a program is laid out.
#[derive(Clone, Debug)]
pub(crate) struct Plan<'a> {
    pub(crate) entry: usize,
    /// Where the program headers are in memory, how many, and how long each is in bytes.
    pub(crate) headers: (usize, usize, usize),
    /// Lowest address first; no two share a page.
    pub(crate) segments: ArrayVec<Segment<'a>, MAX_SEGMENTS>,
    /// The first page above everything.
    pub(crate) end: usize,
}

/// One segment, in whole pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Segment<'a> {
    /// The first page.
    pub(crate) start: usize,
    /// How many bytes of pages have something of the file.
    pub(crate) file_bytes: usize,
    /// How many bytes of pages after them are zero.
    pub(crate) zero_bytes: usize,
    /// What the file says from `start` on; what is left of the last page is zero.
    pub(crate) file: &'a [u8],
    pub(crate) read: bool,
    pub(crate) write: bool,
    pub(crate) execute: bool,
}

/// How the program in `file` wants to be laid out.
pub(crate) fn plan(file: &[u8]) -> Result<Plan<'_>, ElfError> {
    let (header, table) = parse(file).ok_or(ElfError::NotExecutable)?;
    if header.e_machine != EM_X86_64 || !matches!(header.e_type, ET_EXEC | ET_DYN) {
        return Err(ElfError::NotExecutable);
    }
    if let Some(segment) = table.iter().find(|segment| segment.p_type == PT_INTERP) {
        return Err(if names_interpreter(file, &segment) { ElfError::Dynamic } else { ElfError::NotExecutable });
    }
    let base = if header.e_type == ET_DYN { pie_base(&table) } else { 0 };
    let segments = segments(file, &table, base)?;
    let end = segments.last().map_or(0, |last| last.start + last.file_bytes + last.zero_bytes);
    let entry = address(header.e_entry, base).filter(|_| end != 0).ok_or(ElfError::NotExecutable)?;
    Ok(Plan { entry, headers: headers(&header, &table, base), segments, end })
}

/// The header of `file` and what it says of segments. As on Linux the rest of what identifies the file does not matter, nor do sections.
fn parse(file: &[u8]) -> Option<(FileHeader<LittleEndian>, SegmentTable<'_, LittleEndian>)> {
    let header = file.get(..HEADER).filter(|header| header.starts_with(&ELFMAGIC))?;
    let header = FileHeader::parse_tail((LittleEndian, Class::ELF64, 0, 0), &header[EI_NIDENT..]).ok()?;
    let bytes = usize::from(header.e_phnum) * SEGMENT;
    if usize::from(header.e_phentsize) != SEGMENT || !(1..=MAX_TABLE).contains(&bytes) {
        return None;
    }
    let start = usize::try_from(header.e_phoff).ok()?;
    let table = file.get(start..start.checked_add(bytes)?)?;
    Some((header, SegmentTable::new(LittleEndian, Class::ELF64, table)))
}

/// Whether `segment` is a path that ends.
fn names_interpreter(file: &[u8], segment: &ProgramHeader) -> bool {
    let path = || file.get(usize::try_from(segment.p_offset).ok()?..)?.get(..usize::try_from(segment.p_filesz).ok()?);
    path().is_some_and(|path| (2..=PAGE).contains(&path.len()) && path.ends_with(&[0]))
}

/// Where a program that does not care goes.
fn pie_base(table: &SegmentTable<'_, LittleEndian>) -> usize {
    let aligns = table.iter().filter(|segment| segment.p_type == PT_LOAD).map(|segment| segment.p_align as usize);
    let align = aligns.filter(|align| align.is_power_of_two() && *align <= MAX_ALIGN).max().unwrap_or(PAGE);
    PIE_BASE.next_multiple_of(align.max(PAGE))
}

/// The address in memory of `address` in the file's words, if it is a user's.
fn address(address: u64, base: usize) -> Option<usize> {
    usize::try_from(address).ok()?.checked_add(base).filter(|&address| (PAGE..END).contains(&address))
}

fn segments<'a>(
    file: &'a [u8],
    table: &SegmentTable<'_, LittleEndian>,
    base: usize,
) -> Result<ArrayVec<Segment<'a>, MAX_SEGMENTS>, ElfError> {
    let mut segments = ArrayVec::<Segment<'a>, MAX_SEGMENTS>::new();
    for header in table.iter().filter(|header| header.p_type == PT_LOAD && (header.p_memsz, header.p_filesz) != (0, 0))
    {
        let segment = segment(file, &header, base).ok_or(ElfError::NotExecutable)?;
        let end = segments.last().map_or(0, |last| last.start + last.file_bytes + last.zero_bytes);
        if segment.start < end || segments.try_push(segment).is_err() {
            return Err(ElfError::NotExecutable);
        }
    }
    Ok(segments)
}

/// The pages of one segment.
fn segment<'a>(file: &'a [u8], header: &ProgramHeader, base: usize) -> Option<Segment<'a>> {
    let start = address(header.p_vaddr, base)?;
    let [offset, in_file, in_memory] =
        [header.p_offset, header.p_filesz, header.p_memsz].map(|word| usize::try_from(word).ok());
    let (offset, in_file, in_memory) = (offset?, in_file?, in_memory?);
    let skew = start % PAGE;
    let memory_end = start.checked_add(in_memory).filter(|&end| end <= END)?.next_multiple_of(PAGE);
    if in_file > in_memory || (in_file != 0 && offset % PAGE != skew) {
        return None;
    }
    // A page that has something of the file also has what comes before it there.
    let bytes = if in_file == 0 { &[] } else { file.get(offset - skew..offset.checked_add(in_file)?)? };
    let file_bytes = bytes.len().next_multiple_of(PAGE);
    let start = start - skew;
    let flag = |flag| header.p_flags & flag != 0;
    let (read, write, execute) = (flag(PF_R), flag(PF_W), flag(PF_X));
    let zero_bytes = memory_end - start - file_bytes;
    (!(write && execute)).then_some(Segment { start, file_bytes, zero_bytes, file: bytes, read, write, execute })
}

/// Where the program headers are in memory: where they say, or where the first segment shows them.
fn headers(
    header: &FileHeader<LittleEndian>,
    table: &SegmentTable<'_, LittleEndian>,
    base: usize,
) -> (usize, usize, usize) {
    let own = table.iter().find(|segment| segment.p_type == PT_PHDR).map(|segment| segment.p_vaddr);
    let first = table.iter().find(|segment| segment.p_type == PT_LOAD && segment.p_offset == 0);
    let address = own.or_else(|| Some(first?.p_vaddr.wrapping_add(header.e_phoff))).unwrap_or(0) as usize;
    (base.wrapping_add(address), usize::from(header.e_phnum), usize::from(header.e_phentsize))
}
