//! The same model, driven from bytes as the fuzzer drives it: a number of strings that look like chance, but are the same each time.

mod drive;
mod fake;

use arbitrary::Unstructured;
use drive::Op;
use fake::{Fake, Flush, Supply};

/// What a byte string stands for.
fn run(bytes: &[u8]) {
    let mut bytes = Unstructured::new(bytes);
    let Ok(first) = bytes.arbitrary::<u8>() else { return };
    let flush = if first & 1 == 0 { Flush::WhenAsked } else { Flush::Now };
    let supply = Supply { flush, foresees: first & 2 != 0, large: usize::from(first >> 4), ..Supply::plenty() };
    let ops: Vec<Op> = bytes.arbitrary_iter().expect("bytes").map_while(Result::ok).collect();
    drive::run(&Fake::new(supply), &ops);
}

#[test]
fn byte_strings_keep_the_invariants() {
    let mut chance = 0x2545_f491_4f6c_dd1d_u64;
    for length in 0..48 {
        let byte = |_| {
            chance ^= chance << 13;
            chance ^= chance >> 7;
            chance ^= chance << 17;
            (chance >> 32) as u8
        };
        run(&(0..length * 37).map(byte).collect::<Vec<u8>>());
    }
}
