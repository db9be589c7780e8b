//! Completions over HTTP, by a real engine.

mod common;

use candle_core::{Device, Tensor};
use common::*;
use openledger_engine::EngineOptions;
use openledger_model::forward;
use openledger_serving::Options;
use serde_json::{json, Value};
use std::collections::BTreeMap;

const CHAT: &str = "/v1/chat/completions";
const TEXT: &str = "/v1/completions";

/// The texts, finish reasons and log-probabilities of a stream's answers, put together.
fn joined(events: &[Value]) -> BTreeMap<u64, (String, String, Vec<Value>)> {
    let mut answers: BTreeMap<u64, (String, String, Vec<Value>)> = BTreeMap::new();
    for choice in events.iter().flat_map(|e| e["choices"].as_array().unwrap()) {
        let answer = answers
            .entry(choice["index"].as_u64().unwrap())
            .or_default();
        let text = choice.pointer("/delta/content").unwrap_or(&choice["text"]);
        answer.0.push_str(text.as_str().unwrap_or_default());
        if let Some(reason) = choice["finish_reason"].as_str() {
            assert_eq!(answer.1, "", "one end only");
            answer.1 = reason.to_owned();
        }
        for list in ["/logprobs/content", "/logprobs/token_logprobs"] {
            let list = choice.pointer(list).and_then(Value::as_array);
            answer.2.extend(list.into_iter().flatten().cloned());
        }
    }
    answers
}

#[tokio::test]
async fn a_stream_should_be_the_whole_answer_in_pieces() {
    let scene = Scene::new().await;
    for (path, mut body) in [(CHAT, chat("Who is paid?")), (TEXT, prompt("The harbour"))] {
        body["n"] = json!(3);
        body["logprobs"] = if path == CHAT { json!(true) } else { json!(2) };
        let whole = scene.ok(path, &body).await;
        body["stream_options"] = json!({"include_usage": true});
        let mut events = scene.events(path, &body).await;
        let last = events.pop().unwrap();
        assert_eq!(last["usage"], whole["usage"]);
        assert_eq!(last["choices"], json!([]));
        let pieces = joined(&events);
        let choices = whole["choices"].as_array().unwrap();
        assert_eq!((choices.len(), pieces.len()), (3, 3));
        for choice in choices {
            let (text, reason, scores) = &pieces[&choice["index"].as_u64().unwrap()];
            let content = choice
                .pointer("/message/content")
                .unwrap_or(&choice["text"]);
            assert_eq!(content, text);
            assert_eq!(choice["finish_reason"], json!(reason));
            let all = choice
                .pointer("/logprobs/content")
                .or(choice.pointer("/logprobs/token_logprobs"));
            assert_eq!(all.unwrap().as_array().unwrap(), scores);
            assert!(!scores.is_empty());
        }
        // Several answers are several, and the first is that of one alone.
        assert_ne!(choices[0], choices[1]);
        body["n"] = json!(1);
        let one = scene.ok(path, &body).await;
        assert_eq!(one["choices"][0], choices[0]);
        let tokens = whole["usage"]["completion_tokens"].as_u64().unwrap();
        assert!(tokens > one["usage"]["completion_tokens"].as_u64().unwrap());
    }
}

