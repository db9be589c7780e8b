//! Where the story happens: folders, ports, the running programs.

use crate::{
    cast::Cast,
    footprint::{Footprint, Memory},
    narrator::Narrator,
    processes::{complete, Process},
    Options,
};
use anyhow::{ensure, Context, Result};
use openledger_chain::ChainClient;
use openledger_store::Store;
use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

/// The addresses, all on this machine.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    /// The node's JSON-RPC.
    pub rpc: u16,
    /// The node's metrics.
    pub node_metrics: u16,
    /// The worker's API.
    pub worker: u16,
    /// The worker's metrics.
    pub worker_metrics: u16,
    /// The gateway's API.
    pub gateway: u16,
}

impl Ports {
    /// The usual ports where they are free, others where not.
    fn choose() -> Result<Self> {
        let pick = |usual: u16| -> Result<u16> {
            let listener = TcpListener::bind(("127.0.0.1", usual))
                .or_else(|_| TcpListener::bind(("127.0.0.1", 0)))?;
            Ok(listener.local_addr()?.port())
        };
        Ok(Ports {
            rpc: pick(9944)?,
            node_metrics: pick(9615)?,
            worker: pick(8000)?,
            worker_metrics: pick(9100)?,
            gateway: pick(8080)?,
        })
    }
}

/// The scene.
pub struct Scene {
    /// Tells the audience.
    pub narrator: Narrator,
    /// Everything below here.
    pub dir: PathBuf,
    /// The base model.
    pub base: PathBuf,
    /// Ports.
    pub ports: Ports,
    /// The chain.
    pub client: ChainClient,
    /// The people.
    pub cast: Cast,
    /// The store that everybody shares.
    pub store: Store,
    /// The worker, once it runs.
    pub worker: Option<Process>,
    /// The gateway, once it runs.
    pub gateway: Option<Process>,
    node: Process,
    bin: PathBuf,
    _temporary: Option<tempfile::TempDir>,
}

impl Scene {
    /// Starts the chain and makes the people's keys.
    pub async fn open(options: &Options) -> Result<Self> {
        let narrator = Narrator::new();
        let (dir, temporary) = match &options.dir {
            Some(dir) => {
                std::fs::create_dir_all(dir)?;
                (dir.clone(), None)
            }
            None => {
                let temporary = tempfile::Builder::new().prefix("openledger-").tempdir()?;
                (temporary.path().to_owned(), Some(temporary))
            }
        };
        let bin = match &options.bin {
            Some(bin) => bin.clone(),
            None => std::env::current_exe()?
                .parent()
                .context("the folder of this program")?
                .to_owned(),
        };
        ensure!(
            options.base.join("model.safetensors").exists(),
            "there is no base model in {}; run this from the repository's root or name it with --base",
            options.base.display()
        );
        let ports = Ports::choose()?;
        narrator.act("A chain starts: BABE produces, GRANDPA finalizes.");
        let mut command = Command::new(bin.join("openledger-node"));
        command
            .arg("--dev")
            .arg("--base-path")
            .arg(dir.join("chain"))
            .args(["--rpc-port", &ports.rpc.to_string()])
            .args(["--prometheus-port", &ports.node_metrics.to_string()])
            .args(["--port", "0", "--no-telemetry", "--no-mdns"]);
        let mut node = Process::start("openledger-node", command, &dir.join("node.log"))?;
        let url = format!("ws://127.0.0.1:{}", ports.rpc);
        let client = match ChainClient::connect_within(&url, Duration::from_secs(60)).await {
            Ok(client) => client,
            Err(error) => {
                node.check()?;
                return Err(error.into());
            }
        };
        client.wait_for_finalized(1).await?;
        narrator.say(format!(
            "finalized block 1 of chain 0x{}",
            hex::encode(client.genesis_hash())
        ));
        Ok(Scene {
            cast: Cast::new(&dir.join("keys"), &client)?,
            store: Store::open(dir.join("store"))?,
            narrator,
            base: options.base.clone(),
            ports,
            client,
            worker: None,
            gateway: None,
            node,
            bin,
            dir,
            _temporary: temporary,
        })
    }

