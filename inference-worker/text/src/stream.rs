//! Token ids to text, one id at a time.

use std::sync::Arc;

use crate::error::Result;
use crate::tokenizer::Tokenizer;

/// What a decoder puts where bytes are not UTF-8.
const REPLACEMENT: char = '\u{FFFD}';
/// A character has at most four bytes; after as many tokens without a whole character the bytes are
/// not going to become one.
const MAX_HELD: usize = 4;

/// Turns ids into text as they come, and never emits a part of a character.
///
/// The pieces joined together are the decoding of all ids: each step decodes a short window of
/// recent ids with and without the new one and emits the difference, since what a token looks like
/// may depend on its neighbours (a leading space, a byte of a character).
#[derive(Clone, Debug)]
pub struct StreamDecoder {
    tokenizer: Arc<Tokenizer>,
    /// The window: ids already emitted, for context, then ids held back.
    ids: Vec<u32>,
    /// How many ids of the window have been emitted.
    emitted: usize,
}

impl StreamDecoder {
    /// A decoder at the beginning of a text.
    pub fn new(tokenizer: Arc<Tokenizer>) -> Self {
        Self {
            tokenizer,
            ids: Vec::new(),
            emitted: 0,
        }
    }

    /// Takes one id and returns the text that is certain by now; it may be empty.
    ///
    /// # Errors
    /// If the tokenizer's decoder fails.
    pub fn push(&mut self, id: u32) -> Result<String> {
        self.ids.push(id);
        let (before, now) = self.window()?;
        let held = self.ids.len() - self.emitted;
        let unfinished = now.ends_with(REPLACEMENT) && held < MAX_HELD;
        if unfinished || now.len() <= before.len() {
            // Nothing visible yet; tokens that decode to nothing must not pile up.
            if !unfinished && held >= MAX_HELD {
                self.slide();
            }
            return Ok(String::new());
        }
        let text = difference(&before, &now);
        self.slide();
        Ok(text)
    }

    /// Ends the text: returns what was held back, with U+FFFD for a character cut short.
    ///
    /// # Errors
    /// If the tokenizer's decoder fails.
    pub fn finish(mut self) -> Result<String> {
        let (before, now) = self.window()?;
        self.slide();
        Ok(difference(&before, &now))
    }

    /// The emitted part of the window, and the whole of it, decoded.
    fn window(&self) -> Result<(String, String)> {
        let emitted = self.ids.get(..self.emitted).unwrap_or_default();
        Ok((
            self.tokenizer.decode(emitted)?,
            self.tokenizer.decode(&self.ids)?,
        ))
    }

    /// Marks the held ids as emitted and forgets those emitted before them.
    fn slide(&mut self) {
        self.ids.drain(..self.emitted);
        self.emitted = self.ids.len();
    }
}

/// What `now` has beyond `before`.
fn difference(before: &str, now: &str) -> String {
    let common: usize = before
        .chars()
        .zip(now.chars())
        .take_while(|(a, b)| a == b)
        .map(|(a, _)| a.len_utf8())
        .sum();
    now.get(common.min(before.len())..)
        .unwrap_or_default()
        .to_string()
}
