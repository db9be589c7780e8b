//! What `openledger-worker serve` says while it loads its base. One file of the base is a named pipe, so
//! that loading waits for as long as the test wants, as it would for a slow disk.

mod common;

use common::*;
use serde_json::Value;
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
