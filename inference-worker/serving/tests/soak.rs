//! Saturation over HTTP while names move from one adapter to another and vanish, and clients hang up: no
//! word of an adapter that a name no longer, or not yet, stands for, and nothing left at the end.
//!
//! Some seconds; `OPENLEDGER_SOAK_SECONDS=600` makes it ten minutes.

mod common;

use common::*;
use openledger_engine::EngineOptions;
use openledger_serving::Options;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{json, Value};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const ADAPTERS: usize = 8;
const NAMES: usize = 4;
const PROMPTS: [&str; 3] = ["The harbour", "Prices of grain", "Who founded it"];
const CLIENTS: u64 = 8;
/// Room on the device for one context and some adapters, and in host memory for three of them.
const ARENA_PAGES: u32 = 200;
const HOST_ADAPTERS: usize = 3;

/// What a name stood for, one entry for each change that the operator asked for; none where it was unloaded.
struct History {
    entries: Vec<Option<usize>>,
    /// The entry of the last change that was acknowledged.
    acknowledged: usize,
}

/// What clients and operator share.
struct Soak {
    scene: Scene,
    names: Vec<Mutex<History>>,
    /// Answers by adapter and prompt: the signature of each.
    expected: Vec<Vec<Value>>,
    over: AtomicBool,
    whole: AtomicU64,
    hung_up: AtomicU64,
    unknown: AtomicU64,
}

fn name(which: usize) -> String {
    format!("name-{which}")
}

fn load(name: &str, adapter: usize) -> Value {
    json!({"lora_name": name, "lora_path": format!("adapter-{adapter}"), "load_inplace": true})
}

fn asked(model: &str, text: usize) -> Value {
    let mut body = prompt(PROMPTS[text]);
    body["model"] = json!(model);
    body
}

impl Soak {
    async fn begin() -> Arc<Self> {
        let bytes = {
            let folder = tempfile::tempdir().unwrap();
            let adapter = write_adapter(folder.path(), 1);
            adapter.parameters() as usize * size_of::<f32>()
        };
        let engine = EngineOptions {
            arena_pages: Some(ARENA_PAGES),
            // Images have their ranks filled up to sixteen.
            host_bytes: HOST_ADAPTERS * 4 * bytes,
            ..EngineOptions::default()
        };
        let scene = Scene::with(None, engine, Options::default()).await;
        for adapter in 0..ADAPTERS {
            let folder = scene.folder.path().join(format!("adapter-{adapter}"));
            write_adapter(&folder, 10 + adapter as u64);
        }
        let mut expected = Vec::new();
        for adapter in 0..ADAPTERS {
            let (status, answer) = scene
                .post_as(
                    "/v1/load_lora_adapter",
                    &load("probe", adapter),
                    Some(ADMIN),
                )
                .await;
            assert_eq!(status, 200, "{answer}");
            let mut answers = Vec::new();
            for text in 0..PROMPTS.len() {
                let answer = scene.ok("/v1/completions", &asked("probe", text)).await;
                answers.push(answer["choices"][0]["text"].clone());
            }
            expected.push(answers);
        }
        for text in 0..PROMPTS.len() {
            let mut answers: Vec<String> =
                expected.iter().map(|all| all[text].to_string()).collect();
            answers.sort();
            answers.dedup();
            assert_eq!(
                answers.len(),
                ADAPTERS,
                "signatures that tell adapters apart"
            );
        }
        scene.models.unload("probe").unwrap();
        let mut names = Vec::new();
        for which in 0..NAMES {
            let (status, answer) = scene
                .post_as(
                    "/v1/load_lora_adapter",
                    &load(&name(which), which),
                    Some(ADMIN),
                )
                .await;
            assert_eq!(status, 200, "{answer}");
            names.push(Mutex::new(History {
                entries: vec![Some(which)],
                acknowledged: 0,
            }));
        }
        Arc::new(Self {
            scene,
            names,
            expected,
            over: AtomicBool::new(false),
            whole: AtomicU64::new(0),
            hung_up: AtomicU64::new(0),
            unknown: AtomicU64::new(0),
        })
    }

