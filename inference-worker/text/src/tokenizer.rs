//! `tokenizer.json`, through the `tokenizers` crate.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use crate::error::{Result, TextError};
use crate::stream::StreamDecoder;

/// Largest `tokenizer.json`, bytes; those of the largest vocabularies have about 20 MB.
const MAX_BYTES: u64 = 128 << 20;

/// Special tokens that belong to a text all the same: Mistral's models write calls of tools by them.
const SHOWN: [&str; 3] = ["[TOOL_CALLS]", "[CALL_ID]", "[ARGS]"];

/// Text to token ids and back.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    /// Special tokens that are no text, ascending.
    hidden: Arc<[u32]>,
    /// Bytes of all tokens, once somebody asks for those of one.
    bytes: Arc<OnceLock<TokenBytes>>,
}

type TokenBytes = Vec<Option<Vec<u8>>>;

impl Tokenizer {
    /// Loads `tokenizer.json` from `dir`.
    ///
    /// # Errors
    /// If the file cannot be read or is not a tokenizer.
    pub fn from_dir(dir: &Path) -> Result<Self> {
        Self::from_bytes(&read(&dir.join("tokenizer.json"), MAX_BYTES)?)
    }

    /// Parses the bytes of a `tokenizer.json`. Truncation and padding that it may ask for are
    /// switched off: a prompt is never silently cut.
    ///
    /// # Errors
    /// If the bytes are not a tokenizer.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let mut inner = tokenizers::Tokenizer::from_bytes(bytes).map_err(fault)?;
        inner.with_padding(None);
        inner.with_truncation(None).map_err(fault)?;
        let mut hidden: Vec<u32> = inner
            .get_added_tokens_decoder()
            .iter()
            .filter(|(_, token)| token.special && !SHOWN.contains(&token.content.as_str()))
            .map(|(id, _)| *id)
            .collect();
        hidden.sort_unstable();
        Ok(Self {
            inner,
            hidden: hidden.into(),
            bytes: Arc::default(),
        })
    }

    /// Token ids of `text`. With `special`, the tokens that the tokenizer itself puts around a text
    /// (such as a beginning-of-sequence token) are added; a rendered chat already holds its own.
    ///
    /// # Errors
    /// If the tokenizer has no token for a part of the text.
    pub fn encode(&self, text: &str, special: bool) -> Result<Vec<u32>> {
        Ok(self
            .inner
            .encode_fast(text, special)
            .map_err(fault)?
            .get_ids()
            .to_vec())
    }

    /// Whether a token is a special one that is no text.
    pub(crate) fn is_hidden(&self, id: u32) -> bool {
        self.hidden.binary_search(&id).is_ok()
    }

    /// Text of `ids`, leaving special tokens out, but for those that mark calls of tools. Ids beyond the
    /// vocabulary add nothing; bytes that are not UTF-8 become U+FFFD.
    ///
    /// # Errors
    /// If the tokenizer's decoder fails.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        let shown: Vec<u32> = ids
            .iter()
            .copied()
            .filter(|id| !self.is_hidden(*id))
            .collect();
        self.inner.decode(&shown, false).map_err(fault)
    }

    /// A decoder that takes ids one at a time.
    pub fn stream(&self) -> StreamDecoder {
        StreamDecoder::new(self.clone().into())
    }

    /// Number of ids, added tokens included.
    pub fn vocab_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    pub(crate) fn inner(&self) -> &tokenizers::Tokenizer {
        &self.inner
    }

    /// The id of a token by its exact content.
    pub fn token_to_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// The bytes that a token adds to a text, not always whole characters; of one that adds none, such as
    /// a special token, its name.
    pub fn bytes_of(&self, id: u32) -> Vec<u8> {
        let table = self
            .bytes
            .get_or_init(|| self.token_bytes().unwrap_or_default());
        match table.get(id as usize) {
            Some(Some(bytes)) => bytes.clone(),
            _ => self.id_to_token(id).unwrap_or_default().into_bytes(),
        }
    }

    /// The content of a token.
    pub fn id_to_token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }
}

fn fault(error: tokenizers::Error) -> TextError {
    TextError::Tokenizer(error.to_string())
}

/// Reads a whole file of at most `limit` bytes.
pub(crate) fn read(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let io = |source| TextError::Io {
        path: path.to_path_buf(),
        source,
    };
    let mut bytes = Vec::new();
    let taken = File::open(path)
        .map_err(io)?
        .take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(io)?;
    if taken as u64 > limit {
        return Err(TextError::TooLarge {
            path: path.to_path_buf(),
            limit,
        });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn mistral_like() -> Tokenizer {
        let special = |id: u32, content: &str| {
            json!({"id": id, "content": content, "single_word": false, "lstrip": false,
                "rstrip": false, "normalized": false, "special": true})
        };
        let tokenizer = json!({
            "version": "1.0",
            "added_tokens": [special(0, "</s>"), special(1, "[TOOL_CALLS]"), special(2, "[ARGS]")],
            "decoder": {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}]},
            "model": {"type": "BPE", "byte_fallback": true,
                "vocab": {"</s>": 0, "[TOOL_CALLS]": 1, "[ARGS]": 2, "t": 3, "{": 4, "}": 5},
                "merges": []},
        });
        Tokenizer::from_bytes(tokenizer.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn special_tokens_should_be_left_out_but_for_marks_of_calls() {
        let tokenizer = mistral_like();
        let ids = [1, 3, 2, 4, 5, 0];
        let text = "[TOOL_CALLS]t[ARGS]{}";
        assert_eq!(tokenizer.decode(&ids).unwrap(), text);
        let mut stream = tokenizer.stream();
        let pieces = ids.map(|id| stream.push(id).unwrap());
        assert_eq!(pieces.concat() + &stream.finish().unwrap(), text);
        assert_eq!(tokenizer.encode(text, false).unwrap(), ids[..5]);
        let bytes = tokenizer.token_bytes().unwrap();
        assert_eq!(bytes[1].as_deref(), Some(&b"[TOOL_CALLS]"[..]));
        assert_eq!(bytes[0], None);
    }
}
