//! sr25519 signatures over hashes, as the runtime checks them.

use openledger_primitives::{
    crypto::signing_payloads, voucher::Voucher, Digest, PublicKey, Signature,
};
use parity_scale_codec::{Decode, Encode};

/// The signing context of Substrate.
const CONTEXT: &[u8] = b"substrate";

/// Whether `signature` is `key`'s over `hash`, or over `hash` between `<Bytes>` and `</Bytes>`.
pub fn verify(key: &PublicKey, hash: &Digest, signature: &Signature) -> bool {
    let (Ok(key), Ok(signature)) = (
        schnorrkel::PublicKey::from_bytes(key),
        schnorrkel::Signature::from_bytes(&signature.0),
    ) else {
        return false;
    };
    signing_payloads(hash)
        .iter()
        .any(|payload| key.verify_simple(CONTEXT, payload, &signature).is_ok())
}

/// A voucher and its signature: what travels, hex, in the header `openledger-voucher`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct SignedVoucher {
    /// The voucher.
    pub voucher: Voucher,
    /// Over [`Voucher::hash`].
    pub signature: Signature,
}

impl SignedVoucher {
    /// Decodes exactly; trailing bytes are refused.
    pub fn from_bytes(mut bytes: &[u8]) -> Option<Self> {
        let signed = Self::decode(&mut bytes).ok()?;
        bytes.is_empty().then_some(signed)
    }
}
