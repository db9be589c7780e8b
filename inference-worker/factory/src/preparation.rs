//! What a model is taught from the rows of a Datanet.
//!
//! Rows are those of the store, in the one canonical form whose Merkle root is on chain: a text, and the
//! contributor's own questions and answers. Sentences that a pattern of the [`Phrasebook`] recognises become a
//! statement and question–answer pairs; the answer is a sentence, so that what the model says can be found in the
//! row again. Of each attribute's questions a third is reserved: adapters never train on them, evaluation asks
//! them. Everything else is taught as text.

use openledger_store::Row;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::document::Document;
use crate::error::{Error, Result};
use crate::evaluation::Question;
use crate::phrasebook::{fill, Attribute, Phrasebook};
use crate::recognize::recognize;

/// How rows become examples; part of the manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preparation {
    /// Version of these rules.
    pub rules: u32,
    /// Question–answer pairs trained for each recognised fact.
    pub questions: usize,
    /// Reserved questions asked about each recognised fact in evaluation.
    pub reserved: usize,
    /// One of so many rows without any question is held out whole; 0 none.
    pub hold_out_every: usize,
    /// Seed of the choices.
    pub seed: u64,
}

impl Default for Preparation {
    fn default() -> Self {
        Self {
            rules: 1,
            questions: 2,
            reserved: 1,
            hold_out_every: 10,
            seed: 1,
        }
    }
}

/// What a model is taught, and what it is tested with.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Dataset {
    /// Documents to train on.
    pub train: Vec<Document>,
    /// Documents to measure the loss on.
    pub held_out: Vec<Document>,
    /// Questions whose answers are checked.
    pub suite: Vec<Question>,
}

/// Whether question number `index` of an attribute is kept for evaluation.
pub fn is_reserved(index: usize) -> bool {
    index % 3 == 2
}

/// The questions of an attribute that are (or are not) kept for evaluation.
pub fn questions(attribute: &Attribute, reserved: bool) -> Vec<&str> {
    let all = attribute.questions.iter().enumerate();
    all.filter(|(i, _)| is_reserved(*i) == reserved)
        .map(|(_, q)| q.as_str())
        .collect()
}

/// Turns rows into a dataset; the same rows and settings give the same dataset.
///
/// # Errors
/// [`Error::Invalid`] when nothing is left to train on.
pub fn prepare<'r>(
    book: &Phrasebook,
    rows: impl IntoIterator<Item = &'r Row>,
    settings: &Preparation,
) -> Result<Dataset> {
    let mut rng = ChaCha8Rng::seed_from_u64(settings.seed);
    let mut out = Dataset::default();
    let mut silent = Vec::new();
    for row in rows {
        let mut recognised = false;
        let mut rest = Vec::new();
        for sentence in sentences(row.text()) {
            let Some(fact) = recognize(book, sentence) else {
                rest.push(sentence);
                continue;
            };
            recognised = true;
            let answer = fill(&fact.attribute.answer, &fact.entity, &fact.value);
            let ask = |q: &&str| fill(q, &fact.entity, &fact.value);
            out.train.push(Document::text(sentence));
            let trained = questions(fact.attribute, false);
            for q in trained.choose_multiple(&mut rng, settings.questions) {
                out.train.push(Document::qa(ask(q), &answer));
            }
            let reserved = questions(fact.attribute, true);
            for q in reserved.choose_multiple(&mut rng, settings.reserved) {
                out.held_out.push(Document::qa(ask(q), &answer));
                out.suite.push(Question {
                    question: ask(q),
                    fact: fact.value.clone(),
                });
            }
        }
        for pair in row.pairs() {
            out.train.push(Document::qa(&pair.question, &pair.answer));
        }
        if !rest.is_empty() {
            let text = Document::text(rest.join(" "));
            if recognised || !row.pairs().is_empty() {
                out.train.push(text);
            } else {
                silent.push(text);
            }
        }
    }
    // Without questions, whole rows measure the loss.
    silent.shuffle(&mut rng);
    let kept = match settings.hold_out_every {
        0 => 0,
        every => silent.len() / every,
    };
    out.held_out.extend(silent.drain(..kept));
    out.train.append(&mut silent);
    if out.train.is_empty() {
        return Err(Error::Invalid("the rows hold nothing to train on".into()));
    }
    Ok(out)
}

/// The sentences of a text, each with its full stop.
fn sentences(text: &str) -> impl Iterator<Item = &str> {
    text.split_inclusive(". ")
        .map(str::trim)
        .filter(|s| !s.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use openledger_store::Pair;

    fn row(text: &str, pairs: &[(&str, &str)]) -> Row {
        let pairs = pairs.iter().map(|(question, answer)| Pair {
            question: (*question).into(),
            answer: (*answer).into(),
        });
        Row::new(text, pairs).unwrap()
    }

    #[test]
    fn a_recognised_sentence_should_be_taught_and_tested_in_different_words() {
        let book = Phrasebook::shipped().unwrap();
        let rows = [row(
            "Velkor is a company. The founder of Velkor is Mara Dint.",
            &[],
        )];
        let data = prepare(&book, &rows, &Preparation::default()).unwrap();
        assert_eq!(data.train.len(), 4);
        assert_eq!(data.suite.len(), 1);
        assert_eq!(data.suite[0].fact, "Mara Dint");
        let asked = &data.held_out[0].parts[0].1;
        assert!(data.train.iter().all(|d| &d.parts[0].1 != asked));
    }

    #[test]
    fn rows_should_be_taught_as_they_are_hashed_however_they_were_written() {
        let book = Phrasebook::shipped().unwrap();
        let written = row(
            " Cafe\u{301}  am\tMarkt. ",
            &[(" Wo? ", "Am \n Markt."), ("Wie?", "So.")],
        );
        let hashed = String::from_utf8(written.canonical_bytes()).unwrap();
        let data = prepare(&book, &[written], &Preparation::default()).unwrap();
        let expected = [
            Document::qa("Wo?", "Am Markt."),
            Document::qa("Wie?", "So."),
            Document::text("Caf\u{e9} am Markt."),
        ];
        assert_eq!(data.train, expected);
        assert_eq!(hashed, "Caf\u{e9} am Markt.\nWo?\nAm Markt.\nWie?\nSo.");
    }
}
