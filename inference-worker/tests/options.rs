//! What the options of `openledger-worker serve` do, by what its process answers.

mod common;

use common::*;
use reqwest::StatusCode;
use serde_json::{json, Value};
use std::path::Path;

const KEYS: [&str; 2] = ["the-first-of-two-keys", "the-other-of-two-keys"];

/// The samples of a metric whose labels hold all of these.
fn samples(page: &str, name: &str, labels: &[&str]) -> Vec<f64> {
    page.lines()
        .filter(|line| line.starts_with(&format!("{name}{{")))
        .filter(|line| labels.iter().all(|label| line.contains(label)))
        .map(|line| line.rsplit(' ').next().unwrap().parse().unwrap())
        .collect()
}

async fn ask(program: &Program, key: &str, body: Value) -> (StatusCode, Value) {
    let request = program.client.post(program.url("/v1/completions"));
    let answer = request.bearer_auth(key).json(&body).send().await.unwrap();
    (answer.status(), answer.json().await.unwrap())
}

/// Twelve adapters where neither device nor host memory has room for all.
async fn crowded(folder: &Path, options: &[&str]) -> Program {
    let (adapters, keys) = (folder.join("adapters"), folder.join("keys"));
    for n in 0..12 {
        write_adapter(&adapters.join(format!("a{n}")), n);
    }
    write_secret(&keys, &KEYS.join("\n"));
    let mut all = vec!["--adapters", adapters.to_str().unwrap()];
    all.extend(["--api-key-file", keys.to_str().unwrap()]);
    all.extend(["--device-memory", "3", "--host-memory", "2"]);
    all.extend(options);
    let program = Program::start(&base(), &all).await;
    program.ready().await;
    program
}

#[tokio::test]
async fn options_should_bound_what_a_client_may_ask_and_the_memory_that_answers_take() {
    let folder = tempfile::tempdir().unwrap();
    let options = [
        "--pin",
        "a0",
        "--max-context",
        "64",
        "--key-requests",
        "2",
        "--max-requests",
        "8",
        "--threads",
        "1",
        "--queue-timeout",
        "60",
        "--grace",
        "5",
    ];
    let mut program = crowded(folder.path(), &options).await;
    let body = |model: &str| json!({"model": model, "prompt": "The", "max_tokens": 3, "ignore_eos": true, "temperature": 0});

    // Keys.
    assert_eq!(program.ask().await.status(), 401);
    let (status, _) = ask(&program, "another-key-altogether", body("a1")).await;
    assert_eq!(status, 401);
    // Bounds.
    let mut many = body("a1");
    many["n"] = json!(3);
    let (status, refusal) = ask(&program, KEYS[0], many).await;
    assert_eq!(status, 400, "{refusal}");
    let mut long = body("a1");
    long["prompt"] = json!("word ".repeat(200));
    let (status, refusal) = ask(&program, KEYS[0], long).await;
    assert_eq!(status, 400);
    assert_eq!(refusal["error"]["code"], "context_length_exceeded");

    // More adapters than fit, each for both keys.
    let mut first = Vec::new();
    for (round, key) in KEYS.into_iter().enumerate() {
        for n in 0..12 {
            let (status, answer) = ask(&program, key, body(&format!("a{n}"))).await;
            assert_eq!(status, 200, "{answer}");
            let text = answer["choices"][0]["text"].clone();
            if round == 0 {
                first.push(text);
            } else {
                assert_eq!(text, first[n], "a{n}");
            }
        }
    }
    let page = program.get("/metrics").await.1;
    let sum = |name: &str, labels: &[&str]| samples(&page, name, labels).iter().sum::<f64>();
    for tier in ["device", "host"] {
        let tier = format!("tier=\"{tier}\"");
        assert!(
            sum("openledger_adapter_evictions_total", &[&tier]) > 0.0,
            "{page}"
        );
        assert!(sum("openledger_adapter_bytes", &[&tier]) > 0.0, "{page}");
        let resident = sum("openledger_adapters_resident", &[&tier]);
        assert!((1.0..12.0).contains(&resident), "{page}");
    }
    for tier in ["disk", "host"] {
        let tier = format!("tier=\"{tier}\"");
        let loads = sum("openledger_adapter_load_seconds_count", &[&tier]);
        assert!(loads >= 12.0, "{page}");
    }
    // The pinned one stayed: it is not copied again.
    let copies = |page: &str| {
        samples(
            page,
            "openledger_adapter_load_seconds_count",
            &["tier=\"host\""],
        )[0]
    };
    assert_eq!(ask(&program, KEYS[0], body("a0")).await.0, 200);
    let again = program.get("/metrics").await.1;
    assert_eq!(copies(&again), copies(&page), "{again}");
    assert_eq!(ask(&program, KEYS[0], body("a1")).await.0, 200);
    let again = program.get("/metrics").await.1;
    assert_eq!(copies(&again), copies(&page) + 1.0, "{again}");

    program.tell_to_stop();
    assert!(program.end().await.success());
}
