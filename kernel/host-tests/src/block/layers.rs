//! What layers read.

use super::kernel::{Block, BlockError, SECTOR};
use super::vectors::{AES_128, AES_256, Vector};
use super::{Bytes, Machine, SECTORS, Why, contents, description, read};
use crate::dma::DmaBuffer;
use crate::memory::Random;
use std::sync::Arc;
use std::sync::atomic::Ordering;

const NO_BAD: u64 = u64::MAX;

/// Many reads through `text` give what `expected` says, a sector's number on the disk for each of this device.
fn assert_reads(text: &str, sectors: u64, expected: impl Fn(u64) -> u64) {
    let machine = Machine::new(NO_BAD);
    let layers = machine.build(text).expect(text);
    let (top, disk) = (layers.top().unwrap(), contents());
    assert_eq!(top.sectors(), sectors, "{text}");
    let mut random = Random(7);
    for _ in 0..300 {
        let sector = random.next() % sectors;
        let count = (random.next() % 40 + 1).min(sectors - sector);
        let wanted: Vec<u8> = (sector..sector + count)
            .flat_map(|sector| disk.chunks(SECTOR).nth(expected(sector) as usize).unwrap().to_vec())
            .collect();
        assert!(read(top, sector, count as usize).unwrap() == wanted, "{text}: {count} from {sector} on");
    }
}

#[test]
fn a_partition_is_a_stretch_of_what_is_below() {
    assert_reads("linear", SECTORS, |sector| sector);
    assert_reads("linear@100", SECTORS - 100, |sector| sector + 100);
    assert_reads("linear@100+50.disk", 50, |sector| sector + 100);
    assert_reads("linear@1*7.linear@3.mirror.linear@90+100", 90, |sector| sector + 100);
}

#[test]
fn a_concatenation_is_read_over_its_seams() {
    let text = "linear(linear@500+10,linear@20+1,linear@0+30)";
    assert_reads(text, 41, |sector| match sector {
        0..10 => sector + 500,
        10 => 20,
        _ => sector - 11,
    });
    assert_reads("linear(file=a,file=b.img)", SECTORS, |sector| sector);
    assert_reads("linear(file=b.img,linear(file=a))", SECTORS, |sector| (sector + SECTORS / 2) % SECTORS);
}

#[test]
fn a_mirror_reads_where_it_can() {
    for text in ["mirror", "mirror*5", "mirror(disk,fail)", "mirror(fail,disk)", "mirror(fail,fail,disk)"] {
        assert_reads(text, SECTORS, |sector| sector);
    }
    let machine = Machine::new(17);
    let whole = machine.build("mirror(disk,linear(file=a,file=b.img))").unwrap();
    assert_eq!(read(whole.top().unwrap(), 0, 64).unwrap(), contents()[..64 * SECTOR]);
    let broken = machine.build("mirror(disk,fail)").unwrap();
    let error = read(broken.top().unwrap(), 10, 10).unwrap_err();
    assert!(matches!(error, BlockError::Device { sector: 10 | 17 }), "{error}");
}

#[test]
fn both_sides_of_a_mirror_are_read() {
    let machine = Machine::new(NO_BAD);
    let layers = machine.build("mirror(disk,linear(file=a,file=b.img))").unwrap();
    for sector in 0..SECTORS {
        read(layers.top().unwrap(), sector, 1).unwrap();
    }
    let here = machine.disk.requests.load(Ordering::Relaxed);
    assert!((SECTORS / 4..SECTORS * 3 / 4).contains(&here), "{here} of {SECTORS} went to the first");
}

