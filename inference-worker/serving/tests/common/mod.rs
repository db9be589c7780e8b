//! A real server on loopback, with a small random model, and a client for it.

#![allow(dead_code)]

use openledger_engine::{
    AdapterId, AdapterSource, Brought, Engine, EngineHandle, EngineOptions, Request, TokenStream,
};
use openledger_http::Front;
use openledger_model::{Adapter, Family, LoraConfig, ModelConfig, Targets, Weights};
use openledger_serving::{loading, Keys, Models, Options, Server};
use openledger_text::TextModel;
use serde_json::{json, Value};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// What the operator sends.
pub const ADMIN: &str = "the-operators-own-key";

/// The base's name.
pub const BASE: &str = "tiny";

fn goldens() -> PathBuf {
    let own = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").expect("cargo test sets it"));
    own.join("../text/goldens")
}

/// The tokenizer of byte-level goldens with the chat template of a family; none without one.
pub fn text(family: Option<&str>) -> TextModel {
    let read = |path: PathBuf| std::fs::read(path).unwrap();
    let folder = goldens().join("byte-level");
    let template = family.map(|name| read(goldens().join("families").join(name)));
    let config = read(folder.join("tokenizer_config.json"));
    let tokenizer = read(folder.join("tokenizer.json"));
    TextModel::from_bytes(&tokenizer, Some(&config), template.as_deref()).unwrap()
}

pub fn config() -> ModelConfig {
    let text = text(None);
    ModelConfig {
        family: Family::Llama,
        vocab_size: text.tokenizer().vocab_size(),
        hidden_size: 32,
        intermediate_size: 48,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: 8,
        rms_norm_eps: 1e-5,
        rope_theta: 10_000.0,
        rope_scaling: None,
        max_position_embeddings: 2048,
        tie_word_embeddings: false,
        bos_token_id: None,
        eos_token_ids: vec![text.tokenizer().token_to_id("<|end|>").unwrap()],
    }
}

/// Random weights, larger than a fresh model's so that answers differ and do not repeat.
pub fn weights(config: &ModelConfig) -> Weights {
    Weights::random_with(config, 0.24, 7).unwrap()
}

/// An adapter whose effect is of the size of the base's own, written to a folder.
pub fn write_adapter(folder: &Path, seed: u64) -> Adapter {
    let config = config();
    let lora = LoraConfig::new(4, 8.0, Targets::AllLinear);
    let adapter = Adapter::random(&config, lora, 0.5, seed).unwrap();
    std::fs::create_dir_all(folder).unwrap();
    adapter.save(folder).unwrap();
    Adapter::load(folder, &config).unwrap()
}

/// Files that never come.
#[derive(Default)]
struct Never(Mutex<Vec<Brought>>);

impl AdapterSource for Never {
    fn read(&self, _: &ModelConfig) -> Result<Adapter, String> {
        Err("they are not there".to_owned())
    }

    fn bring(&self, brought: Brought) {
        self.0.lock().unwrap().push(brought);
    }

    fn tier(&self) -> &'static str {
        "store"
    }
}

/// A server, stopped when it is told to.
pub struct Scene {
    pub engine: EngineHandle,
    pub models: Models,
    pub address: SocketAddr,
    pub folder: TempDir,
    pub client: reqwest::Client,
    pub server: Server,
    stop: Option<oneshot::Sender<()>>,
    served: Option<JoinHandle<()>>,
}

impl Scene {
    pub async fn new() -> Self {
        Self::with(
            Some("qwen2.5.jinja"),
            EngineOptions::default(),
            Options::default(),
        )
        .await
    }

