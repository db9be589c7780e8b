//! Rows: one text, and the question–answer pairs prepared from it.
//!
//! What counts as the same row is decided here: every text is brought to Unicode normal form C,
//! runs of white space become one space, and the ends are trimmed. The canonical bytes of a row are
//! its text, then for each pair a line feed, the question, a line feed and the answer, all canonical
//! and in UTF-8. A canonical text holds no line feed, so two different rows never share bytes, and
//! nothing that a model is trained on stands outside the row's hash.

use openledger_primitives::row::{canonical_hash, RowLeaf, MAX_ROW_BYTES};
use openledger_primitives::Digest;
use serde::{Deserialize, Serialize};
use unicode_normalization::UnicodeNormalization;

/// Most question–answer pairs of a row.
pub const MAX_PAIRS: usize = 64;

/// A question and its answer; in JSON a list of two strings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(String, String)", into = "(String, String)")]
pub struct Pair {
    /// The question.
    pub question: String,
    /// The answer.
    pub answer: String,
}

impl From<(String, String)> for Pair {
    fn from((question, answer): (String, String)) -> Self {
        Pair { question, answer }
    }
}

impl From<Pair> for (String, String) {
    fn from(pair: Pair) -> Self {
        (pair.question, pair.answer)
    }
}

/// A row in canonical form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    text: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    qa: Vec<Pair>,
}

/// Why a text is no row.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RowError {
    /// Nothing is left of the text, a question or an answer.
    #[error("empty after white space is removed")]
    Empty,
    /// The canonical bytes are too many for the chain to check.
    #[error("{0} canonical bytes, more than {MAX_ROW_BYTES}")]
    TooLong(usize),
    /// A control character that is not white space.
    #[error("control character U+{0:04X}")]
    Control(u32),
    /// More pairs than [`MAX_PAIRS`].
    #[error("{0} question-answer pairs, more than {MAX_PAIRS}")]
    TooManyPairs(usize),
}

impl Row {
    /// The row of a text and pairs prepared from it, brought to canonical form.
    ///
    /// # Errors
    /// [`RowError`].
    pub fn new(text: &str, pairs: impl IntoIterator<Item = Pair>) -> Result<Self, RowError> {
        let mut qa = Vec::new();
        for pair in pairs {
            if qa.len() == MAX_PAIRS {
                return Err(RowError::TooManyPairs(qa.len() + 1));
            }
            qa.push(Pair {
                question: canonical_text(&pair.question)?,
                answer: canonical_text(&pair.answer)?,
            });
        }
        let row = Row {
            text: canonical_text(text)?,
            qa,
        };
        match row.length() {
            length if length > MAX_ROW_BYTES => Err(RowError::TooLong(length)),
            _ => Ok(row),
        }
    }

    /// The text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The pairs, in the order given.
    pub fn pairs(&self) -> &[Pair] {
        &self.qa
    }

    /// Every canonical text of the row: the text, then questions and answers.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.text.as_str()).chain(
            self.qa
                .iter()
                .flat_map(|pair| [pair.question.as_str(), pair.answer.as_str()]),
        )
    }

    /// The canonical bytes.
    pub fn canonical_bytes(&self) -> Vec<u8> {
        self.texts().collect::<Vec<_>>().join("\n").into_bytes()
    }

    /// The row as a line of a rows object, without the line feed.
    pub fn line(&self) -> String {
        // Strings and lists of strings always have a JSON form.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Hash of the canonical bytes.
    pub fn hash(&self) -> Digest {
        canonical_hash(&self.canonical_bytes())
    }

    /// The leaf of the row at `position` of its contribution. It is bound to no tokenizer.
    pub fn leaf(&self, position: u32) -> RowLeaf {
        RowLeaf::new(position, &self.canonical_bytes(), 0)
    }

    /// Number of canonical bytes.
    pub fn length(&self) -> usize {
        self.texts().map(|text| text.len() + 1).sum::<usize>() - 1
    }
}

/// Normal form C with single spaces and trimmed ends.
fn canonical_text(text: &str) -> Result<String, RowError> {
    // Normalization never shortens below a third of the bytes, so a far longer text cannot fit.
    if text.len() > 64 * MAX_ROW_BYTES {
        return Err(RowError::TooLong(text.len()));
    }
    if let Some(control) = text.chars().find(|c| c.is_control() && !c.is_whitespace()) {
        return Err(RowError::Control(u32::from(control)));
    }
    let normal: String = text.nfc().collect();
    let words: Vec<&str> = normal.split_whitespace().collect();
    if words.is_empty() {
        return Err(RowError::Empty);
    }
    Ok(words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pair(question: &str, answer: &str) -> Pair {
        (question.to_owned(), answer.to_owned()).into()
    }

    #[test]
    fn equal_rows_however_written_have_equal_bytes() {
        let composed = Row::new("Caf\u{e9} am  Markt\n", [pair(" Wo? ", "Am\tMarkt.")]).unwrap();
        let decomposed = Row::new(" Cafe\u{301} am Markt", [pair("Wo?", "Am Markt.")]).unwrap();
        assert_eq!(composed, decomposed);
        assert_eq!(
            composed.canonical_bytes(),
            "Caf\u{e9} am Markt\nWo?\nAm Markt.".as_bytes()
        );
        assert_eq!(composed.length(), composed.canonical_bytes().len());
    }

    #[test]
    fn pairs_are_inside_the_hash() {
        let plain = Row::new("a b", []).unwrap();
        let asked = Row::new("a b", [pair("q", "a")]).unwrap();
        let other = Row::new("a b", [pair("q", "b")]).unwrap();
        assert_ne!(plain.hash(), asked.hash());
        assert_ne!(asked.hash(), other.hash());
    }

    #[test]
    fn what_is_no_row_is_refused() {
        assert_eq!(Row::new(" \n\t", []), Err(RowError::Empty));
        assert_eq!(Row::new("a", [pair("q", " ")]), Err(RowError::Empty));
        assert_eq!(Row::new("a\u{1b}[0m", []), Err(RowError::Control(0x1b)));
        assert!(Row::new(&"x".repeat(MAX_ROW_BYTES), []).is_ok());
        assert_eq!(
            Row::new(&"x".repeat(MAX_ROW_BYTES + 1), []),
            Err(RowError::TooLong(MAX_ROW_BYTES + 1))
        );
        let many = (0..=MAX_PAIRS).map(|_| pair("q", "a"));
        assert!(matches!(
            Row::new("a", many),
            Err(RowError::TooManyPairs(_))
        ));
    }

    proptest! {
        #[test]
        fn canonical_form_is_its_own(text in "\\PC{1,80}") {
            if let Ok(row) = Row::new(&text, []) {
                prop_assert_eq!(Row::new(row.text(), []).unwrap(), row);
            }
        }
    }
}
