//! `tokenizer.json`, through the `tokenizers` crate.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use crate::error::{Result, TextError};
use crate::stream::StreamDecoder;

/// Largest `tokenizer.json`, bytes; those of the largest vocabularies have about 20 MB.
const MAX_BYTES: u64 = 128 << 20;

/// Text to token ids and back.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
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
        Ok(Self {
            inner,
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

    /// Text of `ids`, leaving special tokens out. Ids beyond the vocabulary add nothing; bytes that
    /// are not UTF-8 become U+FFFD.
    ///
    /// # Errors
    /// If the tokenizer's decoder fails.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        self.inner.decode(ids, true).map_err(fault)
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