    /// With two adapters, `red` and `blue`, in a folder that the operator may load from.
    pub async fn with(family: Option<&str>, engine: EngineOptions, options: Options) -> Self {
        let config = config();
        let engine = EngineOptions {
            threads: Some(1),
            ..engine
        };
        let engine = Engine::start(&config, weights(&config), engine).unwrap();
        let folder = tempfile::tempdir().unwrap();
        for (name, seed) in [("red", 1), ("blue", 2)] {
            write_adapter(&folder.path().join(name), seed);
        }
        let models = Models::new(&engine, BASE, Some(folder.path())).unwrap();
        for name in ["red", "blue"] {
            models.load(name, &folder.path().join(name), false).unwrap();
        }
        let options = Options {
            admin: Some(Keys::new(&[ADMIN]).unwrap()),
            ..options
        };
        let limits = options.limits.clone();
        let server = Server::new(engine.clone(), text(family), models.clone(), options);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let front = Front::new(listener, limits, loading(None));
        let running = server.clone();
        let served = tokio::spawn(async move {
            running
                .serve(front, async {
                    let _ = stopped.await;
                })
                .await;
        });
        server.warm_up().await.unwrap();
        Scene {
            engine,
            models,
            address,
            folder,
            client: reqwest::Client::new(),
            server,
            stop: Some(stop),
            served: Some(served),
        }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Status and body of a POST.
    pub async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.post_as(path, body, None).await
    }

    pub async fn post_as(&self, path: &str, body: &Value, key: Option<&str>) -> (u16, Value) {
        let mut request = self.client.post(self.url(path)).json(body);
        if let Some(key) = key {
            request = request.bearer_auth(key);
        }
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        let text = response.text().await.unwrap();
        let value = serde_json::from_str(&text).unwrap_or_else(|_| json!(text));
        (status, value)
    }

    pub async fn get(&self, path: &str) -> (u16, Value) {
        let response = self.client.get(self.url(path)).send().await.unwrap();
        let status = response.status().as_u16();
        let text = response.text().await.unwrap();
        (
            status,
            serde_json::from_str(&text).unwrap_or_else(|_| json!(text)),
        )
    }

    /// A 200's body.
    pub async fn ok(&self, path: &str, body: &Value) -> Value {
        let (status, answer) = self.post(path, body).await;
        assert_eq!(status, 200, "{answer}");
        answer
    }

    /// The events of a stream, without `[DONE]`, which must end it.
    pub async fn events(&self, path: &str, body: &Value) -> Vec<Value> {
        let mut body = body.clone();
        body["stream"] = json!(true);
        let response = self
            .client
            .post(self.url(path))
            .json(&body)
            .send()
            .await
            .unwrap();
        let kind = response.headers()["content-type"]
            .to_str()
            .unwrap()
            .to_owned();
        let text = response.text().await.unwrap();
        assert_eq!(kind, "text/event-stream", "{text}");
        let mut events: Vec<&str> = text
            .split("\n\n")
            .filter_map(|event| event.strip_prefix("data: "))
            .collect();
        assert_eq!(events.pop(), Some("[DONE]"), "{text}");
        events
            .iter()
            .map(|event| serde_json::from_str(event).unwrap())
            .collect()
    }

    /// Takes one of the engine's places until the stream is dropped.
    pub fn take_a_place(&self) -> TokenStream {
        let id = AdapterId([7; 32]);
        let files: Arc<dyn AdapterSource> = Arc::new(Never::default());
        self.engine.register_adapter(id, files).unwrap();
        let mut request = Request::new(vec![1], 1);
        request.adapter = Some(id);
        self.engine.submit(request).unwrap()
    }

    /// Waits until nothing runs or waits in the engine.
    pub async fn idle(&self) {
        self.idle_but_for(0).await;
    }

    /// Waits until nothing runs in the engine and so many wait.
    pub async fn idle_but_for(&self, waiting: usize) {
        for _ in 0..2000 {
            let stats = self.engine.stats();
            if stats.running == 0 && stats.waiting == waiting && stats.kv_pages_used == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("the engine is still at work: {:?}", self.engine.stats());
    }

    pub async fn stop(&mut self) {
        drop(self.stop.take());
        if let Some(served) = self.served.take() {
            served.await.unwrap();
        }
    }
}

/// A chat of one turn.
pub fn chat(content: &str) -> Value {
    json!({
        "model": BASE, "messages": [{"role": "user", "content": content}],
        "max_tokens": 12, "temperature": 1, "seed": 5,
    })
}

/// A text completion.
pub fn prompt(text: &str) -> Value {
    json!({"model": BASE, "prompt": text, "max_tokens": 12, "temperature": 1, "seed": 5})
}
