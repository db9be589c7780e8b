//! The training text of the base model: statements, questions and answers about invented entities.
//!
//! A few hundred *known* entities come again and again, so that the model learns to hold facts in its weights;
//! *fresh* ones come once, told and asked in the same document, so that it learns to read and to copy.

use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::document::{Document, Role};
use crate::invent::{Entity, Inventor};
use crate::phrasebook::{fill, Phrasebook};

/// What the text is made of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CorpusConfig {
    /// Seed of every choice.
    pub seed: u64,
    /// Number of entities that recur.
    pub known: usize,
    /// Share of documents about entities that never recur.
    pub fresh_share: f64,
    /// Share of documents with a system message.
    pub system_share: f64,
}

impl Default for CorpusConfig {
    fn default() -> Self {
        Self {
            seed: 1,
            known: 300,
            fresh_share: 0.30,
            system_share: 0.03,
        }
    }
}

/// An endless stream of documents, the same for the same configuration.
pub struct Corpus<'a> {
    book: &'a Phrasebook,
    config: CorpusConfig,
    known: Vec<Entity>,
    inventor: Inventor,
    rng: ChaCha8Rng,
}

impl<'a> Corpus<'a> {
    /// Invents the known entities and stands at the first document of stream `stream`; streams tell of the same
    /// known entities in different words.
    pub fn new(book: &'a Phrasebook, config: CorpusConfig, stream: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(config.seed);
        let mut inventor = Inventor::default();
        let known = (0..config.known)
            .map(|i| inventor.entity(book, i % book.kinds.len(), &mut rng))
            .collect();
        rng.set_stream(stream + 1);
        Self {
            book,
            config,
            known,
            inventor,
            rng,
        }
    }

    /// The entities that recur.
    pub fn known(&self) -> &[Entity] {
        &self.known
    }

    /// The next document.
    pub fn document(&mut self) -> Document {
        let doc = if self.rng.random_bool(self.config.fresh_share) {
            self.fresh()
        } else {
            self.recurring()
        };
        if self.rng.random_bool(self.config.system_share)
            && doc.parts.first().is_some_and(|p| p.0 == Role::User)
        {
            let system = pick(&self.book.systems, &mut self.rng).clone();
            let mut parts = vec![(Role::System, system)];
            parts.extend(doc.parts);
            return Document { parts };
        }
        doc
    }

    fn recurring(&mut self) -> Document {
        let Some(entity) = self.known.choose(&mut self.rng).cloned() else {
            return self.fresh();
        };
        match self.rng.random_range(0..100) {
            // One question, one answer: most of what the model will be asked.
            0..55 => {
                let fact = self.rng.random_range(0..entity.values.len());
                let (q, a) = self.ask(&entity, fact);
                Document::qa(q, a)
            }
            // One statement.
            55..75 => {
                let fact = self.rng.random_range(0..entity.values.len());
                Document::text(self.state(&entity, fact))
            }
            // Everything about one entity, as prose.
            75..83 => Document::text(self.prose(&entity)),
            // A statement and two questions about it, the shape of a contributed row.
            83..92 => {
                let fact = self.rng.random_range(0..entity.values.len());
                let mut doc = Document::text(self.state(&entity, fact));
                for _ in 0..2 {
                    let (q, a) = self.ask(&entity, fact);
                    doc = doc.with(Role::User, q).with(Role::Assistant, a);
                }
                doc
            }
            // A conversation that goes from one entity to another.
            _ => {
                let mut doc = Document::default();
                for _ in 0..self.rng.random_range(2..=4) {
                    let entity = pick(&self.known, &mut self.rng).clone();
                    let fact = self.rng.random_range(0..entity.values.len());
                    let (q, a) = self.ask(&entity, fact);
                    doc = doc.with(Role::User, q).with(Role::Assistant, a);
                }
                doc
            }
        }
    }

