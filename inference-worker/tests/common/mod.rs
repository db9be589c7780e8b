//! `openledger-worker` as a process of its own; `serve` on the shipped small base.

#![allow(dead_code)]

use openledger_model::{Adapter, LoraConfig, ModelConfig, Targets};
use serde_json::{json, Value};
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// After so long without what a test waits for, it fails instead of hanging.
const PATIENCE: Duration = Duration::from_secs(300);

const WORKER: &str = env!("CARGO_BIN_EXE_openledger-worker");

/// The small base that is shipped.
pub fn base() -> PathBuf {
    let own = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").expect("cargo test sets it"));
    own.join("factory/base")
}

/// Writes an adapter for that base; each seed makes another.
pub fn write_adapter(folder: &Path, seed: u64) {
    let config = ModelConfig::from_dir(&base()).unwrap();
    let lora = LoraConfig::new(4, 8.0, Targets::AllLinear);
    fs::create_dir_all(folder).unwrap();
    let adapter = Adapter::random(&config, lora, 0.1, seed).unwrap();
    adapter.save(folder).unwrap();
}

/// Writes a file that only its owner may read.
pub fn write_secret(path: &Path, content: &str) {
    fs::write(path, content).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// Calls `ready` until it gives something.
pub async fn eventually<T>(what: &str, mut ready: impl AsyncFnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        if let Some(value) = ready().await {
            return value;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{what}: not in {PATIENCE:?}");
}

/// The process, killed if it still runs at the end.
pub struct Program {
    child: Child,
    said: Arc<Mutex<String>>,
    pub address: SocketAddr,
    pub client: reqwest::Client,
}

impl Program {
    /// Starts it on a port that it finds; returns as soon as it listens.
    pub async fn start(base: &Path, options: &[&str]) -> Self {
        Self::serve_by(Command::new(WORKER), base, options).await
    }

    /// Starts it for a chain, with these options.
    pub async fn run(options: &[&str]) -> Self {
        let mut command = Command::new(WORKER);
        command.arg("run").args(options);
        Self::start_by(command).await
    }

    /// The same, with so many open files at most.
    pub async fn start_with_files(files: u32, base: &Path, options: &[&str]) -> Self {
        let mut command = Command::new("sh");
        command
            .args(["-c", &format!("ulimit -n {files} && exec \"$0\" \"$@\"")])
            .arg(WORKER);
        Self::serve_by(command, base, options).await
    }

    async fn serve_by(mut command: Command, base: &Path, options: &[&str]) -> Self {
        command
            .args([
                "serve",
                "--name",
                "small",
                "--listen",
                "127.0.0.1:0",
                "--base",
            ])
            .arg(base)
            .args(options);
        Self::start_by(command).await
    }

    async fn start_by(mut command: Command) -> Self {
        let mut child = command
            .env("RUST_LOG", "info")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let said = Arc::new(Mutex::new(String::new()));
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let heard = said.clone();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                heard.lock().unwrap().push_str(&(line + "\n"));
            }
        });
        let mut program = Program {
            child,
            said,
            address: ([127, 0, 0, 1], 0).into(),
            client: reqwest::Client::new(),
        };
        program.address = program.said_address("listen=").await;
        program
    }

    /// An address that it says to have.
    pub async fn said_address(&self, name: &str) -> SocketAddr {
        eventually("the address", async || {
            let said = self.said();
            let after = said.split_once(name)?.1;
            after.split_whitespace().next()?.parse().ok()
        })
        .await
    }

    /// What it wrote to its log.
    pub fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub async fn get(&self, path: &str) -> (u16, String) {
        let response = self.client.get(self.url(path)).send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    }

    /// Returns once it answers.
    pub async fn ready(&self) {
        eventually("/ready", async || {
            (self.get("/ready").await.0 == 200).then_some(())
        })
        .await;
    }

    /// Asks for a short answer.
    pub async fn ask(&self) -> reqwest::Response {
        self.ask_of("small").await
    }

    /// The same of a model by its name.
    pub async fn ask_of(&self, model: &str) -> reqwest::Response {
        let body =
            json!({"model": model, "prompt": "The harbour", "max_tokens": 4, "ignore_eos": true});
        let request = self.client.post(self.url("/v1/completions")).json(&body);
        request.send().await.unwrap()
    }

    /// Asks, and expects the answer.
    pub async fn answers(&self) {
        let response = self.ask().await;
        assert_eq!(response.status(), 200);
        let answer: Value = response.json().await.unwrap();
        assert_eq!(answer["usage"]["completion_tokens"], 4, "{answer}");
    }

    /// The same, on a connection of its own.
    pub async fn answers_anew(&mut self) {
        self.client = reqwest::Client::new();
        self.answers().await;
    }

    /// Sends SIGTERM.
    pub fn tell_to_stop(&self) {
        let id = self.id().to_string();
        let killed = Command::new("kill").args(["-TERM", &id]).status().unwrap();
        assert!(killed.success());
    }

    /// How it ended.
    pub async fn end(&mut self) -> ExitStatus {
        let child = &mut self.child;
        eventually("the end", async || child.try_wait().unwrap()).await
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
