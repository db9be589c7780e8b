//! Tokens that are computed and add nothing to the text: nobody is charged for them.
//!
//! Clients may bias single tokens and pass over the model's end, so that an answer could be special tokens
//! without end, which no receipt can charge.

use openledger_text::{StreamDecoder, TextModel};

/// Tokens in a row that may add nothing. More than a character has bytes, and than a template has marks.
const MOST: u32 = 32;

/// How long an answer has said nothing.
pub(super) struct Silence {
    decoder: StreamDecoder,
    tokens: u32,
}

impl Silence {
    pub(super) fn new(text: &TextModel) -> Self {
        Silence {
            decoder: text.stream(),
            tokens: 0,
        }
    }

    /// Takes the next token; whether enough in a row have added nothing. What cannot be decoded is for
    /// the answer's reader to say.
    pub(super) fn lasts_too_long(&mut self, token: u32) -> bool {
        match self.decoder.push(token) {
            Ok(piece) if !piece.is_empty() => self.tokens = 0,
            _ => self.tokens = self.tokens.saturating_add(1),
        }
        self.tokens > MOST
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// `<|end|>` of the base.
    const END: u32 = 2;

    #[test]
    fn special_tokens_should_end_an_answer_and_text_begin_the_count_anew() {
        let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("factory/base");
        let text = TextModel::from_dir(&base).unwrap();
        let words = text.tokenizer().encode("one two three", false).unwrap();
        let mut silence = Silence::new(&text);
        for _ in 0..3 {
            assert!((0..MOST).all(|_| !silence.lasts_too_long(END)));
            assert!(words.iter().all(|word| !silence.lasts_too_long(*word)));
        }
        assert!((0..MOST).all(|_| !silence.lasts_too_long(END)));
        assert!(silence.lasts_too_long(END));
    }
}
