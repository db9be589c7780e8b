//! Tokens that are computed and that nobody is charged for: those that add nothing to the text, and those of a
//! text that could be said in fewer.
//!
//! Clients may bias single tokens, pass over the model's end and ask for any form, so that an answer could be
//! special tokens without end, or a text letter by letter, which no receipt can charge.

use openledger_text::{StreamDecoder, TextModel};

/// Tokens that may add nothing, beside as many as add something. More than a template has marks.
const MOST: u32 = 32;
/// After how many tokens what they say is counted.
const EVERY: u32 = 64;
/// How many times the tokens of the text may be computed, and how many more.
const FACTOR: u32 = 2;
const BESIDE: u32 = 64;

/// How much of an answer is not charged.
pub(super) struct Silence {
    text: TextModel,
    decoder: StreamDecoder,
    generated: u32,
    /// Tokens that added text, and those that are no part of any.
    visible: u32,
    mute: u32,
    /// Tokens of the text when it is encoded, but for that of `unread`.
    canonical: u32,
    unread: String,
}

impl Silence {
    pub(super) fn new(text: &TextModel) -> Self {
        Silence {
            text: text.clone(),
            decoder: text.stream(),
            generated: 0,
            visible: 0,
            mute: 0,
            canonical: 0,
            unread: String::new(),
        }
    }

    /// Takes the next token; whether too many were computed that are not charged. What cannot be decoded
    /// is for the answer's reader to say.
    pub(super) fn lasts_too_long(&mut self, token: u32) -> bool {
        self.generated = self.generated.saturating_add(1);
        let piece = self.decoder.push(token).unwrap_or_default();
        if !piece.is_empty() {
            self.visible = self.visible.saturating_add(1);
            self.unread.push_str(&piece);
        } else if self.is_mute(token) {
            self.mute = self.mute.saturating_add(1);
        }
        if self.mute > self.visible.saturating_add(MOST) {
            return true;
        }
        self.generated.is_multiple_of(EVERY) && self.is_long_winded()
    }

    /// Whether a token says nothing by itself. One that is a part of a character does: its bytes are the
    /// text's, and encoding it gives them again.
    fn is_mute(&self, token: u32) -> bool {
        let alone = self.text.tokenizer().decode(&[token]);
        alone.unwrap_or_default().is_empty()
    }

    /// Whether the text could be said in far fewer tokens. It is counted piece by piece, which takes no
    /// longer for a long answer and is rather too much than too little.
    fn is_long_winded(&mut self) -> bool {
        let unread = std::mem::take(&mut self.unread);
        let tokens = self.text.tokenizer().encode(&unread, false);
        let tokens = tokens.map_or(0, |tokens| tokens.len());
        self.canonical = self
            .canonical
            .saturating_add(u32::try_from(tokens).unwrap_or(u32::MAX));
        self.generated > self.canonical.saturating_mul(FACTOR).saturating_add(BESIDE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// `<|end|>` of the base.
    const END: u32 = 2;

    fn text() -> TextModel {
        let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("factory/base");
        TextModel::from_dir(&base).unwrap()
    }

    /// After how many of the tokens an answer ends.
    fn ends(text: &TextModel, tokens: impl IntoIterator<Item = u32>) -> Option<usize> {
        let mut silence = Silence::new(text);
        let ended = tokens
            .into_iter()
            .position(|token| silence.lasts_too_long(token));
        ended.map(|before| before + 1)
    }

    fn tokens(text: &TextModel, what: &str) -> Vec<u32> {
        text.tokenizer().encode(what, false).unwrap()
    }

    #[test]
    fn special_tokens_should_be_counted_in_total_and_end_an_answer() {
        let text = text();
        assert_eq!(ends(&text, [END; 100]), Some(MOST as usize + 1));
        // A word between them earns one more of them, and does not begin the count anew.
        let word = tokens(&text, " the")[0];
        let mut mixed = [END; 32].to_vec();
        mixed.push(word);
        mixed.extend([END; 2]);
        assert_eq!(ends(&text, mixed), Some(35));
        // As many as there are words are put up with.
        let mixed = [word, END].repeat(500);
        assert_eq!(ends(&text, mixed), None);
    }

    #[test]
    fn a_text_said_letter_by_letter_should_end() {
        let text = text();
        let what = " Everything registered is maintained".repeat(20);
        assert_eq!(ends(&text, tokens(&text, &what)), None);
        let letters = what.chars().map(|letter| letter.to_string());
        let letters: Vec<u32> = letters.flat_map(|one| tokens(&text, &one)).collect();
        assert_eq!(letters.len(), what.len());
        let ended = ends(&text, letters).unwrap();
        assert!((65..=192).contains(&ended), "{ended}");
    }

    #[test]
    fn characters_of_several_tokens_should_be_no_silence() {
        let text = text();
        let what = "\u{1f9ea}\u{4e16}\u{1f30d}".repeat(300);
        let tokens = tokens(&text, &what);
        assert!(tokens.len() >= 3_000, "{}", tokens.len());
        assert_eq!(ends(&text, tokens), None);
    }
}
