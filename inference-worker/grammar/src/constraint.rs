//! A compiled form as it goes through one answer.

use crate::error::GrammarError;
use crate::grammars::first_line;
use crate::memory::Share;
use llguidance::earley::Parser;
use llguidance::Matcher;
use openledger_engine::{ConstraintError, TokenConstraint, TokenMask};

/// Holds one answer to its form.
pub struct GrammarConstraint {
    matcher: Matcher,
    /// Shares the matcher's lexer.
    lexer: Parser,
    share: Share,
    /// The token that stands for the end in the matcher's vocabulary, behind all of the model's.
    end: u32,
    stop_tokens: Vec<u32>,
}

impl GrammarConstraint {
    pub(crate) fn new(
        matcher: Matcher,
        lexer: Parser,
        share: Share,
        end: u32,
        stop_tokens: Vec<u32>,
    ) -> Self {
        Self {
            matcher,
            lexer,
            share,
            end,
            stop_tokens,
        }
    }
}

impl TokenConstraint for GrammarConstraint {
    fn mask(&mut self, out: &mut TokenMask) -> Result<(), ConstraintError> {
        let mask = self.matcher.compute_mask_or_eos();
        let mask = mask.map_err(|e| ConstraintError::Stuck(first_line(&e)))?;
        let grown = self.share.grow(self.lexer.lexer_stats().num_bytes);
        grown.map_err(|error| match error {
            GrammarError::NoMemory => ConstraintError::Busy(error.to_string()),
            error => ConstraintError::Stuck(error.to_string()),
        })?;
        out.set_words(mask.as_slice());
        // A special token is no text.
        for token in &self.stop_tokens {
            out.forbid(*token);
        }
        if mask.is_allowed(self.end) {
            self.stop_tokens.iter().for_each(|token| out.allow(*token));
        }
        Ok(())
    }

    fn accept(&mut self, token: u32) -> Result<(), ConstraintError> {
        let accepted = self.matcher.consume_token(token);
        accepted.map_err(|e| ConstraintError::Stuck(first_line(&e)))
    }

    fn is_finished(&self) -> bool {
        self.matcher.is_stopped() && !self.matcher.is_error()
    }
}