#[tokio::test]
async fn echo_with_logprobs_should_give_the_perplexity_of_the_library() {
    let scene = Scene::new().await;
    let written = "Who founded the harbour of Maren? – naïve café 言葉";
    let body =
        json!({"model": BASE, "prompt": written, "max_tokens": 0, "echo": true, "logprobs": 1});
    let answer = scene.ok(TEXT, &body).await;
    let choice = &answer["choices"][0];
    assert_eq!(choice["text"], written);
    let scores = choice["logprobs"]["token_logprobs"].as_array().unwrap();
    assert_eq!(scores[0], Value::Null);
    let ids = text(None).count_text(written).unwrap();
    assert_eq!(scores.len(), ids.len());
    assert_eq!(answer["usage"]["prompt_tokens"], ids.len());
    assert_eq!(answer["usage"]["completion_tokens"], 0);
    let through_api: f64 = scores[1..].iter().map(|s| s.as_f64().unwrap()).sum();
    // The library's own reading of the same weights.
    let config = config();
    let input = Tensor::from_vec(ids.clone(), (1, ids.len()), &Device::Cpu).unwrap();
    let logits = forward(&config, &weights(&config), None, &input).unwrap();
    let logits = logits.squeeze(0).unwrap().to_vec2::<f32>().unwrap();
    // Who asks whether a token was the likeliest finds out, also of a part of a character.
    let top = choice["logprobs"]["top_logprobs"].as_array().unwrap();
    for at in 1..ids.len() {
        let row = &logits[at - 1];
        let is_likeliest = row.iter().all(|other| *other <= row[ids[at] as usize]);
        let shown = top[at].as_object().unwrap().values();
        let best = shown.map(|s| s.as_f64().unwrap()).fold(f64::MIN, f64::max);
        assert_eq!(scores[at].as_f64().unwrap() >= best, is_likeliest, "{at}");
    }
    let direct: f64 = (1..ids.len())
        .map(|at| {
            let row: Vec<f64> = logits[at - 1].iter().map(|v| f64::from(*v)).collect();
            let most = row.iter().copied().fold(f64::MIN, f64::max);
            let sum: f64 = row.iter().map(|v| (v - most).exp()).sum();
            row[ids[at] as usize] - most - sum.ln()
        })
        .sum();
    let count = (ids.len() - 1) as f64;
    let (api, library) = ((-through_api / count).exp(), (-direct / count).exp());
    assert!((api / library - 1.0).abs() < 1e-4, "{api} is not {library}");
    // An adapter reads the prompt in another way.
    let mut red = body.clone();
    red["model"] = json!("red");
    let red = scene.ok(TEXT, &red).await;
    assert_ne!(red["choices"][0]["logprobs"], choice["logprobs"]);
    // Token ids as a prompt are the same prompt.
    let mut by_ids = body.clone();
    by_ids["prompt"] = json!(ids);
    let by_ids = scene.ok(TEXT, &by_ids).await;
    assert_eq!(by_ids["choices"][0]["logprobs"], choice["logprobs"]);
}

#[tokio::test]
async fn offsets_should_point_into_the_text() {
    let scene = Scene::new().await;
    let mut body = prompt("Who founded the harbour – of Maren? Prices are written in planck.");
    body["echo"] = json!(true);
    body["logprobs"] = json!(3);
    let answer = scene.ok(TEXT, &body).await;
    let choice = &answer["choices"][0];
    let letters: Vec<char> = choice["text"].as_str().unwrap().chars().collect();
    let logprobs = &choice["logprobs"];
    let tokens = logprobs["tokens"].as_array().unwrap();
    let offsets = logprobs["text_offset"].as_array().unwrap();
    let mut found = 0;
    for (token, offset) in tokens.iter().zip(offsets) {
        let token = token.as_str().unwrap();
        // The beginning has no text, and parts of characters are none.
        if token.starts_with("<|") || token.starts_with("bytes:") {
            continue;
        }
        let at = offset.as_u64().unwrap() as usize;
        let text: String = letters
            .iter()
            .skip(at)
            .take(token.chars().count())
            .collect();
        if !text.contains('\u{FFFD}') {
            assert_eq!(text, token);
            found += 1;
        }
    }
    assert!(found > 8);
    let top = logprobs["top_logprobs"][3].as_object().unwrap();
    assert!((3..=4).contains(&top.len()));
}

#[tokio::test]
async fn several_prompts_should_be_answered_in_order() {
    let scene = Scene::new().await;
    let mut body = prompt("");
    body["temperature"] = json!(0);
    body["prompt"] = json!(["The harbour", "Prices are"]);
    let both = scene.ok(TEXT, &body).await;
    for (at, text) in ["The harbour", "Prices are"].into_iter().enumerate() {
        body["prompt"] = json!(text);
        let one = scene.ok(TEXT, &body).await;
        assert_eq!(one["choices"][0]["text"], both["choices"][at]["text"]);
        assert_eq!(both["choices"][at]["index"], at);
    }
}

#[tokio::test]
async fn a_stop_string_should_end_the_answer_and_not_be_in_it() {
    let scene = Scene::new().await;
    let mut body = prompt("The harbour");
    body["max_tokens"] = json!(40);
    body["ignore_eos"] = json!(true);
    let free = scene.ok(TEXT, &body).await;
    let text = free["choices"][0]["text"].as_str().unwrap().to_owned();
    let letters: Vec<char> = text.chars().collect();
    let stop: String = letters[letters.len() / 2..letters.len() / 2 + 3]
        .iter()
        .collect();
    let before = &text[..text.find(&stop).unwrap()];
    body["stop"] = json!(["never-there", stop]);
    let stopped = scene.ok(TEXT, &body).await;
    assert_eq!(stopped["choices"][0]["text"], before);
    assert_eq!(stopped["choices"][0]["finish_reason"], "stop");
    let spent = |answer: &Value| answer["usage"]["completion_tokens"].as_u64().unwrap();
    assert!(spent(&stopped) < spent(&free));
    let (streamed, reason, _) = joined(&scene.events(TEXT, &body).await).remove(&0).unwrap();
    assert_eq!((streamed.as_str(), reason.as_str()), (before, "stop"));
}

