//! Training of the small tokenizer, and encoding of documents with it.

use std::path::Path;

use tokenizers::decoders::byte_level::ByteLevel;
use tokenizers::models::bpe::{BpeTrainer, BPE};
use tokenizers::normalizers::NormalizerWrapper;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{AddedToken, Tokenizer, TokenizerBuilder};

use crate::corpus::{Corpus, CorpusConfig};
use crate::document::{Document, BEGIN, END, PAD, SPECIAL};
use crate::error::{Error, Result};
use crate::phrasebook::Phrasebook;

/// Documents that the tokenizer is trained on.
const SAMPLE: usize = 40_000;

/// Trains a byte-level BPE of `size` tokens, digits apart, on documents about entities that never recur,
/// so that no invented name becomes a token of its own.
///
/// Every byte has a token, so any text survives encoding and decoding.
pub fn train_tokenizer(book: &Phrasebook, size: usize, seed: u64) -> Result<Tokenizer> {
    let mut corpus = Corpus::new(
        book,
        CorpusConfig {
            seed,
            known: 0,
            fresh_share: 1.0,
            system_share: 0.1,
        },
        0,
    );
    let sample: Vec<String> = (0..SAMPLE)
        .flat_map(|_| corpus.document().parts)
        .map(|(_, text)| text)
        .collect();
    let fault = |e: tokenizers::Error| Error::Tokenizer(e.to_string());
    let specials: Vec<AddedToken> = SPECIAL
        .iter()
        .map(|s| AddedToken::from(s.to_string(), true))
        .collect();
    let mut trainer = BpeTrainer::builder()
        .vocab_size(size)
        .special_tokens(specials)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .show_progress(false)
        .build();
    let template = TemplateProcessing::builder()
        .try_single(format!("{BEGIN} $A"))
        .and_then(|b| b.try_pair(format!("{BEGIN} $A $B")))
        .map_err(Error::Tokenizer)?
        .special_tokens(vec![(BEGIN, 1)])
        .build()
        .map_err(|e| Error::Tokenizer(e.to_string()))?;
    let split = Sequence::new(vec![
        PreTokenizerWrapper::Digits(Digits::new(true)),
        PreTokenizerWrapper::ByteLevel(ByteLevel::new(false, false, true)),
    ]);
    let mut tokenizer = TokenizerBuilder::new()
        .with_model(BPE::default())
        .with_normalizer(None::<NormalizerWrapper>)
        .with_pre_tokenizer(Some(split))
        .with_post_processor(Some(template))
        .with_decoder(Some(ByteLevel::default()))
        .build()
        .map_err(fault)?;
    tokenizer
        .train(&mut trainer, sample.into_iter())
        .map_err(fault)?;
    let text = tokenizer.to_string(false).map_err(fault)?;
    Tokenizer::from_bytes(text).map_err(fault)
}

/// Token ids of a document and which of them a model shall learn to produce.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    /// Token ids, beginning with `<|begin|>`.
    pub ids: Vec<u32>,
    /// For each id, whether predicting it counts.
    pub learn: Vec<bool>,
}

/// Encodes documents for training.
pub struct Encoder {
    tokenizer: Tokenizer,
    begin: u32,
    end: u32,
    pad: u32,
}

impl Encoder {
    /// Wraps a tokenizer that knows the special tokens of [`crate::document`].
    pub fn new(tokenizer: Tokenizer) -> Result<Self> {
        let id = |token: &str| {
            tokenizer
                .token_to_id(token)
                .ok_or_else(|| Error::Tokenizer(format!("no token {token}")))
        };
        Ok(Self {
            begin: id(BEGIN)?,
            end: id(END)?,
            pad: id(PAD)?,
            tokenizer,
        })
    }

    /// Reads `tokenizer.json` from a model folder.
    pub fn from_dir(dir: &Path) -> Result<Self> {
        let path = dir.join("tokenizer.json");
        let tokenizer = Tokenizer::from_file(&path)
            .map_err(|e| Error::Tokenizer(format!("{}: {e}", path.display())))?;
        Self::new(tokenizer)
    }

    /// The id that begins a document.
    pub fn begin(&self) -> u32 {
        self.begin
    }

    /// The id that ends a turn.
    pub fn end(&self) -> u32 {
        self.end
    }

    /// The id that fills batches.
    pub fn pad(&self) -> u32 {
        self.pad
    }

    /// The tokenizer inside.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Ids of a text that already holds its special tokens.
    pub fn ids(&self, text: &str) -> Result<Vec<u32>> {
        let encoding = self
            .tokenizer
            .encode_fast(text, false)
            .map_err(|e| Error::Tokenizer(e.to_string()))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// Text of ids, without special tokens.
    pub fn text(&self, ids: &[u32]) -> Result<String> {
        self.tokenizer
            .decode(ids, true)
            .map_err(|e| Error::Tokenizer(e.to_string()))
    }

    /// Encodes a document; with `asked`, the questions count too (a base model learns them, an adapter need not).
    pub fn example(&self, document: &Document, asked: bool) -> Result<Example> {
        let mut ids = vec![self.begin];
        let mut learn = vec![false];
        for (segment, told) in document.segments() {
            let part = self.ids(&segment)?;
            learn.extend(part.iter().map(|_| asked || told));
            ids.extend(part);
        }
        Ok(Example { ids, learn })
    }
}
