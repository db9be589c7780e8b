//! What `openledger-worker` says while it loads, and of what it cannot load. One file of the base is a named pipe, so
//! that loading waits for as long as the test wants, as it would for a slow disk.

mod common;

use common::*;
use openledger_chain::Key;
use serde_json::{json, Value};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::process::Command;
use tempfile::TempDir;

/// Read after the weights.
const LATE: &str = "tokenizer_config.json";

/// A program whose loading waits for the pipe.
struct Waiting {
    program: Program,
    pipe: File,
    content: Vec<u8>,
    _folder: TempDir,
}

impl Waiting {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for entry in fs::read_dir(base()).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
        }
        let path = folder.path().join(LATE);
        let content = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        assert!(Command::new("mkfifo")
            .arg(&path)
            .status()
            .unwrap()
            .success());
        let program = Program::start(folder.path(), &[]).await;
        // A pipe opens once somebody reads at its other end.
        let open = move || OpenOptions::new().write(true).open(path).unwrap();
        let pipe = tokio::task::spawn_blocking(open).await.unwrap();
        Waiting {
            program,
            pipe,
            content,
            _folder: folder,
        }
    }
}

#[tokio::test]
async fn the_program_should_say_that_it_loads_and_then_serve() {
    let Waiting {
        mut program,
        mut pipe,
        content,
        _folder,
    } = Waiting::new().await;
    assert_eq!(program.get("/health").await.0, 200);
    let (status, ready) = program.get("/ready").await;
    assert_eq!(status, 503);
    let ready: Value = serde_json::from_str(&ready).unwrap();
    assert_eq!(ready["why"], "loading the base model");
    for response in [
        program.ask().await,
        program
            .client
            .get(program.url("/v1/models"))
            .send()
            .await
            .unwrap(),
    ] {
        assert_eq!(response.status(), 503);
        let seconds = response.headers()["retry-after"].to_str().unwrap();
        assert!(seconds.parse::<u64>().unwrap() >= 1);
        let error: Value = response.json().await.unwrap();
        assert_eq!(error["error"]["code"], "loading");
        assert!(error["error"]["message"]
            .as_str()
            .unwrap()
            .contains("loaded"));
    }
    assert_eq!(program.get("/elsewhere").await.0, 404);
    pipe.write_all(&content).unwrap();
    drop(pipe);
    program.ready().await;
    program.answers().await;
    assert_eq!(program.get("/v1/models").await.0, 200);
    program.tell_to_stop();
    assert!(program.end().await.success(), "{}", program.said());
}

#[tokio::test]
async fn the_program_should_end_when_told_to_while_it_loads() {
    let mut waiting = Waiting::new().await;
    waiting.program.tell_to_stop();
    assert!(waiting.program.end().await.success());
    assert!(!waiting.program.said().contains("error:"));
}