#[tokio::test]
async fn answers_should_have_the_shape_that_is_asked_for() {
    let scene = Scene::new().await;
    let schema = json!({
        "type": "object",
        "properties": {
            "sky": {"enum": ["grey", "blue"]},
            "days": {"type": "integer", "minimum": 1, "maximum": 7},
            "windy": {"type": "boolean"},
        },
        "required": ["sky", "days", "windy"],
        "additionalProperties": false,
    });
    let mut body = chat("The weather, please.");
    body["max_tokens"] = json!(200);
    body["response_format"] =
        json!({"type": "json_schema", "json_schema": {"name": "weather", "schema": schema}});
    for seed in 0..4 {
        body["seed"] = json!(seed);
        let answer = scene.ok(CHAT, &body).await;
        let choice = &answer["choices"][0];
        let text = choice["message"]["content"].as_str().unwrap();
        let value: Value = serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"));
        assert!(["grey", "blue"].contains(&value["sky"].as_str().unwrap()));
        assert!((1..=7).contains(&value["days"].as_i64().unwrap()));
        assert!(value["windy"].is_boolean());
        assert_eq!(choice["finish_reason"], "stop");
    }
    let mut regex = prompt("Call me: ");
    regex["guided_regex"] = json!("[0-9]{3}-[0-9]{4}");
    let answer = scene.ok(TEXT, &regex).await;
    let text = answer["choices"][0]["text"].as_str().unwrap();
    assert!(text.len() == 8 && text.as_bytes()[3] == b'-', "{text}");
    let wrong = json!({"type": "json_schema", "json_schema": {"schema": {"type": "cloud"}}});
    body["response_format"] = wrong;
    let (status, error) = scene.post(CHAT, &body).await;
    assert_eq!(
        (status, &error["error"]["param"]),
        (400, &json!("response_format"))
    );
    let mut guided = prompt("Weather: ");
    guided["guided_json"] = json!({"type": "cloud"});
    let (status, error) = scene.post(TEXT, &guided).await;
    let param = &error["error"]["param"];
    assert_eq!((status, param), (400, &json!("guided_json")));
    regex["guided_regex"] = json!("(");
    assert_eq!(scene.post(TEXT, &regex).await.0, 400);
}

fn tools() -> Value {
    json!([
        {"type": "function", "function": {"name": "weather", "parameters": {
            "type": "object", "properties": {"place": {"enum": ["Bern", "Oslo"]}},
            "required": ["place"], "additionalProperties": false}}},
        {"type": "function", "function": {"name": "time", "parameters": {
            "type": "object", "properties": {}, "additionalProperties": false}}},
    ])
}

#[tokio::test]
async fn a_forced_call_should_be_valid_even_of_a_model_that_knows_nothing() {
    for family in [
        Some("qwen2.5.jinja"),
        Some("llama3.jinja"),
        Some("mistral.jinja"),
    ] {
        let scene = Scene::with(family, EngineOptions::default(), Options::default()).await;
        let mut body = chat("How is the weather?");
        body["max_tokens"] = json!(200);
        body["tools"] = tools();
        body["tool_choice"] = json!({"type": "function", "function": {"name": "weather"}});
        let answer = scene.ok(CHAT, &body).await;
        let choice = &answer["choices"][0];
        assert_eq!(choice["finish_reason"], "tool_calls", "{choice}");
        assert_eq!(choice["message"]["content"], Value::Null);
        let calls = choice["message"]["tool_calls"].as_array().unwrap();
        assert_eq!(calls.len(), 1);
        assert_eq!(calls[0]["function"]["name"], "weather");
        let arguments = calls[0]["function"]["arguments"].as_str().unwrap();
        let arguments: Value = serde_json::from_str(arguments).unwrap();
        assert!(["Bern", "Oslo"].contains(&arguments["place"].as_str().unwrap()));
        // The same as a stream.
        let events = scene.events(CHAT, &body).await;
        let call = events
            .iter()
            .find_map(|event| event.pointer("/choices/0/delta/tool_calls/0"))
            .unwrap();
        assert_eq!(call["function"], calls[0]["function"]);
        assert_eq!(joined(&events)[&0].1, "tool_calls");
        body["tool_choice"] = json!("required");
        let answer = scene.ok(CHAT, &body).await;
        assert_eq!(answer["choices"][0]["finish_reason"], "tool_calls");
        // And the turns after it are understood.
        body["tool_choice"] = json!("none");
        let mut turn = choice["message"].clone();
        turn.as_object_mut().unwrap().remove("refusal");
        let id = calls[0]["id"].clone();
        body["messages"].as_array_mut().unwrap().extend([
            turn,
            json!({"role": "tool", "tool_call_id": id, "content": "grey"}),
        ]);
        scene.ok(CHAT, &body).await;
    }
}