    /// One of the project's programs, with the chain in its environment.
    pub fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.bin.join(name));
        command.env("OPENLEDGER_CHAIN", self.client.url());
        command
    }

    /// Runs one of the project's programs to its end.
    pub async fn complete(
        &self,
        name: &str,
        arguments: impl FnOnce(&mut Command),
    ) -> Result<String> {
        let mut command = self.program(name);
        arguments(&mut command);
        complete(name, command).await
    }

    /// File of the worker's service key.
    pub fn service_key(&self) -> PathBuf {
        self.dir.join("keys").join("service")
    }

    /// Starts the worker, or starts it again.
    pub fn start_worker(&mut self) -> Result<()> {
        let mut command = self.program("openledger-worker");
        command
            .arg("run")
            .args(["--worker", &self.cast.operator.account().to_string()])
            .arg("--service-key")
            .arg(self.service_key())
            .arg("--store")
            .arg(self.store.root())
            .arg("--data")
            .arg(self.dir.join("worker"))
            .args(["--listen", &format!("127.0.0.1:{}", self.ports.worker)])
            .args([
                "--metrics",
                &format!("127.0.0.1:{}", self.ports.worker_metrics),
            ])
            .args(["--settle-every", "3", "--batch-window", "300"]);
        let log = self.dir.join("worker.log");
        self.worker = Some(Process::start("openledger-worker", command, &log)?);
        Ok(())
    }

    /// Starts the gateway.
    pub fn start_gateway(&mut self) -> Result<()> {
        let mut command = self.program("openledger-gateway");
        command
            .arg("run")
            .arg("--key")
            .arg(self.dir.join("keys").join("gateway"))
            .arg("--store")
            .arg(self.store.root())
            .arg("--data")
            .arg(self.dir.join("gateway"))
            .args(["--listen", &format!("127.0.0.1:{}", self.ports.gateway)]);
        let log = self.dir.join("gateway.log");
        self.gateway = Some(Process::start("openledger-gateway", command, &log)?);
        Ok(())
    }

    /// The gateway's address.
    pub fn gateway_url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.ports.gateway)
    }

    /// The worker's address.
    pub fn worker_url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.ports.worker)
    }

    /// Fails when one of the programs has ended.
    pub fn check(&mut self) -> Result<()> {
        self.node.check()?;
        for process in [&mut self.worker, &mut self.gateway].into_iter().flatten() {
            process.check()?;
        }
        Ok(())
    }

    /// Returns when one of the programs has ended, with the reason.
    pub async fn watch(&mut self) -> Result<()> {
        loop {
            self.check()?;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// Memory of node and worker.
    pub fn footprint(&self) -> Result<Footprint> {
        let worker = self.worker.as_ref().context("the worker runs")?;
        Ok(Footprint {
            node: Memory::of(self.node.id())?,
            worker: Memory::of(worker.id())?,
        })
    }

    /// Says where to look.
    pub fn invite(&self) {
        let ports = &self.ports;
        println!("\nEverything stays up until Ctrl-C:");
        println!(
            "  polkadot.js   https://polkadot.js.org/apps/?rpc=ws://127.0.0.1:{}",
            ports.rpc
        );
        println!(
            "  OpenAI        curl {} -H 'content-type: application/json' -d '{{\"model\":\"openledger-small\",\"messages\":[{{\"role\":\"user\",\"content\":\"Hello\"}}]}}'",
            self.gateway_url("/v1/chat/completions")
        );
        println!(
            "  metrics       http://127.0.0.1:{}/metrics (node)",
            ports.node_metrics
        );
        println!(
            "                http://127.0.0.1:{}/metrics (worker)",
            ports.worker_metrics
        );
        println!("                {} (gateway)", self.gateway_url("/metrics"));
        println!("  logs          {}", display(&self.dir));
    }

    /// Ends the programs, the last started first.
    pub async fn close(mut self) {
        self.gateway = None;
        self.worker = None;
    }
}

fn display(path: &Path) -> String {
    path.display().to_string()
}
