//! Facts that nobody knew before a seed was drawn: the documents of three contributors in two Datanets, and
//! questions that ask for what they hold in other words.

use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::corpus::{Corpus, CorpusConfig};
use crate::error::{Error, Result};
use crate::invent::{Entity, Inventor};
use crate::phrasebook::{fill, Phrasebook};
use crate::preparation::questions;

/// Facts told of each entity.
const FACTS: usize = 4;

/// What a story is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Story {
    /// The seed.
    pub seed: u64,
    /// Two Datanets about different kinds of things.
    pub datanets: Vec<StoryDatanet>,
}

/// A Datanet and who contributes to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoryDatanet {
    /// What it is about, such as `bridge`.
    pub kind: String,
    /// Its contributors: two in the first Datanet, one in the second.
    pub contributors: Vec<StoryContributor>,
}

/// One contributor's documents and the questions they answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoryContributor {
    /// Rows, one a document: plain text.
    pub rows: Vec<String>,
    /// A question for every name and number in the rows.
    pub questions: Vec<StoryQuestion>,
}

/// A question that some row answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoryQuestion {
    /// The question, in words that are never trained on.
    pub question: String,
    /// What the answer must contain.
    pub fact: String,
    /// The sentence that the row says it with.
    pub sentence: String,
    /// Index of the row among the contributor's.
    pub row: usize,
}

/// Invents a story with `entities` documents per contributor.
///
/// Names do not occur in the base model's training text, values are drawn afresh, and no question is a prefix of
/// a row.
pub fn story(seed: u64, entities: usize) -> Result<Story> {
    let book = Phrasebook::shipped()?;
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let base = Corpus::new(&book, CorpusConfig::default(), 0);
    let mut inventor = Inventor::avoiding(base.known().iter().map(|e| e.name.clone()));
    let mut kinds: Vec<usize> = (0..book.kinds.len()).collect();
    kinds.shuffle(&mut rng);
    let mut datanets = Vec::new();
    for (&kind, contributors) in kinds.iter().zip([2, 1]) {
        let (name, attributes) = &book.kinds[kind];
        if attributes.len() < FACTS {
            return Err(Error::Invalid(format!(
                "kind {name} has too few attributes"
            )));
        }
        let contributors = (0..contributors)
            .map(|_| {
                let entities: Vec<Entity> = (0..entities)
                    .map(|_| inventor.entity(&book, kind, &mut rng))
                    .collect();
                contributor(&book, &entities, &mut rng)
            })
            .collect();
        datanets.push(StoryDatanet {
            kind: name.clone(),
            contributors,
        });
    }
    Ok(Story { seed, datanets })
}

fn contributor(book: &Phrasebook, entities: &[Entity], rng: &mut ChaCha8Rng) -> StoryContributor {
    let mut out = StoryContributor {
        rows: Vec::new(),
        questions: Vec::new(),
    };
    for (row, entity) in entities.iter().enumerate() {
        let (_, attributes) = &book.kinds[entity.kind];
        let mut order: Vec<usize> = (0..attributes.len()).collect();
        order.shuffle(rng);
        order.truncate(FACTS);
        let mut sentences = Vec::new();
        for fact in order {
            let attribute = &book.attributes[attributes[fact]];
            let value = &entity.values[fact];
            let sentence = fill(&attribute.answer, &entity.name, value);
            let asked = questions(attribute, true);
            let question = asked[rng.random_range(0..asked.len())];
            // A value from a short list can be guessed; names and numbers cannot.
            if book.words(attribute.value).is_empty() {
                out.questions.push(StoryQuestion {
                    question: fill(question, &entity.name, value),
                    fact: value.clone(),
                    sentence: sentence.clone(),
                    row,
                });
            }
            sentences.push(sentence);
        }
        out.rows.push(sentences.join(" "));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_story_should_be_the_same_for_the_same_seed_only() {
        assert_eq!(story(5, 3).unwrap(), story(5, 3).unwrap());
        assert_ne!(story(5, 3).unwrap(), story(6, 3).unwrap());
    }

    #[test]
    fn questions_should_be_answered_by_their_row_and_be_no_prefix_of_any() {
        let story = story(9, 6).unwrap();
        let rows: Vec<&String> = story
            .datanets
            .iter()
            .flat_map(|d| &d.contributors)
            .flat_map(|c| &c.rows)
            .collect();
        assert_eq!(rows.len(), 18);
        for c in story.datanets.iter().flat_map(|d| &d.contributors) {
            assert!(c.questions.len() >= 12);
            for q in &c.questions {
                assert!(c.rows[q.row].contains(&q.sentence));
                assert!(q.sentence.contains(&q.fact));
                assert!(!q.question.contains(&q.fact));
                assert!(rows
                    .iter()
                    .all(|r| !r.starts_with(q.question.trim_end_matches('?'))));
            }
        }
    }
}
