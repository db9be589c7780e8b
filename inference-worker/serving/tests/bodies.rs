//! Requests as large as they may be. In a program of their own: they take whole cores for a while.

mod common;

use common::*;
use openledger_openai::limits::BODY_BYTES;
use serde_json::json;

const CHAT: &str = "/v1/chat/completions";
const TEXT: &str = "/v1/completions";
const EMBED: &str = "/v1/embeddings";

#[tokio::test]
async fn bodies_almost_too_large_should_be_refused_clearly_and_harm_nobody() {
    let scene = Scene::new().await;
    // As much of it as a body can hold beside the fields around.
    let much =
        |piece: &str| json!(piece.repeat((BODY_BYTES - 256) / json!(piece).to_string().len()));
    let ids = json!(vec![7; (BODY_BYTES - 256) / 2]);
    let texts = [
        ("one word", json!("x".repeat(BODY_BYTES - 256))),
        ("words", much("harbour ")),
        ("spaces", json!(" ".repeat(BODY_BYTES - 256))),
        ("lines", json!("\n".repeat((BODY_BYTES - 256) / 2))),
        ("special marks", much("<|end|>")),
        ("begun marks", json!("<|".repeat((BODY_BYTES - 256) / 2))),
        ("letters of several bytes", much("\u{1f9ea}e\u{301}")),
    ];
    let mut bodies = Vec::new();
    for (what, text) in texts.into_iter().chain([("token ids", ids)]) {
        let mut body = prompt("");
        body["prompt"] = text.clone();
        bodies.push((TEXT, what, body));
        bodies.push((EMBED, what, json!({"model": BASE, "input": text})));
        if text.is_string() {
            let mut body = chat("");
            body["messages"][0]["content"] = text;
            bodies.push((CHAT, what, body));
        }
    }
    for (path, what, body) in bodies {
        assert!(body.to_string().len() <= BODY_BYTES, "{what}");
        let begun = std::time::Instant::now();
        let hi = prompt("Hi");
        let (large, small) = tokio::join!(scene.post(path, &body), scene.post(TEXT, &hi));
        println!("{path}, {what}: {} after {:?}", large.1, begun.elapsed());
        assert_eq!(
            (large.0, &large.1["error"]["code"]),
            (400, &json!("context_length_exceeded")),
            "{path}, {what}: {}",
            large.1
        );
        assert_eq!(small.0, 200, "{path}, {what}: {}", small.1);
    }
    scene.idle().await;
}
