//! ACPI, as far as finding the CPUs and the interrupt controllers goes: RSDP, RSDT or XSDT, MADT.
//!
//! Every table's checksum is verified before it is used, every length is bounded, every entry lies within its table:
//! bytes that are not ACPI give an error, never a panic. Memory is read through a function, so this runs on any host.
//! Task context, while the kernel boots; it takes no lock and allocates nothing.

use core::fmt;

use vmstack::PhysAddr;

use super::percpu::MAX_CPUS;
use super::start_info::{ReadPhys, word32, word64};

/// What begins every table but the RSDP: signature, length, revision, checksum, ids.
const HEADER_BYTES: usize = 36;
/// The largest table that is believed, in bytes.
const MAX_TABLE: usize = 1 << 20;
const RSDP_BYTES: usize = 20;
const RSDP2_BYTES: usize = 36;
/// Where firmware of a PC leaves the RSDP, on a boundary of 16 bytes, if the loader does not say.
const BIOS_AREA: (u64, u64) = (0xe_0000, 0x10_0000);
/// In the MADT, before its entries: the local APIC's address and flags.
const MADT_ENTRIES: usize = HEADER_BYTES + 8;
const MAX_IO_APICS: usize = 8;
const MAX_OVERRIDES: usize = 16;

/// Why the tables cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum AcpiError {
    /// No RSDP: neither where the loader says nor in the BIOS area.
    NoRsdp,
    /// This many bytes at this address cannot be read.
    Unreachable(PhysAddr, usize),
    /// The table at this address does not have the signature that it is listed or needed for.
    BadSignature(PhysAddr, [u8; 4]),
    /// The bytes of the table at this address do not add up to zero.
    BadChecksum(PhysAddr),
    /// The table at this address says it has this many bytes.
    BadLength(PhysAddr, u32),
    /// There is no MADT.
    NoMadt,
    /// The MADT lists more CPUs than the kernel can use.
    TooManyCpus(usize),
}

impl fmt::Display for AcpiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRsdp => write!(f, "no ACPI root pointer"),
            Self::Unreachable(addr, bytes) => write!(f, "ACPI: {bytes} bytes at {addr:?} are out of reach"),
            Self::BadSignature(addr, found) => write!(f, "ACPI: table at {addr:?} begins with {found:02x?}"),
            Self::BadChecksum(addr) => write!(f, "ACPI: table at {addr:?} does not add up"),
            Self::BadLength(addr, bytes) => write!(f, "ACPI: table at {addr:?} says it has {bytes} bytes"),
            Self::NoMadt => write!(f, "ACPI: no MADT, so the CPUs are unknown"),
            Self::TooManyCpus(count) => write!(f, "ACPI lists {count} CPUs, the kernel can use {MAX_CPUS}"),
        }
    }
}

/// An I/O APIC.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct IoApicInfo {
    /// Its own id.
    pub(crate) id: u8,
    /// Where its registers are.
    pub(crate) address: PhysAddr,
    /// The number that its first line has in the system: its first global system interrupt.
    pub(crate) first_gsi: u32,
}

/// A legacy interrupt line that is wired in another way than one to one, edge, active high.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Override {
    /// The line of the legacy PICs.
    pub(crate) irq: u8,
    /// The global system interrupt that it is.
    pub(crate) gsi: u32,
    /// Whether a low level is the active one.
    pub(crate) active_low: bool,
    /// Whether it is triggered by level.
    pub(crate) level: bool,
}

/// A list with room for `N`.
#[derive(Clone, Copy, Debug)]
struct List<T, const N: usize> {
    items: [T; N],
    count: usize,
}

impl<T: Copy + Default, const N: usize> List<T, N> {
    fn new() -> Self {
        Self { items: [T::default(); N], count: 0 }
    }

    /// Appends `item` if there is room, and counts it in any case.
    fn push(&mut self, item: T) {
        if let Some(slot) = self.items.get_mut(self.count) {
            *slot = item;
        }
        self.count += 1;
    }

    fn as_slice(&self) -> &[T] {
        &self.items[..self.count.min(N)]
    }
}

/// What the MADT says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Madt {
    local_apic: PhysAddr,
    cpus: List<u32, MAX_CPUS>,
    io_apics: List<IoApicInfo, MAX_IO_APICS>,
    overrides: List<Override, MAX_OVERRIDES>,
}

impl Madt {
    /// Finds the MADT from the RSDP at `rsdp`, or from the one in the BIOS area.
    ///
    /// # Errors
    ///
    /// The first table on the way that is not as ACPI says it must be.
    pub(crate) fn find(rsdp: Option<PhysAddr>, read: impl ReadPhys) -> Result<Self, AcpiError> {
        let rsdp = rsdp.or_else(|| search_rsdp(&read)).ok_or(AcpiError::NoRsdp)?;
        let (root, width) = root_table(&read, rsdp)?;
        for entry in root.get(HEADER_BYTES..).unwrap_or(&[]).chunks_exact(width) {
            let addr = PhysAddr::new(if width == 8 { word64(entry, 0) } else { u64::from(word32(entry, 0)) });
            if fetch(&read, addr, HEADER_BYTES)?.starts_with(b"APIC") {
                return Self::parse(table(&read, addr, *b"APIC")?);
            }
        }
        Err(AcpiError::NoMadt)
    }

