//! The execution fingerprint: a digest chain over what the model computed for an answer.
//!
//! `root_0 = H(domain ‖ adapter digest, or zeros for the base ‖ prompt tokens, u32 LE)` and, for each
//! position at which a token was drawn (the one that ended the answer included),
//! `root = H(root ‖ position u32 LE ‖ eight × (token id u32 LE, logit as BF16 bits u16 LE) ‖ drawn id u32 LE)`
//! with H = BLAKE2b-256 and the eight largest logits in falling order, lower ids first among equals
//! (fewer when the vocabulary is smaller). BF16 is rounded to nearest, ties to even.
//!
//! The CPU backend's logits do not depend on the batch, on chunking or on the machine's vectors, so
//! who re-executes an answer with the CPU backend gets the same root. Between backend classes roots
//! differ, as the last bits of logits do.

use crate::adapters::AdapterId;
use crate::sampling::top;
use blake2::digest::consts::U32;
use blake2::{Blake2b, Digest};

/// Logits of one position that enter the chain.
pub const TOP_LOGITS: usize = 8;

const DOMAIN: &[u8] = b"openledger/execution-fingerprint/v1";

/// The chain of one answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    root: [u8; 32],
}

impl Fingerprint {
    /// The chain before the first drawn token.
    pub fn new(adapter: Option<AdapterId>, prompt: &[u32]) -> Self {
        let mut hash = Blake2b::<U32>::new();
        hash.update(DOMAIN);
        hash.update(adapter.map_or([0; 32], |id| id.0));
        for token in prompt {
            hash.update(token.to_le_bytes());
        }
        Self {
            root: hash.finalize().into(),
        }
    }

    /// Adds the logits at a position and the token drawn from them.
    pub fn push(&mut self, position: u32, logits: &[f32], drawn: u32) {
        let mut hash = Blake2b::<U32>::new();
        hash.update(self.root);
        hash.update(position.to_le_bytes());
        for (id, value) in top(logits, TOP_LOGITS) {
            hash.update(id.to_le_bytes());
            hash.update(bf16_bits(value).to_le_bytes());
        }
        hash.update(drawn.to_le_bytes());
        self.root = hash.finalize().into();
    }

    /// The digest of all so far.
    pub fn root(&self) -> [u8; 32] {
        self.root
    }
}

/// BF16 bits, rounded to nearest, ties to even.
fn bf16_bits(value: f32) -> u16 {
    if value.is_nan() {
        return 0x7fc0;
    }
    let bits = value.to_bits();
    let tie_to_even = 0x7fff + ((bits >> 16) & 1);
    (bits.wrapping_add(tie_to_even) >> 16) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_should_bind_adapter_prompt_logits_position_and_token() {
        let logits: Vec<f32> = (0..20).map(|i| i as f32).collect();
        let root = |adapter, prompt: &[u32], position, logits: &[f32], drawn| {
            let mut chain = Fingerprint::new(adapter, prompt);
            chain.push(position, logits, drawn);
            chain.root()
        };
        let reference = root(None, &[1, 2], 2, &logits, 19);
        assert_eq!(root(None, &[1, 2], 2, &logits, 19), reference);
        let mut other = logits.clone();
        other[15] = 15.5;
        let different = [
            root(Some(AdapterId([1; 32])), &[1, 2], 2, &logits, 19),
            root(None, &[1, 3], 2, &logits, 19),
            root(None, &[1, 2], 3, &logits, 19),
            root(None, &[1, 2], 2, &other, 19),
            root(None, &[1, 2], 2, &logits, 18),
        ];
        assert!(different.iter().all(|r| *r != reference));
        // Below the eighth largest nothing is seen, and neither is noise below BF16.
        other = logits.clone();
        other[3] = 4.5;
        other[19] += 1e-4;
        assert_eq!(root(None, &[1, 2], 2, &other, 19), reference);
    }

    #[test]
    fn bf16_should_round_to_nearest_even() {
        for (value, bits) in [
            (1.0, 0x3f80),
            (1.0 + 1.0 / 256.0, 0x3f80),
            (1.0 + 3.0 / 256.0, 0x3f82),
            (1.004, 0x3f81),
            (f32::NEG_INFINITY, 0xff80),
        ] {
            assert_eq!(bf16_bits(value), bits, "{value}");
        }
    }
}
