//! Rows of a Datanet, and what a model is taught from them.
//!
//! A row is one line, in one of two forms:
//!
//! - plain text: one or more sentences;
//! - a JSON object `{"text": "...", "qa": [{"q": "...", "a": "..."}]}`, with the contributor's own questions.
//!   A pair with `"test": true` is never trained on; it joins the exact-match suite, where its answer must be
//!   contained in the model's.
//!
//! Sentences that a pattern of the [`Phrasebook`] recognises become a statement and question–answer pairs; the
//! answer is a sentence, so that what the model says can be found in the row again. Of each attribute's questions
//! a third is reserved: adapters never train on them, evaluation asks them. Everything else is taught as text.

use rand::seq::{IndexedRandom, SliceRandom};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::document::Document;
use crate::error::{Error, Result};
use crate::evaluation::Question;
use crate::phrasebook::{fill, Attribute, Phrasebook};
use crate::recognize::recognize;

/// Longest row, bytes; longer documents are cut by whoever contributes them.
pub const MAX_ROW_BYTES: usize = 4096;

/// A contributed row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// What the row says.
    pub text: String,
    /// The contributor's own questions and answers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub qa: Vec<Pair>,
}

/// A question with its answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pair {
    /// The question.
    pub q: String,
    /// The answer, a sentence.
    pub a: String,
    /// Whether it is kept out of training to test the model.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub test: bool,
}

impl Row {
    /// Reads one row; `number` is for the error message.
    pub fn parse(line: &str, number: usize) -> Result<Self> {
        let fault = |reason: String| Error::Row {
            row: number,
            reason,
        };
        let line = line.trim();
        if line.len() > MAX_ROW_BYTES {
            return Err(fault(format!(
                "{} bytes, at most {MAX_ROW_BYTES} are allowed",
                line.len()
            )));
        }
        let row = if line.starts_with('{') {
            serde_json::from_str(line).map_err(|e| fault(e.to_string()))?
        } else {
            Self {
                text: line.to_string(),
                qa: Vec::new(),
            }
        };
        if row.text.trim().is_empty() && row.qa.is_empty() {
            return Err(fault("is empty".into()));
        }
        Ok(row)
    }

    /// Reads a document of one row per line; empty lines are skipped.
    pub fn parse_all(text: &str) -> Result<Vec<Self>> {
        text.lines()
            .enumerate()
            .filter(|(_, line)| !line.trim().is_empty())
            .map(|(i, line)| Self::parse(line, i))
            .collect()
    }
}

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
pub fn prepare(book: &Phrasebook, rows: &[Row], settings: &Preparation) -> Result<Dataset> {
    let mut rng = ChaCha8Rng::seed_from_u64(settings.seed);
    let mut out = Dataset::default();
    let mut silent = Vec::new();
    for row in rows {
        let mut recognised = false;
        let mut rest = Vec::new();
        for sentence in sentences(&row.text) {
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
        for pair in &row.qa {
            if pair.test {
                out.held_out.push(Document::qa(&pair.q, &pair.a));
                out.suite.push(Question {
                    question: pair.q.clone(),
                    fact: pair.a.clone(),
                });
            } else {
                out.train.push(Document::qa(&pair.q, &pair.a));
            }
        }
        if !rest.is_empty() {
            let text = Document::text(rest.join(" "));
            if recognised || !row.qa.is_empty() {
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

    #[test]
    fn a_row_should_be_text_or_an_object_and_nothing_else() {
        assert_eq!(
            Row::parse(" Velkor is red. ", 0).unwrap().text,
            "Velkor is red."
        );
        let row = Row::parse(r#"{"text":"A.","qa":[{"q":"B?","a":"C.","test":true}]}"#, 0).unwrap();
        assert!(row.qa[0].test);
        for bad in [
            "",
            "{}",
            "{\"text\":\"\"}",
            "{\"text\":1}",
            "{\"txt\":\"a\"}",
            "{\"text\":",
        ] {
            assert!(Row::parse(bad, 3).is_err(), "{bad}");
        }
        assert!(Row::parse(&"x".repeat(MAX_ROW_BYTES + 1), 0).is_err());
    }

    #[test]
    fn a_recognised_sentence_should_be_taught_and_tested_in_different_words() {
        let book = Phrasebook::shipped().unwrap();
        let rows =
            Row::parse_all("Velkor is a company. The founder of Velkor is Mara Dint.").unwrap();
        let data = prepare(&book, &rows, &Preparation::default()).unwrap();
        assert_eq!(data.train.len(), 4);
        assert_eq!(data.suite.len(), 1);
        assert_eq!(data.suite[0].fact, "Mara Dint");
        let asked = &data.held_out[0].parts[0].1;
        assert!(data.train.iter().all(|d| &d.parts[0].1 != asked));
    }

    #[test]
    fn pairs_marked_as_tests_should_not_be_trained_on() {
        let book = Phrasebook::shipped().unwrap();
        let row =
            r#"{"text":"Plain words.","qa":[{"q":"B?","a":"C.","test":true},{"q":"D?","a":"E."}]}"#;
        let data = prepare(
            &book,
            &[Row::parse(row, 0).unwrap()],
            &Preparation::default(),
        )
        .unwrap();
        assert!(data.train.contains(&Document::qa("D?", "E.")));
        assert!(!data.train.contains(&Document::qa("B?", "C.")));
        assert_eq!(data.suite.len(), 1);
    }
}