    /// Moves names, and takes them away for a while.
    async fn operate(&self) {
        let mut rng = StdRng::seed_from_u64(99);
        while !self.over.load(Ordering::Relaxed) {
            let which = rng.random_range(0..NAMES);
            let next = rng.random_bool(0.8).then(|| rng.random_range(0..ADAPTERS));
            let stood = {
                let mut history = self.names[which].lock().unwrap();
                let stood = history.entries.last().copied().flatten();
                history.entries.push(next);
                stood
            };
            let (path, body, expected) = match next {
                Some(adapter) => ("/v1/load_lora_adapter", load(&name(which), adapter), 200),
                None => {
                    let body = json!({"lora_name": name(which)});
                    let expected = if stood.is_some() { 200 } else { 404 };
                    ("/v1/unload_lora_adapter", body, expected)
                }
            };
            let (status, answer) = self.scene.post_as(path, &body, Some(ADMIN)).await;
            assert_eq!(status, expected, "{answer}");
            {
                let mut history = self.names[which].lock().unwrap();
                history.acknowledged = history.entries.len() - 1;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Asks until it is over; some answers are left on their way.
    async fn ask(&self, client: u64) {
        let mut rng = StdRng::seed_from_u64(client);
        while !self.over.load(Ordering::Relaxed) {
            let (which, text) = (
                rng.random_range(0..NAMES),
                rng.random_range(0..PROMPTS.len()),
            );
            let body = asked(&name(which), text);
            if rng.random_bool(0.3) {
                self.hang_up(&body, rng.random_range(0..600)).await;
                continue;
            }
            let first = self.names[which].lock().unwrap().acknowledged;
            let (status, answer) = self.scene.post("/v1/completions", &body).await;
            let last = self.names[which].lock().unwrap().entries.len() - 1;
            self.check(which, text, first..=last, status, &answer);
        }
    }

    /// An answer must be that of what the name stood for at some time between question and answer.
    fn check(
        &self,
        which: usize,
        text: usize,
        during: RangeInclusive<usize>,
        status: u16,
        answer: &Value,
    ) {
        let history = self.names[which].lock().unwrap();
        let stood = &history.entries[during];
        if status == 404 {
            assert!(stood.contains(&None), "{answer} of {stood:?}");
            self.unknown.fetch_add(1, Ordering::Relaxed);
            return;
        }
        assert_eq!(status, 200, "{answer}");
        let found = &answer["choices"][0]["text"];
        let mut adapters = stood.iter().flatten();
        assert!(
            adapters.any(|adapter| self.expected[*adapter][text] == *found),
            "{found} is of none of {stood:?}"
        );
        self.whole.fetch_add(1, Ordering::Relaxed);
    }

    /// Asks for a stream and leaves after some bytes of it.
    async fn hang_up(&self, body: &Value, after: usize) {
        let mut body = body.clone();
        body["stream"] = json!(true);
        let body = body.to_string();
        let mut stream = TcpStream::connect(self.scene.address).await.unwrap();
        let request = format!(
            "POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut bytes = vec![0; after];
        let _ = tokio::time::timeout(Duration::from_secs(1), stream.read_exact(&mut bytes)).await;
        self.hung_up.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_move_under_load_should_never_answer_with_another_adapter() {
    let seconds = std::env::var("OPENLEDGER_SOAK_SECONDS");
    let seconds = seconds.map_or(4, |s| s.parse().expect("whole seconds"));
    let soak = Soak::begin().await;
    let mut tasks = tokio::task::JoinSet::new();
    for client in 0..CLIENTS {
        let soak = Arc::clone(&soak);
        tasks.spawn(async move { soak.ask(client).await });
    }
    let operator = Arc::clone(&soak);
    tasks.spawn(async move { operator.operate().await });
    let until = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < until {
        if let Some(ended) = tasks.try_join_next() {
            panic!("a client or the operator broke off: {ended:?}");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    soak.over.store(true, Ordering::Relaxed);
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    let counts = [&soak.whole, &soak.hung_up, &soak.unknown].map(|c| c.load(Ordering::Relaxed));
    let stats = soak.scene.engine.stats();
    println!(
        "{} answers whole, {} hung up, {} of no model; {:?}",
        counts[0], counts[1], counts[2], stats.tiers
    );
    assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
    assert!(stats.tiers.device_evictions > 0, "{:?}", stats.tiers);
    soak.scene.idle().await;
    assert_eq!(soak.scene.engine.stats().failed, 0);
    for (name, _) in soak.scene.models.adapters() {
        soak.scene.models.unload(&name).unwrap();
    }
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let stats = soak.scene.engine.stats();
        let left = (
            stats.adapters,
            stats.adapter_pages,
            stats.device_bytes,
            stats.host_bytes,
        );
        if left == (0, 0, 0, 0) {
            break;
        }
        assert!(Instant::now() < until, "left: {left:?}");
        // The engine looks around when something comes.
        soak.scene.ok("/v1/completions", &prompt("Hi")).await;
    }
}
