//! An answer of a model that was told of tools, in pieces that are separated by zero bytes.

use openledger_openai::CallSyntax;
use openledger_openai::{CallReader, Completion, Endpoint, ToolCall};
use serde_json::Value;
use std::sync::OnceLock;

const SYNTAXES: [CallSyntax; 5] = [
    CallSyntax::Tagged,
    CallSyntax::Bare,
    CallSyntax::Listed,
    CallSyntax::Named,
    CallSyntax::Unknown,
];

fn request() -> &'static Completion {
    static REQUEST: OnceLock<Completion> = OnceLock::new();
    REQUEST.get_or_init(|| {
        let body = br#"{"model":"m","messages":[{"role":"user","content":"Hi"}],"tools":[
            {"type":"function","function":{"name":"weather"}},
            {"type":"function","function":{"name":"time"}}]}"#;
        Completion::parse(Endpoint::Chat, body).expect("a good request")
    })
}

fn read<'a>(syntax: CallSyntax, pieces: impl Iterator<Item = &'a str>) -> (String, Vec<ToolCall>) {
    let mut reader = CallReader::new(request(), syntax);
    let mut text: String = pieces.map(|piece| reader.push(piece)).collect();
    let (rest, calls) = reader.end(|call| format!("call_{call}"));
    text.push_str(&rest);
    (text, calls)
}

/// Whether there was a call in it. Text and calls are the same however the answer is cut; calls are of
/// tools that there are, with an object; an answer without calls is all text.
pub fn check(data: &[u8]) -> bool {
    let Ok(data) = std::str::from_utf8(data) else {
        return false;
    };
    let whole: String = data.split('\0').collect();
    let mut called = false;
    for syntax in SYNTAXES {
        let (text, calls) = read(syntax, data.split('\0'));
        assert_eq!(
            read(syntax, [whole.as_str()].into_iter()),
            (text.clone(), calls.clone())
        );
        let by_letter = whole.char_indices().map(|(at, letter)| {
            let end = at + letter.len_utf8();
            whole.get(at..end).unwrap_or_default()
        });
        // Each letter searches all that came before.
        if whole.len() < 500 {
            assert_eq!(read(syntax, by_letter), (text.clone(), calls.clone()));
        }
        if calls.is_empty() {
            assert_eq!(text, whole);
        }
        for call in &calls {
            assert!(["weather", "time"].contains(&call.name.as_str()));
            let arguments = serde_json::from_str::<Value>(&call.arguments);
            let is_object = arguments.is_ok_and(|arguments| arguments.is_object());
            assert!(is_object, "{}", call.arguments);
        }
        called |= !calls.is_empty();
    }
    called
}