#[test]
fn a_mirror_that_compares_finds_one_byte() {
    assert_reads("compare(disk,linear(file=a,file=b.img))", SECTORS, |sector| sector);
    let mut machine = Machine::new(NO_BAD);
    let mut half = machine.halves[0].to_vec();
    half[123 * SECTOR + 45] ^= 1;
    machine.halves[0] = half.leak();
    let layers = machine.build("compare(disk,linear(file=a,file=b.img))").unwrap();
    let top = layers.top().unwrap();
    assert!(read(top, 0, 123).is_ok() && read(top, 124, 100).is_ok());
    // The piece of eight sectors that it is in.
    assert_eq!(read(top, 100, 64), Err(BlockError::Different { sector: 116 }));
    assert_eq!(read(top, 123, 1), Err(BlockError::Different { sector: 123 }));
    assert_eq!(
        read(machine.build("compare(disk,fail)").unwrap().top().unwrap(), 5, 1),
        Err(BlockError::Device { sector: 5 })
    );
}

fn bytes(digits: &str) -> Vec<u8> {
    digits
        .as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

struct Encrypted(&'static [u8]);

impl description::Sources for Encrypted {
    fn disk(&self) -> Result<Arc<dyn Block>, Why> {
        Ok(Arc::new(Bytes(self.0)))
    }

    fn file(&self, _: &[u8]) -> Result<&'static [u8], Why> {
        Err(Why::NoSource)
    }
}

#[test]
fn what_the_standard_encrypts_is_decrypted() {
    let plain: Vec<u8> = (0..SECTOR).map(|at| at as u8).collect();
    for Vector { key, sector, encrypted } in [AES_128, AES_256] {
        let mut disk = vec![0; sector as usize * SECTOR];
        disk.extend(bytes(encrypted));
        disk.extend(bytes(encrypted));
        let layers = description::build(format!("crypt={key}").as_bytes(), &Encrypted(disk.leak())).unwrap();
        let read = read(layers.top().unwrap(), sector, 2).unwrap();
        assert_eq!(read[..SECTOR], plain);
        // The next sector has another tweak.
        assert_ne!(read[SECTOR..], plain);
    }
}

#[test]
fn the_tweak_is_the_sector_of_the_layer_and_not_of_the_disk() {
    let mut disk = vec![0; 9 * SECTOR];
    disk.extend(bytes(AES_128.encrypted));
    let layers =
        description::build(format!("crypt={}.linear@9", AES_128.key).as_bytes(), &Encrypted(disk.leak())).unwrap();
    assert_eq!(read(layers.top().unwrap(), 0, 1).unwrap()[..4], [0, 1, 2, 3]);
}

#[test]
fn what_makes_no_sense_is_refused_by_every_layer() {
    let key = AES_128.key;
    let machine = Machine::new(NO_BAD);
    for text in
        ["disk", "linear", "mirror", "compare(disk,disk)", &format!("crypt={key}"), "linear(disk)", "file=a", "fail"]
    {
        let layers = machine.build(text).unwrap();
        let top = layers.top().unwrap();
        let mut buffer = DmaBuffer::new(4 * SECTOR).unwrap();
        let sectors = top.sectors();
        if text != "disk" {
            for (start, end) in [(0, 100), (SECTOR, 0), (0, 5 * SECTOR), (1, SECTOR), (usize::MAX, usize::MAX)] {
                let error = BlockError::BadPart { start, end, buffer: 4 * SECTOR };
                let expected = if start == end { Ok(()) } else { Err(error) };
                let read = top.read(0, &mut buffer, start..end);
                assert!(read == Err(error) || read == expected, "{text}: {start}..{end}: {read:?}");
            }
            for sector in [sectors, sectors - 1, u64::MAX] {
                let error = BlockError::Outside { sector, count: 2, sectors };
                assert_eq!(top.read(sector, &mut buffer, 0..2 * SECTOR), Err(error), "{text}");
            }
        }
    }
}

#[test]
fn errors_from_below_come_up() {
    let machine = Machine::new(500);
    let text = format!("crypt={}.linear*30.mirror*3.linear@400", AES_256.key);
    let layers = machine.build(&text).unwrap();
    assert_eq!(read(layers.top().unwrap(), 96, 8), Err(BlockError::Device { sector: 500 }));
    assert!(read(layers.top().unwrap(), 101, 8).is_ok());
}