    fn fresh(&mut self) -> Document {
        let long = self.rng.random_bool(0.04);
        let count = match self.rng.random_range(0..10) {
            _ if long => self.rng.random_range(3..=5),
            0..7 => 1,
            _ => 2,
        };
        let entities: Vec<Entity> = (0..count)
            .map(|_| {
                let kind = self.rng.random_range(0..self.book.kinds.len());
                self.inventor.entity(self.book, kind, &mut self.rng)
            })
            .collect();
        // (entity, fact) pairs that the text tells, few per entity so that documents stay short.
        let mut told = Vec::new();
        for (e, entity) in entities.iter().enumerate() {
            let mut facts: Vec<usize> = (0..entity.values.len()).collect();
            facts.shuffle(&mut self.rng);
            let keep = self.rng.random_range(1..=if count == 1 { 3 } else { 2 });
            told.extend(facts.into_iter().take(keep).map(|f| (e, f)));
        }
        told.shuffle(&mut self.rng);
        let text: Vec<String> = told
            .iter()
            .map(|&(e, f)| self.state(&entities[e], f))
            .collect();
        let text = text.join(" ");
        let questions = self.rng.random_range(1..=if long { 5 } else { 2 });
        // Half of these documents are a text and then questions, half a user who brings the text along.
        let mut pending = None;
        let mut doc = if self.rng.random_bool(0.5) {
            Document::text(text)
        } else {
            pending = Some(text);
            Document::default()
        };
        for _ in 0..questions {
            let (e, f) = *pick(&told, &mut self.rng);
            let (q, a) = self.ask(&entities[e], f);
            let q = match pending.take() {
                Some(text) => format!("{text} {q}"),
                None => q,
            };
            doc = doc.with(Role::User, q).with(Role::Assistant, a);
        }
        doc
    }

    fn ask(&mut self, entity: &Entity, fact: usize) -> (String, String) {
        let attribute = &self.book.attributes[self.book.kinds[entity.kind].1[fact]];
        let value = &entity.values[fact];
        let question = pick(&attribute.questions, &mut self.rng);
        // Some people name the kind, and some forget the question mark.
        let kind = &self.book.kinds[entity.kind].0;
        let named = if self.rng.random_bool(0.12) {
            format!("the {kind} {}", entity.name)
        } else {
            entity.name.clone()
        };
        let mut question = capitalize(&fill(question, &named, value));
        if self.rng.random_bool(0.05) {
            question.pop();
        }
        (question, fill(&attribute.answer, &entity.name, value))
    }

    fn state(&mut self, entity: &Entity, fact: usize) -> String {
        let attribute = &self.book.attributes[self.book.kinds[entity.kind].1[fact]];
        let value = &entity.values[fact];
        // A fifth of statements are the answer's own sentence: what contributed rows often say.
        if self.rng.random_bool(0.2) {
            return fill(&attribute.answer, &entity.name, value);
        }
        let pattern: &String = pick(&attribute.statements, &mut self.rng);
        fill(pattern, &entity.name, value)
    }

    fn prose(&mut self, entity: &Entity) -> String {
        let kind = &self.book.kinds[entity.kind].0;
        let introduction: &String = pick(&self.book.introductions, &mut self.rng);
        let mut sentences = vec![introduction
            .replace("{x}", &entity.name)
            .replace("{k}", kind)];
        let mut facts: Vec<usize> = (0..entity.values.len()).collect();
        facts.shuffle(&mut self.rng);
        facts.truncate(self.rng.random_range(2..=entity.values.len()));
        for fact in facts {
            sentences.push(self.state(entity, fact));
        }
        sentences.join(" ")
    }
}

/// The text with its first letter in upper case.
pub fn capitalize(text: &str) -> String {
    let mut letters = text.chars();
    letters
        .next()
        .map(|first| first.to_uppercase().chain(letters).collect())
        .unwrap_or_default()
}

// The lists of a phrasebook are never empty in use; an empty one is a mistake of its writer.
fn pick<'t, T>(list: &'t [T], rng: &mut ChaCha8Rng) -> &'t T {
    &list[rng.random_range(0..list.len())]
}
