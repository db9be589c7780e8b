//! A running node.

use super::{wait_until, PATIENCE};
use serde_json::{json, Value};
use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc::{channel, Receiver},
    time::{Duration, Instant},
};

/// A node whose RPC server listens. Dropping it ends its process, also when a test panics.
pub struct Node {
    process: Child,
    url: String,
    metrics: Option<String>,
}

impl Node {
    /// A development node with its database at `base`.
    pub fn development(base: &Path, more: &[&str]) -> Node {
        let base = base.to_str().expect("a path in UTF-8");
        let mut arguments = vec!["--dev", "--port", "0", "--no-prometheus"];
        arguments.extend(["--base-path", base]);
        arguments.extend(more);
        Node::start(&arguments)
    }

    /// A node with a free port for RPC, which tells nobody of itself. The arguments say where the
    /// metrics are, or `--no-prometheus`.
    pub fn start(arguments: &[&str]) -> Node {
        let mut process = Command::new(env!("CARGO_BIN_EXE_openledger-node"))
            .args(arguments)
            .args(["--rpc-port", "0", "--no-telemetry", "--no-mdns"])
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the node starts");
        let log = BufReader::new(process.stderr.take().expect("piped"));
        // From here on the process has an owner that ends it.
        let mut node = Node {
            process,
            url: String::new(),
            metrics: None,
        };
        let (sender, lines) = channel();
        // Reads on when nobody listens any more: a full pipe would stop the node.
        std::thread::spawn(move || {
            for line in log.lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        node.read_addresses(&lines, !arguments.contains(&"--no-prometheus"));
        node
    }

    fn read_addresses(&mut self, lines: &Receiver<String>, with_metrics: bool) {
        let since = Instant::now();
        let mut log = String::new();
        while self.url.is_empty() || (with_metrics && self.metrics.is_none()) {
            let left = PATIENCE.saturating_sub(since.elapsed());
            let Ok(line) = lines.recv_timeout(left) else {
                panic!("the node does not say where it listens:\n{log}");
            };
            if let Some(address) = after(&line, "JSON-RPC server: addr=") {
                self.url = format!("http://{address}");
            }
            if let Some(address) = after(&line, "Prometheus exporter started at ") {
                self.metrics = Some(format!("http://{address}/metrics"));
            }
            log.push_str(&line);
            log.push('\n');
        }
    }

    /// The endpoint of the RPC server.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What the method answers.
    pub fn ask(&self, method: &str, params: Value) -> Value {
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let text = text_of(reqwest::Client::new().post(&self.url).json(&body));
        let mut answer: Value = serde_json::from_str(&text).expect("the node answers JSON");
        assert_eq!(answer["error"], Value::Null, "{method} is refused");
        answer["result"].take()
    }

    /// The page of metrics.
    pub fn metrics(&self) -> String {
        let url = self.metrics.as_ref().expect("the node has metrics");
        text_of(reqwest::Client::new().get(url))
    }

    /// The hash of the block at `height` of the best chain; null when there is none yet.
    pub fn hash(&self, height: u64) -> Value {
        self.ask("chain_getBlockHash", json!([height]))
    }

    /// The height of the best block.
    pub fn best(&self) -> u64 {
        number(&self.ask("chain_getHeader", json!([])))
    }

    /// The height of the last final block.
    pub fn finalized(&self) -> u64 {
        let hash = self.ask("chain_getFinalizedHead", json!([]));
        number(&self.ask("chain_getHeader", json!([hash])))
    }

    /// Waits until there is a block at `height`.
    pub fn wait_for_block(&self, height: u64) {
        wait_until(&format!("there is block {height}"), || {
            self.best() >= height
        });
    }

    /// Waits until the block at `height` is final.
    pub fn wait_for_finality_of(&self, height: u64) {
        wait_until(&format!("block {height} is final"), || {
            self.finalized() >= height
        });
    }

    /// Ends the process without letting it prepare for that, as a crash would.
    pub fn kill(mut self) {
        self.process.kill().expect("a child can be killed");
        self.process.wait().expect("a child can be waited for");
    }

    /// Asks the process to end, as a supervisor would, and panics when it does not end well.
    pub fn stop(mut self) {
        // The standard library sends no other signal than the one that kills.
        let asked = Command::new("sh")
            .args(["-c", "kill -TERM \"$0\"", &self.process.id().to_string()])
            .status()
            .expect("a shell");
        assert!(asked.success(), "the node had ended already");
        let mut status = None;
        wait_until("the node has ended", || {
            status = self.process.try_wait().expect("a child can be asked");
            status.is_some()
        });
        assert!(status.expect("it has ended").success(), "it ends badly");
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What follows `mark` in the line, up to a comma or a space.
fn after<'a>(line: &'a str, mark: &str) -> Option<&'a str> {
    let (_, rest) = line.split_once(mark)?;
    rest.split([',', ' ']).next()
}

fn number(header: &Value) -> u64 {
    let number = header["number"].as_str().expect("a header has a number");
    u64::from_str_radix(number.trim_start_matches("0x"), 16).expect("hexadecimal")
}

fn text_of(request: reqwest::RequestBuilder) -> String {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime
        .block_on(async {
            let request = request.timeout(Duration::from_secs(60));
            request.send().await?.error_for_status()?.text().await
        })
        .expect("the node answers")
}
