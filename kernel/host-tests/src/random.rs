//! ChaCha20 against the example of RFC 8439, section 2.3.2.

#[path = "../../src/random/chacha.rs"]
mod chacha;

#[test]
fn a_block_is_the_one_of_the_rfc() {
    let bytes: Vec<u8> = (0..32).collect();
    let words: Vec<u32> = bytes.chunks(4).map(|word| u32::from_le_bytes(word.try_into().unwrap())).collect();
    let key: [u32; 8] = words.try_into().unwrap();
    let block = chacha::block(&key, [1, 0x0900_0000, 0x4a00_0000, 0]);
    assert_eq!(
        block[..16],
        [0x10, 0xf1, 0xe7, 0xe4, 0xd1, 0x3b, 0x59, 0x15, 0x50, 0x0f, 0xdd, 0x1f, 0xa3, 0x20, 0x71, 0xc4]
    );
    assert_eq!(
        block[48..],
        [0xb5, 0x12, 0x9c, 0xd1, 0xde, 0x16, 0x4e, 0xb9, 0xcb, 0xd0, 0x83, 0xe8, 0xa2, 0x50, 0x3c, 0x4e]
    );
}