    /// Reads the entries of a MADT whose checksum is right.
    fn parse(madt: &[u8]) -> Result<Self, AcpiError> {
        let mut found = Self {
            local_apic: PhysAddr::new(u64::from(word32(madt, HEADER_BYTES))),
            cpus: List::new(),
            io_apics: List::new(),
            overrides: List::new(),
        };
        let mut rest = madt.get(MADT_ENTRIES..).unwrap_or(&[]);
        // Type, length, body. A length that is too small to get ahead, or too large, ends the walk.
        while let [kind, length, ..] = *rest {
            let length = usize::from(length);
            if length < 2 || length > rest.len() {
                break;
            }
            let (entry, following) = rest.split_at(length);
            found.note(kind, entry);
            rest = following;
        }
        if found.cpus.count > MAX_CPUS {
            return Err(AcpiError::TooManyCpus(found.cpus.count));
        }
        Ok(found)
    }

    /// Notes one entry. Entries too short for their type read as zero, hence as a CPU that is not enabled.
    fn note(&mut self, kind: u8, entry: &[u8]) {
        let byte = |offset: usize| entry.get(offset).copied().unwrap_or(0);
        match kind {
            // Processor local APIC: id, flags (bit 0: enabled).
            0 if word32(entry, 4) & 1 != 0 => self.note_cpu(u32::from(byte(3))),
            // Processor local x2APIC. Ids that fit the other kind are used; larger ones need x2APIC mode.
            9 if word32(entry, 8) & 1 != 0 && word32(entry, 4) < 0xff => self.note_cpu(word32(entry, 4)),
            1 => self.io_apics.push(IoApicInfo {
                id: byte(2),
                address: PhysAddr::new(u64::from(word32(entry, 4))),
                first_gsi: word32(entry, 8),
            }),
            2 => self.overrides.push(Override {
                irq: byte(3),
                gsi: word32(entry, 4),
                active_low: byte(8) & 0b11 == 0b11,
                level: byte(8) & 0b1100 == 0b1100,
            }),
            5 => self.local_apic = PhysAddr::new(word64(entry, 4)),
            _ => {}
        }
    }

    /// Notes a CPU, once: starting it twice would reset it while it runs.
    fn note_cpu(&mut self, apic_id: u32) {
        if !self.cpus().contains(&apic_id) {
            self.cpus.push(apic_id);
        }
    }

    /// Where every CPU sees its own local APIC.
    #[must_use]
    #[cfg_attr(not(test), expect(dead_code, reason = "each CPU asks itself; tests look at what was parsed"))]
    pub(crate) fn local_apic(&self) -> PhysAddr {
        self.local_apic
    }

    /// The local APIC ids of the CPUs that are enabled, the boot CPU's among them.
    #[must_use]
    pub(crate) fn cpus(&self) -> &[u32] {
        self.cpus.as_slice()
    }

    /// The I/O APICs.
    #[must_use]
    pub(crate) fn io_apics(&self) -> &[IoApicInfo] {
        self.io_apics.as_slice()
    }

    /// How the legacy line `irq` is wired.
    #[must_use]
    pub(crate) fn legacy_line(&self, irq: u8) -> Override {
        let listed = self.overrides.as_slice().iter().find(|entry| entry.irq == irq);
        listed.copied().unwrap_or(Override { irq, gsi: u32::from(irq), active_low: false, level: false })
    }
}

fn fetch(read: &impl ReadPhys, addr: PhysAddr, bytes: usize) -> Result<&'static [u8], AcpiError> {
    read(addr, bytes).filter(|found| found.len() == bytes).ok_or(AcpiError::Unreachable(addr, bytes))
}

fn adds_up(bytes: &[u8]) -> bool {
    bytes.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)) == 0
}

/// Looks for the RSDP where firmware of a PC leaves it.
fn search_rsdp(read: &impl ReadPhys) -> Option<PhysAddr> {
    let (start, end) = BIOS_AREA;
    (start..end).step_by(16).map(PhysAddr::new).find(|addr| {
        let candidate = read(*addr, RSDP_BYTES);
        candidate.is_some_and(|bytes| bytes.starts_with(b"RSD PTR ") && adds_up(bytes))
    })
}

/// The RSDT or XSDT that the RSDP at `addr` names, and the width of its entries in bytes.
fn root_table(read: &impl ReadPhys, addr: PhysAddr) -> Result<(&'static [u8], usize), AcpiError> {
    let rsdp = fetch(read, addr, RSDP_BYTES)?;
    if !rsdp.starts_with(b"RSD PTR ") {
        return Err(AcpiError::BadSignature(addr, [rsdp[0], rsdp[1], rsdp[2], rsdp[3]]));
    }
    if !adds_up(rsdp) {
        return Err(AcpiError::BadChecksum(addr));
    }
    let has_xsdt = rsdp[15] >= 2;
    if has_xsdt {
        let longer = fetch(read, addr, RSDP2_BYTES)?;
        let xsdt = word64(longer, 24);
        if adds_up(longer) && xsdt != 0 {
            return Ok((table(read, PhysAddr::new(xsdt), *b"XSDT")?, 8));
        }
    }
    Ok((table(read, PhysAddr::new(u64::from(word32(rsdp, 16))), *b"RSDT")?, 4))
}

/// The whole table at `addr`, its signature, length and checksum verified.
fn table(read: &impl ReadPhys, addr: PhysAddr, signature: [u8; 4]) -> Result<&'static [u8], AcpiError> {
    let header = fetch(read, addr, HEADER_BYTES)?;
    if !header.starts_with(&signature) {
        return Err(AcpiError::BadSignature(addr, [header[0], header[1], header[2], header[3]]));
    }
    let length = word32(header, 4);
    if !(HEADER_BYTES..=MAX_TABLE).contains(&(length as usize)) {
        return Err(AcpiError::BadLength(addr, length));
    }
    let whole = fetch(read, addr, length as usize)?;
    if adds_up(whole) { Ok(whole) } else { Err(AcpiError::BadChecksum(addr)) }
}
