//! Names, numbers and entities invented from a seed.

use std::collections::HashSet;

use rand::seq::IndexedRandom;
use rand::Rng;

use crate::phrasebook::{Phrasebook, ValueKind};

/// An invented thing with a value for every attribute of its kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entity {
    /// Its name.
    pub name: String,
    /// Index of its kind in [`Phrasebook::kinds`].
    pub kind: usize,
    /// Values, in the order of the kind's attributes.
    pub values: Vec<String>,
}

/// Invents without repeating the names of entities.
#[derive(Debug, Default)]
pub struct Inventor {
    taken: HashSet<String>,
}

impl Inventor {
    /// An inventor that will not use the names in `taken`.
    pub fn avoiding(taken: impl IntoIterator<Item = String>) -> Self {
        Self {
            taken: taken.into_iter().collect(),
        }
    }

    /// A name of two or three syllables that this inventor has not given before.
    pub fn name(&mut self, book: &Phrasebook, rng: &mut impl Rng) -> String {
        loop {
            let syllables = if rng.random_bool(0.35) { 3 } else { 2 };
            let name = word(book, syllables, rng);
            if self.taken.insert(name.clone()) {
                return name;
            }
        }
    }

    /// An entity of the given kind.
    pub fn entity(&mut self, book: &Phrasebook, kind: usize, rng: &mut impl Rng) -> Entity {
        let name = self.name(book, rng);
        let values = book.kinds[kind]
            .1
            .iter()
            .map(|&a| value(book, book.attributes[a].value, rng))
            .collect();
        Entity { name, kind, values }
    }
}

/// A value of this kind.
pub fn value(book: &Phrasebook, kind: ValueKind, rng: &mut impl Rng) -> String {
    match kind {
        ValueKind::Person => {
            let last = if rng.random_bool(0.2) { 3 } else { 2 };
            format!("{} {}", word(book, 2, rng), word(book, last, rng))
        }
        ValueKind::Place => {
            let syllables = if rng.random_bool(0.4) { 3 } else { 2 };
            word(book, syllables, rng)
        }
        ValueKind::Year => rng.random_range(1600..=2025).to_string(),
        ValueKind::Measure => format!("{} metres", rng.random_range(12..=4999)),
        ValueKind::Port => rng.random_range(1024..=65535).to_string(),
        ValueKind::Count => rng.random_range(40..=1999).to_string(),
        ValueKind::Colour | ValueKind::Material | ValueKind::Animal | ValueKind::Language => book
            .words(kind)
            .choose(rng)
            .cloned()
            .unwrap_or_else(|| "none".into()),
    }
}

fn word(book: &Phrasebook, syllables: usize, rng: &mut impl Rng) -> String {
    let parts = &book.syllables;
    let pick = |list: &[String], rng: &mut _| list.choose(rng).cloned().unwrap_or_default();
    let mut word = String::new();
    for i in 0..syllables {
        word += &pick(&parts.onsets, rng);
        word += &pick(&parts.vowels, rng);
        if i + 1 == syllables {
            word += &pick(&parts.codas, rng);
        }
    }
    let mut letters = word.chars();
    match letters.next() {
        Some(first) => first.to_uppercase().chain(letters).collect(),
        None => word,
    }
}
