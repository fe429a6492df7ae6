//! The same model, driven from bytes as the fuzzer drives it: a number of strings that look like chance, but are the same each time.

mod drive;
mod fake;

#[test]
fn byte_strings_keep_the_invariants() {
    let mut chance = 0x2545_f491_4f6c_dd1d_u64;
    for length in 0..64 {
        let byte = |_| {
            chance ^= chance << 13;
            chance ^= chance >> 7;
            chance ^= chance << 17;
            (chance >> 32) as u8
        };
        drive::run_bytes(&(0..length * 37).map(byte).collect::<Vec<u8>>());
    }
}
