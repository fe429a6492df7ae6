//! The encrypting layer: AES in XTS mode, in the format of dm-crypt's `aes-xts-plain64` with sectors of 512 bytes.
//!
//! The tweak of a sector is its number on this device, little endian, from zero on. The key is two of AES's: the first half for the
//! data, the second for the tweaks (IEEE 1619). The cipher is computed in integer registers: the kernel has no others.
//!
//! What is read lies encrypted in the caller's buffer first, and is decrypted in place.

use core::fmt;
use core::ops::Range;

use aes::cipher::{BlockCipherDecrypt, BlockCipherEncrypt, BlockSizeUser, KeyInit, consts::U16};
use aes::{Aes128, Aes256};
use alloc::sync::Arc;
use xts_mode::{Xts128, get_tweak_default};

use super::{Block, BlockError, SECTOR, check};
use crate::dma::DmaBuffer;

/// The longest key, in bytes: two of AES-256.
pub(super) const LONGEST_KEY: usize = 64;

/// The device below, decrypted with `C`.
struct Crypt<C> {
    below: Arc<dyn Block>,
    cipher: Xts128<C>,
}

/// `below`, decrypted with `key`; `None` if there is no cipher with a key of this length, or no memory.
pub(super) fn layer(below: Arc<dyn Block>, key: &[u8]) -> Option<Arc<dyn Block>> {
    match key.len() {
        32 => with::<Aes128>(below, key),
        64 => with::<Aes256>(below, key),
        _ => None,
    }
}

#[inline(never)]
fn with<C>(below: Arc<dyn Block>, key: &[u8]) -> Option<Arc<dyn Block>>
where
    C: KeyInit + BlockSizeUser<BlockSize = U16> + BlockCipherEncrypt + BlockCipherDecrypt + Send + Sync + 'static,
{
    let (data, tweak) = key.split_at_checked(key.len() / 2)?;
    let cipher = Xts128::new(C::new_from_slice(data).ok()?, C::new_from_slice(tweak).ok()?);
    let layer = crate::mm::heap::try_arc(Crypt { below, cipher }).ok()?;
    Some(layer)
}

impl<C> Block for Crypt<C>
where
    C: BlockSizeUser<BlockSize = U16> + BlockCipherEncrypt + BlockCipherDecrypt + Send + Sync,
{
    fn sectors(&self) -> u64 {
        self.below.sectors()
    }

    fn read(&self, sector: u64, buffer: &mut DmaBuffer, part: Range<usize>) -> Result<(), BlockError> {
        check(self, sector, buffer, &part)?;
        self.below.read(sector, buffer, part.clone())?;
        let read = buffer.get_mut(part).unwrap_or(&mut []);
        self.cipher.decrypt_area(read, SECTOR, u128::from(sector), get_tweak_default);
        Ok(())
    }
}

/// Without the key.
impl<C> fmt::Debug for Crypt<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Crypt").field("below", &self.below).finish_non_exhaustive()
    }
}
