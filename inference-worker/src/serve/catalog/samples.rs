//! Revisions for tests.

use super::{names::Names, Files, Served};
use openledger_chain::{
    apis::models::{RevisionInfo, TermsInfo},
    AccountId,
};
use openledger_engine::AdapterId;
use openledger_primitives::{
    licence::Licence,
    revision::{AttributionParams, ModelRef, RevisionFacts, RevisionStatus, Targets},
    terms::{Split, Terms, PPM},
    RevisionId,
};
use openledger_text::TextModel;

/// Digest of the manifest of the base's files.
pub const MANIFEST: [u8; 32] = [9; 32];

pub fn info(revision: RevisionId, model: ModelRef, name: &str) -> RevisionInfo {
    RevisionInfo {
        revision,
        model,
        name: name.as_bytes().to_vec(),
        developer: AccountId([1; 32]),
        base: 0,
        base_name: b"tiny".to_vec(),
        base_manifest: MANIFEST,
        base_revision: 0,
        facts: RevisionFacts {
            adapter_digest: digest(revision),
            rank: 4,
            targets: Targets::ALL_LINEAR,
            manifest: [0; 32],
            index: [0; 32],
            null: [0; 32],
            evaluation: [0; 32],
            attribution: AttributionParams::default(),
        },
        versions: Vec::new(),
        licence: Licence::ALL,
        royalty: 0,
        published_at: revision as u32 + 1,
        status: RevisionStatus::Live,
        terms: Some(0),
    }
}

/// A digest that no other revision of a test has.
fn digest(revision: RevisionId) -> [u8; 32] {
    let mut digest = [revision as u8; 32];
    digest[0] = digest[0].wrapping_add((revision >> 8) as u8);
    digest
}

/// The names of models, of which these are all.
pub fn names_of(infos: &[RevisionInfo]) -> Names {
    let mut base = None;
    let mut adapters = Vec::new();
    for info in infos {
        match info.model {
            ModelRef::Base(number) => base = Some((number, info.name.as_slice())),
            ModelRef::Adapter(number) => {
                let count = adapters.len().max(number as usize + 1);
                adapters.resize(count, Vec::new());
                adapters[number as usize] = info.name.clone();
            }
        }
    }
    Names::new(base, &adapters)
}

pub fn terms(price: u128) -> TermsInfo {
    TermsInfo {
        index: 0,
        terms: Terms {
            price_in: price,
            price_out: price,
            split: Split {
                worker: PPM,
                developer: 0,
                holders: 0,
                contributors: 0,
                protocol: 0,
            },
            effective_from: 0,
        },
    }
}

pub fn text() -> TextModel {
    let tokenizer = br#"{"version":"1.0","truncation":null,"padding":null,"added_tokens":[],
        "normalizer":null,"pre_tokenizer":null,"post_processor":null,"decoder":null,
        "model":{"type":"WordLevel","vocab":{"a":0},"unk_token":"a"}}"#;
    TextModel::from_bytes(tokenizer, None, None).unwrap()
}

pub fn served(revision: RevisionId, model: ModelRef, name: &str, adapter: Option<u8>) -> Served {
    let files = Files {
        adapter: adapter.map(|id| AdapterId([id; 32])),
        training: None,
    };
    Served::new(info(revision, model, name), terms(1), files, text())
}
