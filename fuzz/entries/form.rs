//! The form of an answer: `r` and a regular expression, or a JSON schema.

use openledger_engine::{TokenConstraint, TokenMask};
use openledger_grammar::{Form, Grammars};
use openledger_text::Tokenizer;
use std::sync::OnceLock;

/// Tokens walked along each answer.
const STEPS: usize = 24;

fn grammars() -> &'static (Grammars, usize) {
    static GRAMMARS: OnceLock<(Grammars, usize)> = OnceLock::new();
    GRAMMARS.get_or_init(|| {
        let mut vocabulary = serde_json::Map::new();
        vocabulary.insert("<end>".to_owned(), 0.into());
        for byte in 0..=255 {
            vocabulary.insert(format!("<0x{byte:02X}>"), (byte + 1).into());
        }
        for word in ["true", "{\"", "\":", "\"}", "[[", "12"] {
            vocabulary.insert(word.to_owned(), vocabulary.len().into());
        }
        let size = vocabulary.len();
        let tokenizer = serde_json::json!({
            "version": "1.0",
            "added_tokens": [{
                "id": 0, "content": "<end>", "single_word": false, "lstrip": false,
                "rstrip": false, "normalized": false, "special": true
            }],
            "decoder": { "type": "Sequence", "decoders": [
                { "type": "ByteFallback" }, { "type": "Fuse" }
            ] },
            "model": {
                "type": "BPE", "dropout": null, "unk_token": null,
                "continuing_subword_prefix": null, "end_of_word_suffix": null, "fuse_unk": false,
                "byte_fallback": true, "vocab": vocabulary, "merges": []
            }
        });
        let tokenizer = Tokenizer::from_bytes(tokenizer.to_string().as_bytes());
        let tokenizer = tokenizer.expect("a good tokenizer");
        let grammars = Grammars::new(&tokenizer, size).expect("bytes for all tokens");
        (grammars, size)
    })
}

/// Whether the form was taken. An answer in it goes on or fails with a reason, and never panics.
pub fn check(data: &[u8]) -> bool {
    let form = match data.split_first() {
        Some((b'r', pattern)) => match std::str::from_utf8(pattern) {
            Ok(pattern) => Form::Regex(pattern.to_owned()),
            Err(_) => return false,
        },
        _ => match serde_json::from_slice(data) {
            Ok(schema) => Form::JsonSchema(schema),
            Err(_) => return false,
        },
    };
    let (grammars, size) = grammars();
    let mut constraint = match grammars.compile(&form, &[0]) {
        Ok(constraint) => constraint,
        Err(error) => {
            let reason = error.to_string();
            assert!(!reason.is_empty() && reason.len() < 10_000);
            return false;
        }
    };
    let mut mask = TokenMask::new(*size);
    for step in 0..STEPS {
        if constraint.is_finished() {
            break;
        }
        mask.clear();
        if constraint.mask(&mut mask).is_err() {
            break;
        }
        // Not always the first that may follow, nor the end.
        let allowed: Vec<u32> = (1..*size as u32).filter(|t| mask.allows(*t)).collect();
        let Some(token) = allowed.get(step * 7 % allowed.len().max(1)) else {
            break;
        };
        if constraint.accept(*token).is_err() {
            break;
        }
    }
    true
}
