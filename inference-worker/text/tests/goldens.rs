//! Tokenizers and chat templates against what transformers makes of the same files.

use std::path::PathBuf;

use openledger_text::{ChatTemplate, Conversation, Message, TextModel};
use serde::Deserialize;

#[derive(Deserialize)]
struct Expected {
    texts: Vec<TextCase>,
    chats: Vec<ChatCase>,
}

#[derive(Deserialize)]
struct TextCase {
    text: String,
    ids: Vec<u32>,
    ids_special: Vec<u32>,
    decoded: String,
}

#[derive(Deserialize)]
struct ChatCase {
    messages: Vec<Message>,
    add_generation_prompt: bool,
    text: Option<String>,
    ids: Option<Vec<u32>>,
}

fn goldens() -> Vec<(PathBuf, Expected)> {
    ["byte-level", "sentence-pieces"]
        .into_iter()
        .map(|name| {
            let dir =
                PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").expect("cargo test sets it"))
                    .join("goldens")
                    .join(name);
            let text = std::fs::read_to_string(dir.join("expected.json")).unwrap();
            (dir, serde_json::from_str(&text).unwrap())
        })
        .collect()
}

#[test]
fn texts_encode_and_decode_as_in_transformers() {
    for (dir, expected) in goldens() {
        let model = TextModel::from_dir(&dir).unwrap();
        for case in expected.texts {
            assert_eq!(
                model.tokenizer().encode(&case.text, false).unwrap(),
                case.ids,
                "{}",
                case.text
            );
            assert_eq!(
                model.count_text(&case.text).unwrap(),
                case.ids_special,
                "{}",
                case.text
            );
            assert_eq!(
                model.tokenizer().decode(&case.ids_special).unwrap(),
                case.decoded
            );
        }
    }
}

#[test]
fn conversations_render_as_in_transformers() {
    for (dir, expected) in goldens() {
        let model = TextModel::from_dir(&dir).unwrap();
        let template = ChatTemplate::from_dir(&dir).unwrap().unwrap();
        let mut refused = 0;
        for case in expected.chats {
            let rendered = template.render(&Conversation {
                add_generation_prompt: case.add_generation_prompt,
                ..Conversation::new(&case.messages)
            });
            match case.text {
                Some(text) => assert_eq!(rendered.unwrap(), text),
                None => {
                    refused += 1;
                    assert!(rendered.unwrap_err().to_string().contains("role"));
                    assert!(model.count_prompt(&case.messages).is_err());
                }
            }
            if let (true, Some(ids)) = (case.add_generation_prompt, case.ids) {
                assert_eq!(model.count_prompt(&case.messages).unwrap(), ids);
            }
        }
        assert!(refused > 0);
    }
}

#[derive(Deserialize)]
struct FamilyCase {
    template: String,
    messages: Vec<serde_json::Value>,
    tools: Vec<serde_json::Value>,
    variables: serde_json::Map<String, serde_json::Value>,
    add_generation_prompt: bool,
    text: Option<String>,
}

#[test]
fn templates_of_all_families_render_tools_and_calls_as_in_transformers() {
    let dir = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").expect("cargo test sets it"))
        .join("goldens/families");
    let text = std::fs::read_to_string(dir.join("expected.json")).unwrap();
    let cases: Vec<FamilyCase> = serde_json::from_str(&text).unwrap();
    for case in &cases {
        let source = std::fs::read_to_string(dir.join(&case.template)).unwrap();
        let (bos, eos) = (Some("<s>".into()), Some("</s>".into()));
        let template = ChatTemplate::new(source, bos, eos).unwrap();
        let rendered = template.render(&Conversation {
            messages: &case.messages,
            tools: &case.tools,
            variables: Some(&case.variables),
            add_generation_prompt: case.add_generation_prompt,
        });
        match &case.text {
            Some(text) => assert_eq!(&rendered.unwrap(), text, "{}", case.template),
            None => assert!(rendered.unwrap_err().to_string().contains("role")),
        }
    }
    assert!(cases.len() >= 96 && cases.iter().filter(|c| c.text.is_none()).count() >= 8);
}

#[test]
fn the_bytes_of_tokens_joined_are_the_text() {
    for (dir, expected) in goldens() {
        let model = TextModel::from_dir(&dir).unwrap();
        for case in expected.texts {
            let bytes: Vec<u8> = case
                .ids
                .iter()
                .flat_map(|id| model.tokenizer().bytes_of(*id))
                .collect();
            let text = String::from_utf8(bytes).unwrap();
            // What SentencePiece puts before a text is a space there.
            let text = match dir.ends_with("byte-level") {
                true => text,
                false => text.strip_prefix(' ').unwrap_or(&text).to_owned(),
            };
            assert_eq!(text, case.text);
        }
    }
}

#[test]
fn a_stream_joins_to_the_whole_and_never_splits_a_character() {
    for (dir, expected) in goldens() {
        let model = TextModel::from_dir(&dir).unwrap();
        for case in expected.texts {
            let mut stream = model.stream();
            let mut joined = String::new();
            for id in &case.ids_special {
                let piece = stream.push(*id).unwrap();
                assert!(!piece.contains('\u{FFFD}'), "{piece:?} of {:?}", case.text);
                joined += &piece;
            }
            joined += &stream.finish().unwrap();
            assert_eq!(joined, case.decoded);
        }
    }
}

#[test]
fn a_stream_cut_within_a_character_ends_with_the_replacement() {
    let (dir, _) = goldens().remove(0);
    let model = TextModel::from_dir(&dir).unwrap();
    let mut ids = model.tokenizer().encode("ok \u{10348}", false).unwrap();
    ids.pop();
    let mut stream = model.stream();
    let mut joined: String = ids.iter().map(|id| stream.push(*id).unwrap()).collect();
    assert_eq!(joined, "ok ");
    joined += &stream.finish().unwrap();
    assert_eq!(joined, model.tokenizer().decode(&ids).unwrap());
    assert!(joined.ends_with('\u{FFFD}'));
}

#[test]
fn bytes_that_never_become_a_character_do_not_hold_the_stream() {
    let (dir, _) = goldens().remove(0);
    let model = TextModel::from_dir(&dir).unwrap();
    // A lone continuation byte, again and again: "Ģ" is how byte-level vocabularies write 0x80.
    let byte = model.tokenizer().token_to_id("Ģ").unwrap();
    let mut stream = model.stream();
    let ids = [byte; 40];
    let pieces: Vec<String> = ids.iter().map(|id| stream.push(*id).unwrap()).collect();
    assert!(pieces.iter().filter(|piece| !piece.is_empty()).count() >= 5);
    let joined = pieces.concat() + &stream.finish().unwrap();
    assert_eq!(joined, model.tokenizer().decode(&ids).unwrap());
}
