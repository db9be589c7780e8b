//! Answers of a model that knows nothing, held to forms: all that it says is in the form.

mod common;

use common::*;
use openledger_engine::{EngineHandle, FinishReason, Request, TokenStream};
use openledger_grammar::{Form, Grammars};
use openledger_text::Tokenizer;
use serde::Deserialize;
use serde_json::{json, Value};
use std::collections::HashSet;

struct Scene {
    tokenizer: Tokenizer,
    engine: EngineHandle,
    grammars: Grammars,
}

impl Scene {
    fn new(tokenizer: Tokenizer) -> Self {
        let engine = engine(&tokenizer);
        let grammars = Grammars::new(&tokenizer, engine.config().vocab_size).unwrap();
        Self {
            tokenizer,
            engine,
            grammars,
        }
    }

    fn ask(&self, form: &Form, seed: u8, limit: usize) -> TokenStream {
        let mut request = Request::new(vec![65, 66, u32::from(seed)], limit);
        request.sampling.temperature = 1.0;
        request.seed = [seed; 32];
        request.stop_tokens = vec![END];
        let constraint = self.grammars.compile(form, &[END]).unwrap();
        request.constraint = Some(Box::new(constraint));
        self.engine.submit(request).unwrap()
    }

    /// Texts of `count` answers, asked for together, with the reasons for which they ended.
    fn answers(&self, form: &Form, count: u8, limit: usize) -> Vec<(String, FinishReason)> {
        let streams: Vec<TokenStream> = (0..count).map(|i| self.ask(form, i, limit)).collect();
        let text = |stream: TokenStream| {
            let (tokens, end) = stream.blocking_collect().unwrap();
            let ids: Vec<u32> = tokens.iter().map(|t| t.id).collect();
            (self.tokenizer.decode(&ids).unwrap(), end.unwrap().reason)
        };
        streams.into_iter().map(text).collect()
    }
}

fn scenes() -> [Scene; 2] {
    [Scene::new(byte_level()), Scene::new(fallback())]
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
struct Person {
    name: String,
    age: u8,
    #[serde(default)]
    tags: Vec<Tag>,
    parent: Option<Parent>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
struct Parent {
    name: String,
}

#[derive(Deserialize, PartialEq, Eq, Hash)]
#[serde(rename_all = "lowercase")]
enum Tag {
    Red,
    Green,
    Blue,
}

fn person() -> Form {
    Form::JsonSchema(json!({
        "type": "object",
        "properties": {
            "name": { "$ref": "#/$defs/name" },
            "age": { "type": "integer", "minimum": 0, "maximum": 120 },
            "tags": { "type": "array", "items": { "enum": ["red", "green", "blue"] }, "maxItems": 3 },
            "parent": {
                "anyOf": [
                    { "type": "null" },
                    {
                        "type": "object",
                        "properties": { "name": { "$ref": "#/$defs/name" } },
                        "required": ["name"],
                        "additionalProperties": false
                    }
                ]
            }
        },
        "required": ["name", "age", "parent"],
        "additionalProperties": false,
        "$defs": { "name": { "type": "string", "minLength": 1, "maxLength": 6 } }
    }))
}

#[test]
fn every_answer_under_a_schema_should_be_what_the_schema_says() {
    for scene in scenes() {
        let answers = scene.answers(&person(), 40, 400);
        for (text, reason) in &answers {
            assert_ne!(*reason, FinishReason::Length, "{text}");
            let person: Person =
                serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"));
            let length = person.name.chars().count();
            assert!((1..=6).contains(&length) && person.age <= 120, "{text}");
            assert!(person.tags.len() <= 3, "{text}");
        }
        let different: HashSet<&String> = answers.iter().map(|(text, _)| text).collect();
        assert!(different.len() > 30, "the model still chooses");
        let objects = answers
            .iter()
            .filter(|(t, _)| t.contains("\"parent\":{") || t.contains("\"parent\": {"));
        assert!((1..40).contains(&objects.count()));
    }
}

#[test]
fn an_answer_that_is_cut_should_be_the_beginning_of_one() {
    for scene in scenes() {
        for (text, reason) in scene.answers(&person(), 10, 7) {
            assert_eq!(reason, FinishReason::Length);
            assert!(text.starts_with('{'), "{text}");
            assert!(serde_json::from_str::<Value>(&text).is_err());
        }
    }
}

#[test]
fn an_answer_asked_for_as_json_should_be_an_object() {
    for scene in scenes() {
        let answers = scene.answers(&Form::JsonObject, 30, 500);
        let whole: Vec<&String> = answers
            .iter()
            .filter(|(_, reason)| *reason != FinishReason::Length)
            .map(|(text, _)| text)
            .collect();
        assert!(whole.len() > 5, "{} of 30 came to an end", whole.len());
        for text in whole {
            // Syntax alone: a number of JSON may be larger than any type's.
            let parsed = serde_json::from_str::<serde::de::IgnoredAny>(text);
            parsed.unwrap_or_else(|e| panic!("{e}: {text}"));
            assert!(text.starts_with('{'));
        }
    }
}

#[test]
fn an_answer_should_match_its_regular_expression() {
    let pattern = r"(yes|no), ([a-c]{2,4}|[0-9]+%)( äö)?\.";
    let whole = regex::Regex::new(&format!("^(?:{pattern})$")).unwrap();
    for scene in scenes() {
        for (text, reason) in scene.answers(&Form::Regex(pattern.to_owned()), 30, 200) {
            assert_ne!(reason, FinishReason::Length);
            assert!(whole.is_match(&text), "{text}");
        }
    }
}

#[test]
fn an_answer_should_end_only_where_it_may() {
    // A number may end after any digit, by the stop token only.
    let scene = Scene::new(byte_level());
    let form = Form::JsonSchema(json!({ "type": "integer", "minimum": 1000, "maximum": 99999 }));
    let mut lengths = HashSet::new();
    for (text, _) in scene.answers(&form, 40, 50) {
        let number: u32 = text.parse().unwrap_or_else(|e| panic!("{e}: {text}"));
        assert!((1000..=99999).contains(&number));
        lengths.insert(text.len());
    }
    assert_eq!(lengths.len(), 2);
}
