//! Names of blocks of tokens, by everything that their keys and values depend on.
//!
//! A block's hash covers the adapter, the request's salt and all tokens up to the block's end (the hash
//! chain of vLLM's automatic prefix caching). So a block is found again only by a request that would
//! have computed the same bits: another adapter, or the same name after a new adapter was loaded under
//! it, never meets it.

use crate::adapters::AdapterId;
use crate::kv::PAGE_TOKENS;
use blake2::digest::consts::U32;
use blake2::{Blake2b, Digest};

/// Name of a block and all before it.
pub type BlockHash = [u8; 32];

/// Names the blocks of one sequence as its tokens become known.
#[derive(Clone, Debug)]
pub struct BlockNames {
    last: BlockHash,
    open: Vec<u32>,
}

impl BlockNames {
    /// A sequence without tokens.
    pub fn new(adapter: Option<AdapterId>, salt: &[u8; 32]) -> Self {
        let mut hash = Blake2b::<U32>::new();
        hash.update(b"openledger/prefix/v1");
        hash.update(adapter.map_or([0; 32], |id| id.0));
        hash.update(salt);
        Self {
            last: hash.finalize().into(),
            open: Vec::with_capacity(PAGE_TOKENS),
        }
    }

    /// Adds a token; the name of the block that it completes.
    pub fn push(&mut self, token: u32) -> Option<BlockHash> {
        self.open.push(token);
        if self.open.len() < PAGE_TOKENS {
            return None;
        }
        let mut hash = Blake2b::<U32>::new();
        hash.update(self.last);
        for token in self.open.drain(..) {
            hash.update(token.to_le_bytes());
        }
        self.last = hash.finalize().into();
        Some(self.last)
    }

    /// Adds tokens; the names of the blocks that they complete.
    pub fn extend(&mut self, tokens: &[u32]) -> Vec<BlockHash> {
        tokens.iter().filter_map(|t| self.push(*t)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_should_bind_adapter_salt_and_all_tokens_before() {
        let tokens: Vec<u32> = (0..40).collect();
        let names = |adapter, salt: u8, tokens: &[u32]| {
            BlockNames::new(adapter, &[salt; 32]).extend(tokens)
        };
        let reference = names(None, 0, &tokens);
        assert_eq!(reference.len(), 2);
        assert_eq!(names(None, 0, &tokens[..32]), reference);
        let mut other = tokens.clone();
        other[3] = 99;
        for different in [
            names(Some(AdapterId([1; 32])), 0, &tokens),
            names(None, 1, &tokens),
            names(None, 0, &other),
        ] {
            assert_ne!(different[0], reference[0]);
            assert_ne!(different[1], reference[1]);
        }
        other = tokens.clone();
        other[20] = 99;
        assert_eq!(names(None, 0, &other)[0], reference[0]);
        assert_ne!(names(None, 0, &other)[1], reference[1]);
    }
}
