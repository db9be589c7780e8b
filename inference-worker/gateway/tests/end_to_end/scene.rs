//! A real chain with a funded consumer, a bonded worker and a base model, and the gateway before it.
//! Programs are taken from `OPENLEDGER_BIN`, which `scripts/test` sets after building them.

use futures::future::join_all;
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
use openledger_primitives::{
    licence::Licence, receipt::BackendClass, terms::Split, voucher::EvidenceClass,
};
use openledger_store::Store;
use serde_json::{json, Map, Value};
use std::{
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

pub const PRICE_IN: u128 = OPEN;
pub const PRICE_OUT: u128 = 400 * OPEN;
// Asked when it runs: programs of one checkout are reused by the next, which may lie elsewhere.
fn base() -> String {
    let here = std::env::var("CARGO_MANIFEST_DIR").expect("cargo test sets it");
    format!("{here}/../factory/base")
}
const GATEWAY: &str = env!("CARGO_BIN_EXE_openledger-gateway");

/// A program that is killed when dropped.
pub struct Process(Child);

impl Process {
    pub fn start(command: &mut Command, log: &Path) -> Self {
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

pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// See the module.
pub struct Scene {
    folder: tempfile::TempDir,
    bin: PathBuf,
    rpc: u16,
    pub worker_port: u16,
    port: u16,
    pub operator: AccountId,
    pub consumer: Key,
    /// The worker's service key.
    pub service: Key,
    /// The base's revision.
    pub revision: u64,
    alias: String,
    pub http: reqwest::Client,
    pub client: ChainClient,
    _node: Process,
    pub worker: Option<Process>,
    pub gateway: Option<Process>,
}

impl Scene {
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn chain(&self) -> String {
        format!("ws://127.0.0.1:{}", self.rpc)
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// Where the gateway listens.
    pub fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    /// A chain with a funded consumer, a bonded worker that is not running, and a base model; `None`
    /// without the programs.
    pub async fn open() -> Option<Self> {
        let bin = std::env::var_os("OPENLEDGER_BIN").map(PathBuf::from);
        let Some(bin) = bin.filter(|bin| bin.join("openledger-worker").exists()) else {
            eprintln!("OPENLEDGER_BIN names no folder with openledger-worker: nothing tested");
            return None;
        };
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
        Some(Scene {
            folder,
            bin,
            rpc,
            worker_port,
            port,
            operator: operator.account(),
            consumer,
            service,
            revision: registered.revision,
            alias: "small".into(),
            http: reqwest::Client::new(),
            client,
            _node: node,
            worker: None,
            gateway: None,
        })
    }

    /// Waits until the chain lists a worker for the base.
    pub async fn until_served(&self) {
        for _ in 0..240 {
            let found = self.client.find_workers(self.revision).await.unwrap();
            if !found.is_empty() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        panic!("nobody announces the base: {}", self.log("worker.log"));
    }

    pub fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    pub fn start_worker(&mut self) {
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

    pub fn command(&self, arguments: &[&str]) -> String {
        let output = Command::new(GATEWAY).args(arguments).output().unwrap();
        assert!(
            output.status.success(),
            "{arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// Opens a channel of two lanes that a data folder notes; what the program says.
    pub fn open_channel(&self, data: &str, deposit: &str) -> String {
        let (signer, consumer, data) =
            (self.path("signer"), self.path("consumer"), self.path(data));
        let opened = self.command(&[
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
        opened
    }

    /// Starts the gateway on a data folder and waits until it is ready.
    pub async fn start_gateway(&mut self, data: &str, more: &[&str]) {
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

    pub async fn until_ready(&self) {
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

    pub async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        let response = self
            .http
            .post(self.url(path))
            .json(&body)
            .send()
            .await
            .unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    pub fn chat(&self, max_tokens: u32) -> Value {
        json!({
            "model": self.alias,
            "messages": [{"role": "user", "content": "Who keeps the old lighthouse?"}],
            "max_tokens": max_tokens,
            "temperature": 0,
        })
    }

    pub async fn metric(&self, line: &str) -> f64 {
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
        std::fs::copy(Path::new(&base()).join(name), folder.join(name)).unwrap();
    }
    let config = std::fs::read_to_string(Path::new(&base()).join("config.json")).unwrap();
    let mut config: Value = serde_json::from_str(&config).unwrap();
    config["eos_token_id"] = config["bos_token_id"].clone();
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
}

pub fn submitter(client: &ChainClient, key: Key) -> Submitter {
    Submitter::start(client.clone(), key, SubmitterOptions::default())
}
