//! The gateway between an OpenAI client and a real worker on a real chain. Node and worker are taken
//! from `OPENLEDGER_BIN`, which `scripts/test` sets after building them; without them there is
//! nothing to test against and the test says so.

use futures::{future::join_all, StreamExt};
use openledger_chain::{
    calls::{
        balances::TransferKeepAlive,
        models::RegisterBase,
        workers::{Capability, Join},
        Call,
    },
    events::models::BaseRegistered,
    AccountId, ChainClient, Key, Submitter, SubmitterOptions, OPEN,
};
use openledger_metering::SignedReceipt;
use openledger_primitives::{
    licence::Licence, receipt::BackendClass, terms::Split, voucher::EvidenceClass,
};
use openledger_store::Store;
use serde_json::{json, Map, Value};
use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

const PRICE_IN: u128 = OPEN;
const PRICE_OUT: u128 = 400 * OPEN;
const BASE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../factory/base");
const GATEWAY: &str = env!("CARGO_BIN_EXE_openledger-gateway");

/// A program that is killed when dropped.
struct Process(Child);

impl Process {
    fn start(command: &mut Command, log: &Path) -> Self {
        let out = std::fs::File::create(log).unwrap();
        Process(
            command
                .stdout(out.try_clone().unwrap())
                .stderr(out)
                .stdin(Stdio::null())
                .spawn()
                .unwrap(),
        )
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

struct Scene {
    folder: tempfile::TempDir,
    bin: PathBuf,
    rpc: u16,
    worker_port: u16,
    port: u16,
    operator: AccountId,
    alias: String,
    http: reqwest::Client,
    _node: Process,
    worker: Option<Process>,
    gateway: Option<Process>,
}

impl Scene {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn chain(&self) -> String {
        format!("ws://127.0.0.1:{}", self.rpc)
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// A chain with a funded consumer, a worker and a base model that it serves.
    async fn open(bin: PathBuf) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (rpc, worker_port, port) = (free_port(), free_port(), free_port());
        let node = Process::start(
            Command::new(bin.join("openledger-node"))
                .args(["--dev", "--no-prometheus", "--no-telemetry"])
                .arg("--base-path")
                .arg(folder.path().join("chain"))
                .args(["--rpc-port", &rpc.to_string()])
                .args(["--port", &free_port().to_string()]),
            &folder.path().join("node.log"),
        );
        let url = format!("ws://127.0.0.1:{rpc}");
        let client = ChainClient::connect_within(&url, Duration::from_secs(60))
            .await
            .unwrap();
        let purse = submitter(&client, Key::from_uri("//Alice").unwrap());
        let key = |name: &str| Key::generate(&folder.path().join(name)).unwrap();
        let (operator, service, consumer) = (key("operator"), key("service"), key("consumer"));
        let mut funding = Vec::new();
        for (account, open) in [
            (operator.account(), 20_000),
            (service.account(), 100),
            (consumer.account(), 3_000),
        ] {
            let call = TransferKeepAlive::new(account, open * OPEN);
            funding.push(purse.queue(call.encoded()).await.unwrap());
        }
        let store = Store::open(folder.path().join("store")).unwrap();
        let base = folder.path().join("base");
        endless(&base);
        let register = RegisterBase {
            name: b"small".to_vec(),
            manifest: store.put_folder("base", &base, Map::new()).unwrap(),
            licence: Licence::ALL,
            price_in: PRICE_IN,
            price_out: PRICE_OUT,
            split: Split {
                worker: 700_000,
                developer: 150_000,
                holders: 0,
                contributors: 100_000,
                protocol: 50_000,
            },
        };
        let registered = purse.queue(register.encoded()).await.unwrap();
        for result in join_all(funding).await {
            result.unwrap();
        }
        let registered: BaseRegistered = registered.await.unwrap().expect().unwrap();
        submitter(&client, operator.clone())
            .submit(&Join {
                bond: 10_000 * OPEN,
                service_key: service.account(),
                endpoint: format!("http://127.0.0.1:{worker_port}").into_bytes(),
                capability: Capability {
                    backend: BackendClass::CpuF32,
                    memory_mib: 512,
                    max_batch: 8,
                    engine: b"test/1".to_vec(),
                    evidence: EvidenceClass::Open,
                },
            })
            .await
            .unwrap();
        let mut scene = Scene {
            folder,
            bin,
            rpc,
            worker_port,
            port,
            operator: operator.account(),
            alias: "small".into(),
            http: reqwest::Client::new(),
            _node: node,
            worker: None,
            gateway: None,
        };
        scene.start_worker();
        for _ in 0..240 {
            if !client
                .find_workers(registered.revision)
                .await
                .unwrap()
                .is_empty()
            {
                return scene;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        panic!("the worker announces nothing: {}", scene.log("worker.log"));
    }

    fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    fn start_worker(&mut self) {
        let mut command = Command::new(self.bin.join("openledger-worker"));
        command
            .arg("run")
            .args(["--chain", &self.chain()])
            .args(["--worker", &self.operator.to_string()])
            .arg("--service-key")
            .arg(self.path("service"))
            .arg("--store")
            .arg(self.path("store"))
            .arg("--data")
            .arg(self.path("worker"))
            .args(["--listen", &format!("127.0.0.1:{}", self.worker_port)])
            .args(["--metrics", &format!("127.0.0.1:{}", free_port())]);
        self.worker = Some(Process::start(&mut command, &self.path("worker.log")));
    }

    fn gateway(&self, arguments: &[&str]) -> String {
        let output = Command::new(GATEWAY).args(arguments).output().unwrap();
        assert!(
            output.status.success(),
            "{arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// Opens a channel of two lanes that a data folder notes.
    fn open_channel(&self, data: &str, deposit: &str) {
        let (signer, consumer, data) =
            (self.path("signer"), self.path("consumer"), self.path(data));
        let opened = self.gateway(&[
            "open-channel",
            "--chain",
            &self.chain(),
            "--account-key",
            consumer.to_str().unwrap(),
            "--key",
            signer.to_str().unwrap(),
            "--worker",
            &self.operator.to_string(),
            "--deposit",
            deposit,
            "--lanes",
            "2",
            "--data",
            data.to_str().unwrap(),
        ]);
        assert!(opened.contains("curl http://127.0.0.1:8080/v1/chat/completions"));
    }

    /// Starts the gateway on a data folder and waits until it is ready.
    async fn start_gateway(&mut self, data: &str, more: &[&str]) {
        self.gateway = None;
        let mut command = Command::new(GATEWAY);
        command
            .arg("run")
            .args(["--chain", &self.chain()])
            .arg("--key")
            .arg(self.path("signer"))
            .arg("--store")
            .arg(self.path("store"))
            .arg("--data")
            .arg(self.path(data))
            .args(["--listen", &format!("127.0.0.1:{}", self.port)])
            .args(more);
        self.gateway = Some(Process::start(&mut command, &self.path("gateway.log")));
        self.until_ready().await;
    }

    async fn until_ready(&self) {
        for _ in 0..120 {
            if let Ok(response) = self.http.get(self.url("/ready")).send().await {
                if response.status() == 200 {
                    return;
                }
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        panic!(
            "the gateway does not get ready: {}\n{}",
            self.log("gateway.log"),
            self.log("worker.log")
        );
    }

    async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        let response = self
            .http
            .post(self.url(path))
            .json(&body)
            .send()
            .await
            .unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    fn chat(&self, max_tokens: u32) -> Value {
        json!({
            "model": self.alias,
            "messages": [{"role": "user", "content": "Who keeps the old lighthouse?"}],
            "max_tokens": max_tokens,
            "temperature": 0,
        })
    }

    async fn metric(&self, line: &str) -> f64 {
        let page = self
            .http
            .get(self.url("/metrics"))
            .send()
            .await
            .unwrap()
            .text()
            .await
            .unwrap();
        page.lines()
            .filter_map(|found| found.strip_prefix(line)?.trim().parse::<f64>().ok())
            .sum()
    }
}

/// Copies the base model to `folder` with an end-of-answer token that it never says: every answer is
/// as long as it may be.
fn endless(folder: &Path) {
    std::fs::create_dir(folder).unwrap();
    for name in [
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ] {
        std::fs::copy(Path::new(BASE).join(name), folder.join(name)).unwrap();
    }
    let config = std::fs::read_to_string(Path::new(BASE).join("config.json")).unwrap();
    let mut config: Value = serde_json::from_str(&config).unwrap();
    config["eos_token_id"] = config["bos_token_id"].clone();
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
}

fn submitter(client: &ChainClient, key: Key) -> Submitter {
    Submitter::start(client.clone(), key, SubmitterOptions::default())
}

/// The data of each event of a stream.
fn events(stream: &str) -> Vec<&str> {
    stream
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .collect()
}

fn receipt(openledger: &Value) -> SignedReceipt {
    let bytes = hex::decode(openledger["receipt"].as_str().unwrap()).unwrap();
    SignedReceipt::from_bytes(&bytes).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_openai_client_is_served_over_a_channel() {
    let bin = std::env::var_os("OPENLEDGER_BIN").map(PathBuf::from);
    let Some(bin) = bin.filter(|bin| bin.join("openledger-worker").exists()) else {
        eprintln!("OPENLEDGER_BIN names no folder with openledger-worker: nothing tested");
        return;
    };
    let mut scene = Scene::open(bin).await;
    let consumer = scene.path("consumer");
    budget(&mut scene).await;
    scene.open_channel("data", "2000");
    scene.start_gateway("data", &[]).await;

    let models: Value = scene
        .http
        .get(scene.url("/v1/models"))
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(models["data"][0]["id"], "small");
    whole_answers(&scene).await;
    streams(&scene).await;
    refusals(&scene).await;
    more_requests_than_lanes(&scene).await;
    an_answer_longer_than_a_voucher(&scene).await;
    a_client_that_leaves(&scene).await;

    // kill -9 of the worker: the lane goes on where it stood.
    scene.worker = None;
    let (status, body) = scene.post("/v1/chat/completions", scene.chat(8)).await;
    assert_eq!(
        (status, &body["error"]["code"]),
        (502, &json!("worker_unreachable"))
    );
    scene.start_worker();
    scene.until_ready().await;
    let (status, body) = scene.post("/v1/chat/completions", scene.chat(8)).await;
    assert_eq!(status, 200, "{body}");

    // A gateway that lost its data takes the lanes over from the worker, after checking them.
    let channel = body["openledger"]["channel"].to_string();
    scene.start_gateway("other", &["--channel", &channel]).await;
    let (status, body) = scene.post("/v1/chat/completions", scene.chat(8)).await;
    assert_eq!(status, 200, "{body}");
    assert!(
        body["openledger"]["receipts"][0]["sequence"]
            .as_u64()
            .unwrap()
            > 1
    );

    scene.gateway = None;
    let chain = scene.chain();
    let status = scene.gateway(&[
        "status",
        "--chain",
        &chain,
        "--channel",
        &channel,
        "--data",
        scene.path("other").to_str().unwrap(),
    ]);
    assert!(status.contains("open"), "{status}");
    assert!(!status.contains("PARKED"), "{status}");
    let closing = scene.gateway(&[
        "close",
        "--chain",
        &chain,
        "--account-key",
        consumer.to_str().unwrap(),
        "--channel",
        &channel,
    ]);
    assert!(closing.contains("may claim until block"), "{closing}");
}

async fn whole_answers(scene: &Scene) {
    let response = scene
        .http
        .post(scene.url("/v1/chat/completions"))
        .json(&scene.chat(24))
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 200);
    let headers = response.headers().clone();
    let body: Value = response.json().await.unwrap();
    assert_eq!(body["object"], "chat.completion");
    assert_eq!(body["choices"][0]["message"]["role"], "assistant");
    let signed = receipt(&body["openledger"]);
    let (usage, receipt) = (&body["usage"], &signed.receipt);
    assert_eq!(usage["prompt_tokens"], receipt.tokens_in);
    assert_eq!(usage["completion_tokens"], receipt.tokens_out);
    let fee = (u128::from(receipt.tokens_in) * PRICE_IN
        + u128::from(receipt.tokens_out) * PRICE_OUT)
        / 1_000;
    assert_eq!(receipt.fee, fee);
    assert_eq!(body["openledger"]["fee"], fee.to_string());
    assert_eq!(headers["openledger-fee"].to_str().unwrap(), fee.to_string());
    assert_eq!(
        headers["openledger-receipt"].to_str().unwrap(),
        hex::encode(receipt.hash())
    );
    let (status, body) = scene
        .post(
            "/v1/completions",
            json!({"model": "small", "prompt": "The lighthouse", "max_tokens": 8, "temperature": 0}),
        )
        .await;
    assert_eq!((status, &body["object"]), (200, &json!("text_completion")));
    assert!(body["choices"][0]["text"].is_string());
}

async fn streams(scene: &Scene) {
    let (_, whole) = scene.post("/v1/chat/completions", scene.chat(24)).await;
    let mut body = scene.chat(24);
    body["stream"] = json!(true);
    body["stream_options"] = json!({"include_usage": true});
    let response = scene
        .http
        .post(scene.url("/v1/chat/completions"))
        .json(&body)
        .send()
        .await
        .unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let stream = response.text().await.unwrap();
    let events = events(&stream);
    let (last, events) = events.split_last().unwrap();
    assert_eq!(*last, "[DONE]");
    let chunks: Vec<Value> = events
        .iter()
        .map(|event| serde_json::from_str(event).unwrap())
        .collect();
    let text: String = chunks
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str())
        .collect();
    // Greedy: the same request has the same answer, streamed or not.
    assert_eq!(json!(text), whole["choices"][0]["message"]["content"]);
    let usage = chunks.last().unwrap();
    assert_eq!(usage["choices"], json!([]));
    assert_eq!(usage["usage"], whole["usage"]);
    let ending = &chunks[chunks.len() - 2];
    assert_eq!(
        ending["choices"][0]["finish_reason"],
        whole["choices"][0]["finish_reason"]
    );
    receipt(&ending["openledger"]);
}

async fn refusals(scene: &Scene) {
    let chat = "/v1/chat/completions";
    let mut unknown = scene.chat(8);
    unknown["model"] = json!("nobody");
    let mut tools = scene.chat(8);
    tools["tools"] = json!([{"type": "function"}]);
    let mut long = scene.chat(8);
    long["messages"][0]["content"] = json!("again ".repeat(4_000));
    for (body, status, code) in [
        (unknown, 404, "model_not_found"),
        (tools, 400, "unsupported_parameter"),
        (long, 400, "context_length_exceeded"),
        (json!({"model": "small"}), 400, "missing_messages"),
    ] {
        let (found, answer) = scene.post(chat, body).await;
        assert_eq!((found, &answer["error"]["code"]), (status, &json!(code)));
        assert_eq!(answer["error"]["type"], "invalid_request_error");
    }
}

async fn more_requests_than_lanes(scene: &Scene) {
    let asked = (0..6).map(|_| scene.post("/v1/chat/completions", scene.chat(8)));
    for (status, body) in join_all(asked).await {
        assert_eq!(status, 200, "{body}");
    }
}

/// Drawn at random, so that the text takes its tokens apart and together in every way.
fn rambling(max_tokens: u32, seed: u32) -> Value {
    json!({
        "model": "small",
        "prompt": "Once",
        "max_tokens": max_tokens,
        "temperature": 2,
        "seed": seed,
    })
}

async fn an_answer_longer_than_a_voucher(scene: &Scene) {
    let (status, body) = scene.post("/v1/completions", rambling(300, 7)).await;
    assert_eq!(status, 200, "{body}");
    let receipts = body["openledger"]["receipts"].as_array().unwrap();
    assert!(receipts.len() > 1, "{body}");
    assert!(receipts[0]["tokens_in"].as_u64().unwrap() > 0);
    for pair in receipts.windows(2) {
        assert_eq!(pair[1]["lane"], pair[0]["lane"]);
        assert_eq!(
            pair[1]["sequence"].as_u64().unwrap(),
            pair[0]["sequence"].as_u64().unwrap() + 1
        );
        assert_eq!(pair[1]["tokens_in"], 0);
    }
    let fees: u128 = receipts
        .iter()
        .map(|receipt| receipt["fee"].as_str().unwrap().parse::<u128>().unwrap())
        .sum();
    assert_eq!(body["openledger"]["fee"], fees.to_string());
}

async fn a_client_that_leaves(scene: &Scene) {
    let cancelled = "openledger_gateway_requests_total{model=\"small\",outcome=\"cancelled\"}";
    // An answer may end before its client is gone: tried until one is cut off.
    for seed in 0..10 {
        let mut body = rambling(200, seed);
        body["stream"] = json!(true);
        let response = scene
            .http
            .post(scene.url("/v1/completions"))
            .json(&body)
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), 200);
        let mut stream = response.bytes_stream();
        let first = stream.next().await;
        drop((first, stream));
        while scene.metric("openledger_gateway_requests_in_flight").await > 0.0 {
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
        if scene.metric(cancelled).await > 0.0 {
            break;
        }
    }
    assert!(scene.metric(cancelled).await > 0.0);
    let ready: Value = scene
        .http
        .get(scene.url("/ready"))
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(ready["lanes"], json!({"usable": 2, "parked": []}));
    let (status, body) = scene.post("/v1/chat/completions", scene.chat(8)).await;
    assert_eq!(status, 200, "{body}");
    let rejected = scene
        .metric("openledger_gateway_rejected_receipts_total")
        .await;
    assert_eq!(rejected, 0.0);
}

async fn budget(scene: &mut Scene) {
    // 256 tokens at 400 OPEN per 1,000 are more than 50 OPEN; 8 are not.
    scene.open_channel("small", "50");
    scene.start_gateway("small", &[]).await;
    let (status, body) = scene.post("/v1/chat/completions", scene.chat(400)).await;
    assert_eq!(
        (status, &body["error"]["code"]),
        (402, &json!("insufficient_quota")),
        "{body}"
    );
    let refused =
        "openledger_gateway_requests_total{model=\"small\",outcome=\"insufficient_quota\"}";
    assert_eq!(scene.metric(refused).await, 1.0);
    let (status, body) = scene.post("/v1/chat/completions", scene.chat(8)).await;
    assert_eq!(status, 200, "{body}");
}
