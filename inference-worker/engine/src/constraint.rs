//! What may follow: a constraint says of each position which tokens are allowed there.
//!
//! The engine knows no grammar. It asks a [`TokenConstraint`] for a mask on threads of its own while the
//! forward pass runs, and leaves a request out of steps as long as its mask is late, so that a slow
//! grammar holds up nobody else.

use std::fmt;
use thiserror::Error;

/// Which tokens of a vocabulary are allowed.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenMask {
    words: Vec<u32>,
    vocabulary: usize,
}

impl TokenMask {
    /// A mask over `vocabulary` tokens that allows none.
    pub fn new(vocabulary: usize) -> Self {
        Self {
            words: vec![0; vocabulary.div_ceil(32)],
            vocabulary,
        }
    }

    /// Number of tokens that the mask is over.
    pub fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    /// Allows a token; one outside the vocabulary is left alone.
    pub fn allow(&mut self, token: u32) {
        if (token as usize) < self.vocabulary {
            self.words[token as usize / 32] |= 1 << (token % 32);
        }
    }

    /// Allows a token no more.
    pub fn forbid(&mut self, token: u32) {
        if let Some(word) = self.words.get_mut(token as usize / 32) {
            *word &= !(1 << (token % 32));
        }
    }

    /// Allows no token.
    pub fn clear(&mut self) {
        self.words.fill(0);
    }

    /// Takes the bits of `words`, token 0 the lowest bit of the first; what they lack is not allowed.
    pub fn set_words(&mut self, words: &[u32]) {
        self.words.fill(0);
        for (mine, word) in self.words.iter_mut().zip(words) {
            *mine = *word;
        }
        let used = self.vocabulary % 32;
        if let (Some(last), true) = (self.words.last_mut(), used != 0) {
            *last &= (1 << used) - 1;
        }
    }

    /// Whether a token is allowed.
    pub fn allows(&self, token: u32) -> bool {
        let word = self.words.get(token as usize / 32);
        word.is_some_and(|word| word >> (token % 32) & 1 == 1)
    }

    /// Whether no token is allowed.
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }
}

impl fmt::Debug for TokenMask {
    /// How many are allowed; their list would fill pages.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let allowed: u32 = self.words.iter().map(|w| w.count_ones()).sum();
        write!(f, "TokenMask({allowed} of {})", self.vocabulary)
    }
}

/// A constraint that cannot go on; the request fails with it.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ConstraintError {
    /// By what was asked for: it lets the answer go no further, or takes more than one may.
    #[error("{0}")]
    Stuck(String),
    /// By what there is here: it could have gone on where others hold less.
    #[error("{0}")]
    Busy(String),
}

/// Says what an answer may be, token by token. It is called on a thread of the engine's, never on two at
/// once, and a panic fails its request only.
pub trait TokenConstraint: Send {
    /// Allows in `out`, which allows nothing when it comes, every token that may be next. Where the
    /// answer may end, the stop tokens of the request belong to them.
    ///
    /// # Errors
    /// When it cannot be said, as by a limit of work that was reached.
    fn mask(&mut self, out: &mut TokenMask) -> Result<(), ConstraintError>;

    /// Goes on by a token that the last mask allowed. Stop tokens of the request do not get here.
    ///
    /// # Errors
    /// When the token may not be there.
    fn accept(&mut self, token: u32) -> Result<(), ConstraintError>;

    /// Whether the answer is complete and nothing may follow: it ends then, without a stop token.
    fn is_finished(&self) -> bool;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_should_allow_what_it_was_told_and_nothing_beyond_its_vocabulary() {
        let mut mask = TokenMask::new(70);
        assert!(mask.is_empty() && !mask.allows(0));
        mask.allow(0);
        mask.allow(69);
        mask.allow(70);
        let allowed: Vec<u32> = (0..200).filter(|t| mask.allows(*t)).collect();
        assert_eq!(allowed, [0, 69]);
        mask.set_words(&[2, u32::MAX]);
        let allowed: Vec<u32> = (0..200).filter(|t| mask.allows(*t)).collect();
        assert_eq!(allowed[0], 1);
        assert_eq!(allowed[1..], (32..64).collect::<Vec<_>>());
        mask.set_words(&[0, 0, u32::MAX, 1]);
        let allowed: Vec<u32> = (0..200).filter(|t| mask.allows(*t)).collect();
        assert_eq!(allowed, (64..70).collect::<Vec<_>>());
        mask.forbid(65);
        mask.forbid(700);
        assert!(!mask.allows(65) && mask.allows(66));
        mask.clear();
        assert!(mask.is_empty());
    }
}
