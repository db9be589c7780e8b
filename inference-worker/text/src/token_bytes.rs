//! What each token adds to a text, in bytes: a grammar over text needs it.

use tokenizers::DecoderWrapper;

use crate::error::{Result, TextError};
use crate::tokenizer::Tokenizer;

/// What SentencePiece has for a space.
const SPACE: char = '\u{2581}';

/// How a vocabulary writes bytes.
#[derive(Clone, Copy)]
enum Writing {
    /// Each byte as one printable character (GPT-2).
    ByteLevel,
    /// As text, with `<0x0A>` for bytes that are no text (SentencePiece).
    Fallback,
}

impl Tokenizer {
    /// The bytes of every token by its id; none for special tokens that are no text, and for ids
    /// without a token.
    ///
    /// # Errors
    /// If the tokenizer's decoder is of a kind whose tokens have no bytes of their own.
    pub fn token_bytes(&self) -> Result<Vec<Option<Vec<u8>>>> {
        let inner = self.inner();
        let writing = inner.get_decoder().and_then(writing).ok_or_else(|| {
            TextError::Tokenizer(
                "its decoder is neither byte-level nor one with byte fallback, so that the bytes of \
                 a token are not known"
                    .to_owned(),
            )
        })?;
        let added = inner.get_added_tokens_decoder();
        let vocabulary = inner.get_vocab(true);
        let most = vocabulary.values().max().map_or(0, |id| *id as usize + 1);
        let mut bytes = vec![None; most];
        for (content, id) in vocabulary {
            let of = match added.get(&id) {
                Some(_) if self.is_hidden(id) => None,
                Some(token) => Some(token.content.clone().into_bytes()),
                None => written(&content, writing),
            };
            if let Some(slot) = bytes.get_mut(id as usize) {
                *slot = of.filter(|bytes| !bytes.is_empty());
            }
        }
        Ok(bytes)
    }
}

fn writing(decoder: &DecoderWrapper) -> Option<Writing> {
    match decoder {
        DecoderWrapper::ByteLevel(_) => Some(Writing::ByteLevel),
        DecoderWrapper::ByteFallback(_) | DecoderWrapper::Metaspace(_) => Some(Writing::Fallback),
        DecoderWrapper::Sequence(sequence) => sequence.get_decoders().iter().find_map(writing),
        _ => None,
    }
}

fn written(content: &str, writing: Writing) -> Option<Vec<u8>> {
    match writing {
        Writing::ByteLevel => content.chars().map(byte_of).collect(),
        Writing::Fallback => {
            let hex = content
                .strip_prefix("<0x")
                .and_then(|c| c.strip_suffix('>'));
            match hex.filter(|hex| hex.len() == 2) {
                Some(hex) => u8::from_str_radix(hex, 16).ok().map(|byte| vec![byte]),
                None => Some(content.replace(SPACE, " ").into_bytes()),
            }
        }
    }
}

/// Whether GPT-2 writes a byte as the character of the same number.
fn is_printable(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff)
}

/// The byte that a character stands for: the printable ones for themselves, the others, in order, for
/// the characters from U+0100 on.
fn byte_of(character: char) -> Option<u8> {
    let code = u32::from(character);
    match u8::try_from(code) {
        Ok(byte) => is_printable(byte).then_some(byte),
        Err(_) => {
            let nth = usize::try_from(code.checked_sub(0x100)?).ok()?;
            (0..=u8::MAX).filter(|byte| !is_printable(*byte)).nth(nth)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_should_have_one_character() {
        let mut seen = [0; 256];
        for code in 0..0x200 {
            if let Some(byte) = char::from_u32(code).and_then(byte_of) {
                seen[usize::from(byte)] += 1;
            }
        }
        assert_eq!(seen, [1; 256]);
        // As GPT-2's table has them.
        assert_eq!(byte_of('\u{120}'), Some(b' '));
        assert_eq!(byte_of('\u{10a}'), Some(b'\n'));
        assert_eq!(byte_of('A'), Some(b'A'));
        assert_eq!(byte_of(' '), None);
    }

    #[test]
    fn byte_fallback_should_be_read_and_spaces_replaced() {
        let written = |content| written(content, Writing::Fallback);
        assert_eq!(written("<0x0A>"), Some(vec![b'\n']));
        assert_eq!(written("\u{2581}the"), Some(b" the".to_vec()));
        assert_eq!(written("<0xZZ>"), None);
    }
}
