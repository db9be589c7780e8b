//! A tokenizer of every byte and some words, and a small model with random weights over it.

#![allow(dead_code)]

use openledger_engine::{Engine, EngineHandle, EngineOptions};
use openledger_model::{Family, ModelConfig, Weights};
use openledger_text::Tokenizer;
use serde_json::{json, Map, Value};

/// The token that ends an answer.
pub const END: u32 = 0;

/// Words that are tokens by themselves; with the bytes, tokens of which many cross the borders of JSON.
const WORDS: [&str; 12] = [
    "true", "null", "{\"", "\":", "\",", "\"}", "name", "age", "[[", "]]", " a", "12",
];

fn character(byte: u8) -> char {
    let printable = |b: u8| matches!(b, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    if printable(byte) {
        return char::from(byte);
    }
    let before = (0..byte).filter(|b| !printable(*b)).count() as u32;
    char::from_u32(0x100 + before).unwrap()
}

/// Byte-level, as of GPT-2.
pub fn byte_level() -> Tokenizer {
    let mut vocabulary = Map::new();
    let mut add = |token: String| {
        let id = vocabulary.len();
        vocabulary.insert(token, json!(id));
    };
    add("<end>".to_owned());
    (0..=255).for_each(|byte| add(character(byte).to_string()));
    for word in WORDS {
        add(word.bytes().map(character).collect());
    }
    tokenizer(
        vocabulary,
        json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false }),
    )
}

/// With byte fallback, as of SentencePiece.
pub fn fallback() -> Tokenizer {
    let mut vocabulary = Map::new();
    let mut add = |token: String| {
        let id = vocabulary.len();
        vocabulary.insert(token, json!(id));
    };
    add("<end>".to_owned());
    (0..=255).for_each(|byte| add(format!("<0x{byte:02X}>")));
    for word in WORDS {
        add(word.replace(' ', "\u{2581}"));
    }
    let decoders = json!([
        { "type": "Replace", "pattern": { "String": "\u{2581}" }, "content": " " },
        { "type": "ByteFallback" },
        { "type": "Fuse" }
    ]);
    tokenizer(
        vocabulary,
        json!({ "type": "Sequence", "decoders": decoders }),
    )
}

fn tokenizer(vocabulary: Map<String, Value>, decoder: Value) -> Tokenizer {
    let json = json!({
        "version": "1.0",
        "added_tokens": [{
            "id": END, "content": "<end>", "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true
        }],
        "decoder": decoder,
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": true,
            "vocab": vocabulary, "merges": []
        }
    });
    Tokenizer::from_bytes(json.to_string().as_bytes()).unwrap()
}

/// A model whose vocabulary is larger than its tokenizer's, as it often is.
pub fn engine(tokenizer: &Tokenizer) -> EngineHandle {
    let config = ModelConfig {
        family: Family::Llama,
        vocab_size: tokenizer.vocab_size() + 7,
        hidden_size: 32,
        intermediate_size: 48,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: 8,
        rms_norm_eps: 1e-5,
        rope_theta: 10_000.0,
        rope_scaling: None,
        max_position_embeddings: 1024,
        tie_word_embeddings: false,
        bos_token_id: None,
        eos_token_ids: vec![END],
    };
    let weights = Weights::random(&config, 7).unwrap();
    Engine::start(&config, weights, EngineOptions::default()).unwrap()
}