#[tokio::test]
async fn a_call_that_a_mistral_model_writes_should_be_one() {
    let family = Some("mistral.jinja");
    let scene = Scene::with(family, EngineOptions::default(), Options::default()).await;
    let mut body = chat("How is the weather?");
    body["max_tokens"] = json!(200);
    body["tools"] = tools();
    // The model is random: this makes it write what a trained one would.
    for (written, text) in [
        (
            r#"[TOOL_CALLS] [{"name": "weather", "arguments": {"place": "Bern"}}]"#,
            "",
        ),
        (
            r#"Let me see.[TOOL_CALLS]weather[ARGS]{"place": "Bern"}"#,
            "Let me see.",
        ),
    ] {
        let mut pattern = String::new();
        for letter in written.chars() {
            if !letter.is_ascii_alphanumeric() && letter != ' ' {
                pattern.push('\\');
            }
            pattern.push(letter);
        }
        body["guided_regex"] = json!(pattern);
        let answer = scene.ok(CHAT, &body).await;
        let choice = &answer["choices"][0];
        assert_eq!(choice["finish_reason"], "tool_calls", "{choice}");
        assert_eq!(choice["message"]["content"].as_str().unwrap_or(""), text);
        let call = &choice["message"]["tool_calls"][0];
        assert_eq!(
            call["function"],
            json!({"name": "weather", "arguments": r#"{"place":"Bern"}"#})
        );
        assert_eq!(call["id"].as_str().unwrap().len(), 9);
        let events = scene.events(CHAT, &body).await;
        let streamed = events
            .iter()
            .find_map(|event| event.pointer("/choices/0/delta/tool_calls/0"))
            .unwrap();
        assert_eq!(streamed["function"], call["function"]);
        let joined = joined(&events).remove(&0).unwrap();
        assert_eq!((joined.0.as_str(), joined.1.as_str()), (text, "tool_calls"));
    }
}

#[tokio::test]
async fn tools_that_a_model_was_not_told_of_should_be_refused() {
    for (family, code) in [
        (Some("../byte-level/chat_template.jinja"), "no_tool_format"),
        (None, "no_chat_template"),
    ] {
        let scene = Scene::with(family, EngineOptions::default(), Options::default()).await;
        let mut body = chat("Hi");
        body["tools"] = tools();
        let (status, error) = scene.post(CHAT, &body).await;
        assert_eq!((status, &error["error"]["code"]), (422, &json!(code)));
        scene.ok(TEXT, &prompt("Text works.")).await;
    }
}

#[tokio::test]
async fn sampling_fields_should_reach_the_engine() {
    let scene = Scene::new().await;
    let mut body = prompt("The harbour");
    body["ignore_eos"] = json!(true);
    body["max_tokens"] = json!(30);
    let plain = scene.ok(TEXT, &body).await["choices"][0]["text"].clone();
    for (name, value) in [
        ("temperature", json!(0)),
        ("top_k", json!(2)),
        ("top_p", json!(0.2)),
        ("min_p", json!(0.9)),
        ("frequency_penalty", json!(2)),
        ("presence_penalty", json!(2)),
        ("repetition_penalty", json!(3)),
        ("seed", json!(6)),
    ] {
        let mut changed = body.clone();
        changed[name] = value;
        let text = scene.ok(TEXT, &changed).await["choices"][0]["text"].clone();
        assert_ne!(text, plain, "{name}");
    }
    // A bias that leaves one token.
    let id = text(None).tokenizer().token_to_id("a").unwrap();
    body["logit_bias"] = json!({id.to_string(): 100});
    body["max_tokens"] = json!(5);
    assert_eq!(scene.ok(TEXT, &body).await["choices"][0]["text"], "aaaaa");
    body["logit_bias"] = json!({"9999999": 1});
    let (status, error) = scene.post(TEXT, &body).await;
    let param = &error["error"]["param"];
    assert_eq!((status, param), (400, &json!("logit_bias")));
}
