//! The storage stack, over disks in memory: each layer against what it should be, requests that make no sense, and descriptions.

#[path = "../../../src/block/mod.rs"]
#[expect(dead_code, unused_imports, reason = "the kernel uses the rest")]
mod kernel;

mod descriptions;
mod layers;
mod vectors;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kernel::description::{self, Bad, Sources, Why};
use kernel::{Block, BlockError, Bytes, Layers, SECTOR};

use crate::dma::DmaBuffer;
use crate::memory::Random;

/// Sectors of the disk of a test.
const SECTORS: u64 = 1000;

/// A disk in memory that counts, and may fail at one sector.
#[derive(Debug)]
struct Disk {
    bytes: Bytes,
    bad: u64,
    requests: AtomicU64,
}

impl Disk {
    fn new(bytes: Vec<u8>, bad: u64) -> Arc<Self> {
        Arc::new(Self { bytes: Bytes(bytes.leak()), bad, requests: AtomicU64::new(0) })
    }
}

impl Block for Disk {
    fn sectors(&self) -> u64 {
        self.bytes.sectors()
    }

    fn read(&self, sector: u64, buffer: &mut DmaBuffer, part: core::ops::Range<usize>) -> Result<(), BlockError> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let end = sector + (part.len() / SECTOR) as u64;
        if (sector..end).contains(&self.bad) {
            return Err(BlockError::Device { sector: self.bad });
        }
        self.bytes.read(sector, buffer, part)
    }
}

/// A machine with a disk, and with the files `a` and `b` in its archive: the halves of the disk.
struct Machine {
    disk: Arc<Disk>,
    halves: [&'static [u8]; 2],
}

impl Machine {
    fn new(bad: u64) -> Self {
        let bytes = contents();
        let (first, second) = bytes.split_at(bytes.len() / 2);
        let halves = [first.to_vec().leak() as &[u8], second.to_vec().leak()];
        Self { disk: Disk::new(bytes, bad), halves }
    }

    fn build(&self, text: &str) -> Result<Layers, Bad> {
        description::build(text.as_bytes(), self)
    }
}

impl Sources for Machine {
    fn disk(&self) -> Result<Arc<dyn Block>, Why> {
        Ok(self.disk.clone())
    }

    fn file(&self, name: &[u8]) -> Result<&'static [u8], Why> {
        match name {
            b"a" => Ok(self.halves[0]),
            b"b.img" => Ok(self.halves[1]),
            _ => Err(Why::NoSource),
        }
    }
}

/// What the disk holds: no two sectors are the same.
fn contents() -> Vec<u8> {
    let mut random = Random(0x1619);
    (0..SECTORS as usize * SECTOR / 8).flat_map(|_| random.next().to_le_bytes()).collect()
}

/// Reads `count` sectors from `sector` on, into the middle of a buffer whose rest must not change.
fn read(device: &dyn Block, sector: u64, count: usize) -> Result<Vec<u8>, BlockError> {
    const BEFORE: usize = 3;
    let mut buffer = DmaBuffer::new((count + 2 * BEFORE) * SECTOR).unwrap();
    buffer.fill(0xa5);
    let part = BEFORE * SECTOR..(BEFORE + count) * SECTOR;
    device.read(sector, &mut buffer, part.clone())?;
    let outside = buffer[..part.start].iter().chain(&buffer[part.end..]);
    assert!(outside.copied().all(|byte| byte == 0xa5));
    Ok(buffer[part].to_vec())
}
