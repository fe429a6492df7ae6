//! Static ELF programs: which are accepted, and how they are laid out in memory.
//!
//! Accepted: 64-bit little-endian x86-64, fixed (`ET_EXEC`) or position independent without an interpreter (`ET_DYN`,
//! static-pie: it relocates itself). Every offset in the file is checked; nothing in it can make the kernel fault.

use elf::ElfBytes;
use elf::abi::{EM_X86_64, ET_DYN, ET_EXEC, PF_W, PF_X, PT_INTERP, PT_LOAD, PT_PHDR};
use elf::endian::LittleEndian;
use elf::segment::ProgramHeader;
use vmstack::{VirtAddr, VirtRange};
use vmstack_paging::Access;

use crate::arch::layout::PAGE_SIZE;
use crate::mm::space::{AddressSpace, SpaceError, pages_around};

/// Where a position-independent program goes.
const PIE_BASE: usize = 0x5555_5555_4000;

/// Why a file cannot be run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ElfError {
    /// It is no ELF file, or a damaged one, or for another machine.
    NotExecutable,
    /// It wants an interpreter.
    Dynamic,
    /// It cannot be mapped.
    Memory(SpaceError),
}

impl From<SpaceError> for ElfError {
    fn from(error: SpaceError) -> Self {
        Self::Memory(error)
    }
}

/// A program in memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Loaded {
    pub(crate) entry: VirtAddr,
    /// Where the program headers are, how many, and how long each is.
    pub(crate) headers: (VirtAddr, usize, usize),
    /// The first page above everything.
    pub(crate) end: VirtAddr,
}

/// Maps the program in `file` into `space`.
pub(crate) fn load(file: &[u8], space: &mut AddressSpace) -> Result<Loaded, ElfError> {
    let elf = ElfBytes::<LittleEndian>::minimal_parse(file).map_err(|_| ElfError::NotExecutable)?;
    let header = elf.ehdr;
    if header.e_machine != EM_X86_64 || !matches!(header.e_type, ET_EXEC | ET_DYN) {
        return Err(ElfError::NotExecutable);
    }
    let segments = elf.segments().ok_or(ElfError::NotExecutable)?;
    if segments.iter().any(|segment| segment.p_type == PT_INTERP) {
        return Err(ElfError::Dynamic);
    }
    let base = if header.e_type == ET_DYN { PIE_BASE } else { 0 };
    let mut end = VirtAddr::default();
    for segment in segments.iter().filter(|segment| segment.p_type == PT_LOAD) {
        end = end.max(load_segment(file, &segment, base, space)?);
    }
    let entry = (header.e_entry as usize).checked_add(base).map(VirtAddr::new).ok_or(ElfError::NotExecutable)?;
    let headers = segments.iter().find(|segment| segment.p_type == PT_PHDR).map(|segment| segment.p_vaddr);
    let first = segments.iter().find(|segment| segment.p_type == PT_LOAD && segment.p_offset == 0);
    let headers = headers.or_else(|| Some(first?.p_vaddr + header.e_phoff)).unwrap_or(0) as usize;
    let headers =
        (VirtAddr::new(base.wrapping_add(headers)), usize::from(header.e_phnum), usize::from(header.e_phentsize));
    Ok(Loaded { entry, headers, end })
}

/// Maps one segment and returns the first page above it.
fn load_segment(
    file: &[u8],
    segment: &ProgramHeader,
    base: usize,
    space: &mut AddressSpace,
) -> Result<VirtAddr, ElfError> {
    let start = (segment.p_vaddr as usize).checked_add(base).ok_or(ElfError::NotExecutable)?;
    let from = segment.p_offset as usize;
    let bytes = from.checked_add(segment.p_filesz as usize).and_then(|end| file.get(from..end));
    let bytes = bytes.filter(|_| segment.p_filesz <= segment.p_memsz).ok_or(ElfError::NotExecutable)?;
    let range = pages_around(VirtAddr::new(start), segment.p_memsz as usize)?;
    let writable = segment.p_flags & PF_W != 0;
    let access = Access::from_flags(writable, segment.p_flags & PF_X != 0).map_err(|_| ElfError::NotExecutable)?;
    map_missing(range, access, space)?;
    space.load(VirtAddr::new(start), bytes)?;
    Ok(range.end())
}

/// Maps the pages of `range` that no earlier segment shares.
fn map_missing(range: VirtRange, access: Access, space: &mut AddressSpace) -> Result<(), SpaceError> {
    for offset in (0..range.bytes()).step_by(PAGE_SIZE) {
        let page = pages_around(range.start().wrapping_add(offset), PAGE_SIZE)?;
        if space.is_free(page) {
            space.map(page, access)?;
        } else if access.is_writable() {
            // A page that two segments share gets the rights of the one that writes.
            space.protect(page, access)?;
        }
    }
    Ok(())
}