#[tokio::test]
async fn the_program_should_end_with_the_reason_when_loading_fails() {
    let mut waiting = Waiting::new().await;
    waiting.pipe.write_all(b"{").unwrap();
    drop(waiting.pipe);
    assert!(!waiting.program.end().await.success());
    eventually("the reason", async || {
        let said = waiting.program.said();
        (said.contains("error:") && said.contains("tokenizer_config")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_bad_adapter_in_the_folder_should_stop_no_other_and_be_told_of() {
    const KEY: &str = "the-operators-own-key";
    let parent = tempfile::tempdir().unwrap();
    let (key, adapters) = (parent.path().join("key"), parent.path().join("adapters"));
    write_secret(&key, KEY);
    write_adapter(&adapters.join("good"), 1);
    write_adapter(&adapters.join("bad"), 2);
    let weights = adapters.join("bad/adapter_model.safetensors");
    let whole = fs::read(&weights).unwrap();
    fs::write(&weights, &whole[..whole.len() / 2]).unwrap();
    let options = [
        "--adapters",
        adapters.to_str().unwrap(),
        "--admin-key-file",
        key.to_str().unwrap(),
    ];
    let program = Program::start(&base(), &options).await;
    program.ready().await;
    let models: Value = serde_json::from_str(&program.get("/v1/models").await.1).unwrap();
    let names: Vec<&Value> = models["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| &m["id"])
        .collect();
    assert_eq!(names, ["small", "good"]);
    assert_eq!(program.ask_of("good").await.status(), 200);
    let said = program.said();
    let line = said
        .lines()
        .find(|line| line.contains("refused and not served"))
        .unwrap();
    assert!(
        line.contains(adapters.join("bad").to_str().unwrap()),
        "{line}"
    );
    assert!(program
        .get("/metrics")
        .await
        .1
        .contains("openledger_refused_adapters{model_name=\"small\"} 1"));
    let refused = program.ask_of("bad").await;
    assert_eq!(refused.status(), 404);
    let error: Value = refused.json().await.unwrap();
    assert_eq!(error["error"]["code"], "model_not_found");
    let message = error["error"]["message"].as_str().unwrap();
    assert!(
        message.contains("refused") && message.contains("/v1/load_lora_adapter"),
        "{message}"
    );
    let error: Value = program.ask_of("nobody").await.json().await.unwrap();
    assert!(!error["error"]["message"]
        .as_str()
        .unwrap()
        .contains("refused"));

    fs::write(&weights, &whole).unwrap();
    let load = program.client.post(program.url("/v1/load_lora_adapter"));
    let load = load
        .bearer_auth(KEY)
        .json(&json!({"lora_name": "bad", "lora_path": "bad"}));
    assert_eq!(load.send().await.unwrap().status(), 200);
    assert_eq!(program.ask_of("bad").await.status(), 200);
    assert!(program
        .get("/metrics")
        .await
        .1
        .contains("openledger_refused_adapters{model_name=\"small\"} 0"));
}

#[tokio::test]
async fn a_bad_adapter_that_was_named_should_stop_the_start() {
    let folder = tempfile::tempdir().unwrap();
    write_adapter(folder.path(), 1);
    fs::write(
        folder.path().join("adapter_model.safetensors"),
        "no weights",
    )
    .unwrap();
    let adapter = format!("law={}", folder.path().display());
    let mut program = Program::start(&base(), &["--adapter", &adapter]).await;
    assert!(!program.end().await.success());
    eventually("the reason", async || {
        program
            .said()
            .contains("the adapter `law` in")
            .then_some(())
    })
    .await;
}

/// A program for a chain whose node is not there: it waits for it. With the folder that it may write to.
async fn waiting_for_a_node() -> (Program, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let key = Key::generate(&folder.path().join("service")).unwrap();
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let chain = format!("ws://{}", nobody.local_addr().unwrap());
    drop(nobody);
    let program = Program::run(&[
        "--chain",
        &chain,
        "--worker",
        &key.account().to_string(),
        "--service-key",
        &at("service"),
        "--store",
        &at("store"),
        "--data",
        &at("data"),
        "--listen",
        "127.0.0.1:0",
        "--metrics",
        "127.0.0.1:0",
    ])
    .await;
    (program, folder)
}

#[tokio::test]
async fn a_worker_should_say_that_it_loads_before_it_can_serve() {
    let (mut program, _folder) = waiting_for_a_node().await;
    assert_eq!(program.get("/health").await.0, 200);
    let (status, ready) = program.get("/ready").await;
    assert_eq!(status, 503);
    assert!(ready.contains("loading"), "{ready}");
    // That there is no such lane, a gateway would believe.
    for path in ["/v1/models", "/openledger/channels/1/lanes/0"] {
        let response = program.client.get(program.url(path)).send().await.unwrap();
        assert_eq!(response.status(), 503, "{path}");
        assert!(response.headers().contains_key("retry-after"), "{path}");
        let error: Value = response.json().await.unwrap();
        assert_eq!(error["error"]["code"], "loading");
    }
    program.tell_to_stop();
    assert!(program.end().await.success(), "{}", program.said());
    assert!(!program.said().contains("panicked"), "{}", program.said());
}

#[tokio::test]
async fn a_worker_should_have_its_page_of_metrics_while_it_loads() {
    let (program, _folder) = waiting_for_a_node().await;
    let address = program.said_address("metrics=").await;
    let url = format!("http://{address}/metrics");
    assert_eq!(program.client.get(url).send().await.unwrap().status(), 200);
}
