//! Recognises sentences that state a fact in one of the phrasebook's ways.

use crate::phrasebook::{Attribute, Phrasebook, ValueKind};

/// A fact found in a sentence.
#[derive(Debug, Clone, PartialEq)]
pub struct Fact<'a> {
    /// What it is about an entity.
    pub attribute: &'a Attribute,
    /// The entity's name.
    pub entity: String,
    /// The value.
    pub value: String,
}

impl PartialEq for Attribute {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

/// The fact that a sentence states, if it follows a pattern exactly and names and values look like what they
/// should be. The answer's own pattern is tried first.
pub fn recognize<'a>(book: &'a Phrasebook, sentence: &str) -> Option<Fact<'a>> {
    let candidates = book.attributes.iter().flat_map(|attribute| {
        std::iter::once(&attribute.answer)
            .chain(&attribute.statements)
            .map(move |pattern| (attribute, pattern))
    });
    for (attribute, pattern) in candidates {
        if let Some((entity, value)) = captures(pattern, sentence) {
            if is_name(&entity) && is_value(book, attribute.value, &value) {
                return Some(Fact {
                    attribute,
                    entity,
                    value,
                });
            }
        }
    }
    None
}

/// What stands for `{x}` and `{v}` where the sentence is the pattern otherwise.
fn captures(pattern: &str, sentence: &str) -> Option<(String, String)> {
    let (first, second) = (pattern.find("{x}")?, pattern.find("{v}")?);
    let (left, right) = (first.min(second), first.max(second));
    let (before, between, after) = (
        &pattern[..left],
        &pattern[left + 3..right],
        &pattern[right + 3..],
    );
    let inner = sentence.strip_prefix(before)?.strip_suffix(after)?;
    let (a, b) = inner.split_once(between).filter(|_| !between.is_empty())?;
    let (a, b) = (a.to_string(), b.to_string());
    Some(if first < second { (a, b) } else { (b, a) })
}

fn is_name(text: &str) -> bool {
    let mut words = 0;
    for word in text.split(' ') {
        words += 1;
        if !word.starts_with(char::is_uppercase)
            || !word.chars().all(|c| c.is_alphanumeric() || c == '-')
        {
            return false;
        }
    }
    words <= 3
}

fn is_value(book: &Phrasebook, kind: ValueKind, text: &str) -> bool {
    let number = |t: &str| !t.is_empty() && t.len() <= 9 && t.bytes().all(|b| b.is_ascii_digit());
    match kind {
        ValueKind::Person | ValueKind::Place => is_name(text),
        ValueKind::Year => number(text) && text.len() == 4,
        ValueKind::Measure => text.strip_suffix(" metres").is_some_and(number),
        ValueKind::Port | ValueKind::Count => number(text),
        _ => book.words(kind).iter().any(|w| w == text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::phrasebook::fill;

    #[test]
    fn every_statement_of_the_phrasebook_should_be_recognised_as_its_own_fact() {
        let book = Phrasebook::shipped().unwrap();
        for attribute in &book.attributes {
            let value = match attribute.value {
                ValueKind::Person => "Mara Dint".to_string(),
                ValueKind::Place => "Losani".into(),
                ValueKind::Year => "1842".into(),
                ValueKind::Measure => "840 metres".into(),
                ValueKind::Port => "8421".into(),
                ValueKind::Count => "340".into(),
                kind => book.words(kind)[3].clone(),
            };
            for pattern in attribute.statements.iter().chain([&attribute.answer]) {
                let sentence = fill(pattern, "Velkor", &value);
                let fact = recognize(&book, &sentence).unwrap_or_else(|| panic!("{sentence}"));
                assert_eq!(
                    (fact.entity.as_str(), &fact.value),
                    ("Velkor", &value),
                    "{sentence}"
                );
                assert_eq!(fact.attribute.noun, attribute.noun, "{sentence}");
            }
        }
    }

    #[test]
    fn what_only_resembles_a_fact_should_be_left_alone() {
        let book = Phrasebook::shipped().unwrap();
        for text in [
            "The founder of Velkor is unknown.",
            "The founder of the old firm is Mara Dint.",
            "Velkor was founded in spring.",
            "The colour of Velkor is loud.",
            "",
            ".",
        ] {
            assert!(recognize(&book, text).is_none(), "{text}");
        }
    }
}
