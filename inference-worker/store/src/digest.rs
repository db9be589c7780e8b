//! Digests as text, and of streams.

use crate::error::StoreError;
use blake2::{digest::consts::U32, Blake2b, Digest as _};
use openledger_primitives::Digest;
use std::io::{self, Read, Write};

/// Lower-case hexadecimal digits of a digest.
pub fn to_hex(digest: &Digest) -> String {
    hex::encode(digest)
}

/// The digest written as 64 hexadecimal digits, with or without `0x`.
///
/// # Errors
/// [`StoreError::NotADigest`] for anything else.
pub fn parse_digest(text: &str) -> Result<Digest, StoreError> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    let mut digest = Digest::default();
    hex::decode_to_slice(digits, &mut digest)
        .map_err(|_| StoreError::NotADigest(text.to_owned()))?;
    Ok(digest)
}

/// The digest under which `bytes` are stored.
pub fn digest_of(bytes: &[u8]) -> Digest {
    openledger_primitives::hash::blake2_256(bytes)
}

/// Copies `from` to `to` and returns the digest and number of the bytes copied. Reads at most one
/// byte more than `limit`: a caller finds a longer stream by the number.
pub(crate) fn copy_hashed(
    from: &mut impl Read,
    to: &mut impl Write,
    limit: u64,
) -> io::Result<(Digest, u64)> {
    let mut from = from.take(limit.saturating_add(1));
    let mut hasher = Blake2b::<U32>::new();
    let mut buffer = vec![0u8; 1 << 16];
    let mut total = 0u64;
    loop {
        let read = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        hasher.update(&buffer[..read]);
        to.write_all(&buffer[..read])?;
        total += read as u64;
    }
    Ok((hasher.finalize().into(), total))
}
