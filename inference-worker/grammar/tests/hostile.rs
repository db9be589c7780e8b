//! Forms that are made to hurt.

mod common;

use common::*;
use openledger_engine::{TokenConstraint, TokenMask};
use openledger_grammar::{Form, GrammarError, Grammars, MAX_DEPTH};
use proptest::prelude::*;
use serde_json::{json, Value};

fn grammars() -> Grammars {
    let tokenizer = byte_level();
    Grammars::new(&tokenizer, tokenizer.vocab_size()).unwrap()
}

fn refused(grammars: &Grammars, schema: Value) -> GrammarError {
    let compiled = grammars.compile(&Form::JsonSchema(schema), &[END]);
    compiled.err().expect("it is refused")
}

fn nested(depth: usize) -> Value {
    (0..depth).fold(
        json!({ "type": "string" }),
        |inner, _| json!({ "type": "array", "items": inner }),
    )
}

#[test]
fn a_schema_beyond_the_bounds_should_be_refused_by_name() {
    let grammars = grammars();
    let deep = refused(&grammars, nested(2_000));
    let text = format!(
        "the depth of the schema is too large: {}, at most 32",
        MAX_DEPTH + 1
    );
    assert_eq!(deep.to_string(), text);
    let wide: Value = (0..6_000).map(|i| json!(i)).collect();
    let wide = refused(&grammars, json!({ "enum": wide }));
    assert!(wide.to_string().contains("number of values"), "{wide}");
    let long = refused(&grammars, json!({ "const": "x".repeat(70_000) }));
    assert!(matches!(
        long,
        GrammarError::TooLarge { what: "schema", .. }
    ));
    let outside = refused(
        &grammars,
        json!({ "$ref": "https://example.com/schema.json" }),
    );
    assert!(matches!(outside, GrammarError::Reference(_)));
    for count in [json!(1e300), json!(4_000_000_000u64)] {
        let many = refused(&grammars, json!({ "type": "string", "maxLength": count }));
        assert!(matches!(many, GrammarError::TooLarge { .. }), "{many}");
    }
    let pattern = refused(
        &grammars,
        json!({ "type": "string", "pattern": "a".repeat(3_000) }),
    );
    assert!(matches!(
        pattern,
        GrammarError::TooLarge {
            what: "pattern",
            ..
        }
    ));
    let regex = grammars.compile(&Form::Regex("a".repeat(3_000)), &[]);
    assert!(regex.is_err());
}

/// Compiles, and goes through an answer by taking the first token that may follow each time.
fn walk(grammars: &Grammars, form: &Form) -> Result<(), String> {
    let mut constraint = grammars.compile(form, &[END]).map_err(|e| e.to_string())?;
    let mut mask = TokenMask::new(byte_level().vocab_size());
    for _ in 0..40 {
        if constraint.is_finished() {
            break;
        }
        mask.clear();
        constraint.mask(&mut mask).map_err(|e| e.to_string())?;
        let Some(token) = (1..mask.vocabulary() as u32).find(|t| mask.allows(*t)) else {
            break;
        };
        constraint.accept(token).map_err(|e| e.to_string())?;
    }
    Ok(())
}

#[test]
fn a_schema_that_multiplies_should_end_in_an_error_or_an_answer_within_bounds() {
    let grammars = grammars();
    let choice = |i: usize| {
        let one =
            |n: usize| json!({ "properties": { format!("p{i}_{n}"): { "type": "integer" } } });
        json!({ "anyOf": [one(0), one(1), one(2)] })
    };
    let multiplied: Vec<Value> = (0..40).map(choice).collect();
    let halves = |n: usize| -> Value {
        let of = |i: usize| json!({ "allOf": [{ "$ref": format!("#/$defs/d{}", i + 1) }, { "$ref": format!("#/$defs/d{}", i + 1) }] });
        let mut definitions: serde_json::Map<String, Value> =
            (0..n).map(|i| (format!("d{i}"), of(i))).collect();
        definitions.insert(format!("d{n}"), json!({ "type": "string" }));
        json!({ "$ref": "#/$defs/d0", "$defs": definitions })
    };
    let hostile = [
        json!({ "type": "object", "allOf": multiplied }),
        halves(40),
        json!({ "$ref": "#" }),
        json!({ "allOf": [{ "$ref": "#" }] }),
        json!({ "type": "array", "items": { "$ref": "#" }, "minItems": 10_000 }),
        json!({ "type": "string", "pattern": "^((a{1,100}){1,100}){1,100}$" }),
        json!({ "type": "string", "pattern": "(x+x+)+y", "maxLength": 10_000 }),
        json!({ "type": "string", "minLength": 9_999, "maxLength": 10_000 }),
        json!({ "type": "object", "minProperties": 10_000 }),
        json!({ "type": "string", "pattern": "[" }),
        json!({ "type": "string", "format": "no-such-format" }),
        json!({ "type": "number", "multipleOf": 1e-300 }),
        json!({ "type": "integer", "minimum": -1e308, "maximum": 1e308, "multipleOf": 7 }),
        json!({ "not": {} }),
        json!(false),
        json!({ "type": 5 }),
        json!([]),
        json!(null),
        json!({ "x-guidance": { "whitespace_pattern": "(a*)*" }, "type": "object" }),
    ];
    for schema in hostile {
        let shown: String = schema.to_string().chars().take(80).collect();
        let outcome = walk(&grammars, &Form::JsonSchema(schema));
        println!("{shown}: {outcome:?}");
        if let Err(error) = outcome {
            assert!(!error.is_empty() && error.len() < 2_000, "{error}");
        }
    }
    for pattern in [
        "((a{1,99}){1,99}){1,99}",
        "(.*)*(.*)*x",
        "(?=a)b",
        "[",
        "\\1",
        "a{5,2}",
        "/*",
        "(?i)ß",
    ] {
        let outcome = walk(&grammars, &Form::Regex(pattern.to_owned()));
        println!("{pattern}: {outcome:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn any_schema_should_compile_and_be_walked_or_be_refused(
        keys in prop::collection::vec((0usize..14, 0usize..14, any::<u16>()), 1..8),
    ) {
        let values = [
            json!("string"), json!("object"), json!(3), json!(-1), json!(true), json!(["a", 1, null]),
            json!({ "type": "integer" }), json!("^a+b?$"), json!({ "a": { "type": "string" } }),
            json!([{ "type": "null" }, { "type": "boolean" }]), json!(1.5e9), json!("#"),
            json!("date-time"), json!({}),
        ];
        let names = [
            "type", "properties", "items", "anyOf", "allOf", "oneOf", "pattern", "format", "minLength",
            "maxItems", "required", "enum", "const", "$ref",
        ];
        let schema: Value = keys.iter().fold(json!({}), |inner, (key, value, nest)| {
            let mut schema = json!({});
            schema[names[*key]] = values[*value].clone();
            match nest % 4 {
                0 => schema["items"] = inner,
                1 => schema["properties"] = json!({ "k": inner }),
                2 => schema["anyOf"] = json!([inner, { "type": "string" }]),
                _ => {}
            }
            schema
        });
        // What it says is in its log if it fails; that it comes back is what is asked here.
        let grammars = GRAMMARS.with(Clone::clone);
        let _ = walk(&grammars, &Form::JsonSchema(schema));
    }
}

thread_local! {
    static GRAMMARS: Grammars = grammars();
}
