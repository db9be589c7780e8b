//! Starts the built node as a process and asks it over RPC.

use serde_json::{json, Value};
use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// Only a bound against waiting forever; nothing is said about how long anything takes.
const PATIENCE: Duration = Duration::from_secs(300);

struct Node {
    process: Child,
    url: String,
    _base: tempfile::TempDir,
}

impl Node {
    /// A development node with free ports and a database of its own.
    fn start() -> Node {
        let base = tempfile::tempdir().expect("a temporary folder");
        let mut process = Command::new(env!("CARGO_BIN_EXE_openledger-node"))
            .args(["--dev", "--rpc-port", "0", "--port", "0"])
            .args([
                "--no-prometheus",
                "--no-telemetry",
                "--no-mdns",
                "--base-path",
            ])
            .arg(base.path())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the node starts");
        let mut lines = BufReader::new(process.stderr.take().expect("piped")).lines();
        let address = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| {
                let (_, rest) = line.split_once("JSON-RPC server: addr=")?;
                Some(rest.split(',').next()?.trim().to_owned())
            })
            .expect("the node says where its RPC server listens");
        // A full pipe would stop the node.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        Node {
            process,
            url: format!("http://{address}"),
            _base: base,
        }
    }

    fn ask(&self, method: &str, params: Value) -> Value {
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let mut answer: Value = runtime
            .block_on(async {
                let response = reqwest::Client::new()
                    .post(&self.url)
                    .json(&body)
                    .send()
                    .await?;
                response.json().await
            })
            .expect("the node answers");
        assert_eq!(answer["error"], Value::Null, "{method} is refused");
        answer["result"].take()
    }

    fn height(&self, hash: &Value) -> u64 {
        let header = self.ask("chain_getHeader", json!([hash]));
        let number = header["number"].as_str().expect("a header has a number");
        u64::from_str_radix(number.trim_start_matches("0x"), 16).expect("hexadecimal")
    }

    fn wait_for_finality_of(&self, height: u64) {
        let since = Instant::now();
        while self.height(&self.ask("chain_getFinalizedHead", json!([]))) < height {
            assert!(
                since.elapsed() < PATIENCE,
                "block {height} does not become final"
            );
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn dev_node_should_finalize_and_serve_when_started_alone() {
    let node = Node::start();
    node.wait_for_finality_of(2);

    let version = node.ask("state_getRuntimeVersion", json!([]));
    assert_eq!(version["specName"], "openledger");
    let properties = node.ask("system_properties", json!([]));
    assert_eq!(properties["tokenSymbol"], "OPEN");
    assert_eq!(properties["tokenDecimals"], 12);
    assert_eq!(properties["ss58Format"], openledger_runtime::SS58_PREFIX);

    let methods = node.ask("rpc_methods", json!([]));
    let methods = methods["methods"].as_array().expect("a list");
    for method in [
        "babe_epochAuthorship",
        "chainHead_v1_follow",
        "chainSpec_v1_chainName",
        "grandpa_proveFinality",
        "payment_queryInfo",
        "sync_state_genSyncSpec",
        "system_accountNextIndex",
        "transactionWatch_v1_submitAndWatch",
    ] {
        assert!(
            methods.iter().any(|have| have == method),
            "{method} is missing"
        );
    }

    // Slots of three seconds, as the development preset says.
    let period = node.ask("state_call", json!(["BabeApi_configuration", "0x"]));
    let bytes = period.as_str().expect("bytes").trim_start_matches("0x");
    assert!(
        bytes.starts_with("b80b000000000000"),
        "slot duration is not 3,000 ms"
    );
}

#[test]
fn rotate_should_print_keys_that_the_node_has_when_owner_is_named() {
    let node = Node::start();
    let output = Command::new(env!("CARGO_BIN_EXE_openledger-node"))
        .args(["key", "rotate", "--url", &node.url, "--owner"])
        .arg("5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY")
        .output()
        .expect("the command runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).expect("text");
    let keys = text
        .lines()
        .find_map(|line| line.strip_prefix("keys:"))
        .expect("the keys are printed")
        .trim();
    assert_eq!(node.ask("author_hasSessionKeys", json!([keys])), true);
    assert!(text.contains("proof: 0x"));
}

#[test]
fn rotate_should_fail_when_no_node_listens() {
    let output = Command::new(env!("CARGO_BIN_EXE_openledger-node"))
        .args(["key", "rotate", "--url", "http://127.0.0.1:1", "--owner"])
        .arg("5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY")
        .output()
        .expect("the command runs");
    assert!(!output.status.success());
}
