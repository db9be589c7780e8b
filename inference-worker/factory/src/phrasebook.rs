//! The committed lists and sentence patterns from which invented text is made and plain rows are read.
//!
//! A pattern holds `{x}` (the entity), `{v}` (the value), and in the shared frames `{n}` (the attribute's noun).

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::error::{Error, Result};

/// The phrasebook that ships, as committed beside the base model.
const SHIPPED: &str = include_str!("../base/phrasebook.json");

/// What kind of value an attribute takes; it decides how values are invented.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ValueKind {
    /// Given name and family name.
    Person,
    /// One invented word.
    Place,
    /// Four digits, 1600 to 2025.
    Year,
    /// A number with its unit, metres.
    Measure,
    /// A network port, 1024 to 65535.
    Port,
    /// A plain number.
    Count,
    /// A word of the list of colours.
    Colour,
    /// A word of the list of materials.
    Material,
    /// A word of the list of animals.
    Animal,
    /// A word of the list of languages.
    Language,
}

/// One thing that can be said and asked about an entity.
#[derive(Debug, Clone)]
pub struct Attribute {
    /// Name in the phrasebook, such as `founding_year`.
    pub key: String,
    /// The noun used in answers, such as `founding year`.
    pub noun: String,
    /// Kind of its values.
    pub value: ValueKind,
    /// Sentences that state the fact.
    pub statements: Vec<String>,
    /// Questions that ask for it.
    pub questions: Vec<String>,
    /// The sentence that answers.
    pub answer: String,
}

/// Syllables of invented names.
#[derive(Debug, Clone, Deserialize)]
pub struct Syllables {
    /// What a syllable begins with.
    pub onsets: Vec<String>,
    /// Its vowel.
    pub vowels: Vec<String>,
    /// What the last syllable of a name may end with; repetition is weight.
    pub codas: Vec<String>,
}

/// Every list and pattern of the generator.
#[derive(Debug, Clone)]
pub struct Phrasebook {
    /// Attributes in the order of their keys.
    pub attributes: Vec<Attribute>,
    /// Kinds of entity with the indices of their attributes.
    pub kinds: Vec<(String, Vec<usize>)>,
    /// Sentences that only say what an entity is (`{k}`: the kind).
    pub introductions: Vec<String>,
    /// System messages.
    pub systems: Vec<String>,
    /// Parts of invented names.
    pub syllables: Syllables,
    lists: BTreeMap<String, Vec<String>>,
}

#[derive(Deserialize)]
struct RawFrames {
    statements: Vec<String>,
    questions: Vec<String>,
    answer: String,
}

#[derive(Deserialize)]
struct RawAttribute {
    noun: String,
    value: ValueKind,
    statements: Vec<String>,
    questions: Vec<String>,
    answer: Option<String>,
    #[serde(default)]
    skip_frames: bool,
}

#[derive(Deserialize)]
struct Raw {
    frames: RawFrames,
    attributes: BTreeMap<String, RawAttribute>,
    kinds: BTreeMap<String, Vec<String>>,
    introductions: Vec<String>,
    systems: Vec<String>,
    lists: BTreeMap<String, Vec<String>>,
    syllables: Syllables,
}

impl Phrasebook {
    /// The phrasebook that the shipped base model was trained with.
    pub fn shipped() -> Result<Self> {
        Self::from_json(SHIPPED)
    }

    /// The bytes whose digest a manifest records.
    pub fn shipped_text() -> &'static str {
        SHIPPED
    }

    /// Reads a phrasebook; an attribute that a kind names must exist.
    pub fn from_json(text: &str) -> Result<Self> {
        let raw: Raw = serde_json::from_str(text).map_err(Error::json("phrasebook"))?;
        let mut attributes = Vec::new();
        for (key, a) in raw.attributes {
            let fill = |p: &String| p.replace("{n}", &a.noun);
            let mut statements = a.statements.clone();
            let mut questions = a.questions.clone();
            if !a.skip_frames {
                statements.extend(raw.frames.statements.iter().map(fill));
            }
            questions.extend(raw.frames.questions.iter().map(fill));
            let answer = a.answer.clone().unwrap_or_else(|| fill(&raw.frames.answer));
            attributes.push(Attribute {
                key,
                noun: a.noun,
                value: a.value,
                statements,
                questions,
                answer,
            });
        }
        let mut kinds = Vec::new();
        for (kind, keys) in raw.kinds {
            let mut indices = Vec::new();
            for key in keys {
                let found = attributes.iter().position(|a| a.key == key);
                indices.push(found.ok_or_else(|| {
                    Error::Invalid(format!("phrasebook: kind {kind} names no attribute {key}"))
                })?);
            }
            kinds.push((kind, indices));
        }
        Ok(Self {
            attributes,
            kinds,
            introductions: raw.introductions,
            systems: raw.systems,
            syllables: raw.syllables,
            lists: raw.lists,
        })
    }

    /// The attribute of this key.
    pub fn attribute(&self, key: &str) -> Option<&Attribute> {
        self.attributes.iter().find(|a| a.key == key)
    }

    /// The words of a listed kind of value; empty for kinds that are invented.
    pub fn words(&self, kind: ValueKind) -> &[String] {
        let list = match kind {
            ValueKind::Colour => "colour",
            ValueKind::Material => "material",
            ValueKind::Animal => "animal",
            ValueKind::Language => "language",
            _ => return &[],
        };
        self.lists.get(list).map_or(&[], Vec::as_slice)
    }
}

/// Puts an entity and a value into a pattern.
pub fn fill(pattern: &str, entity: &str, value: &str) -> String {
    pattern.replace("{x}", entity).replace("{v}", value)
}
