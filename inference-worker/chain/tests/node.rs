//! The client against a real node: metadata, calls, events, errors, and calls that survive the loss
//! of the node. The node is taken from `OPENLEDGER_BIN`, which `scripts/test` sets after building it;
//! without one there is nothing to test against and the tests say so.

use futures::StreamExt;
use openledger_chain::{
    calls::{
        balances::TransferKeepAlive,
        bonds::Thaw,
        settlement::OpenChannel,
        workers::{Capability, Join},
        Call,
    },
    events::{balances::Transfer, workers::Joined},
    AccountId, ChainClient, Key, SubmitError, Submitter, SubmitterOptions, OPEN,
};
use openledger_primitives::{receipt::BackendClass, voucher::EvidenceClass};
use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};
use tokio::{io::copy_bidirectional, net::TcpStream, sync::watch};

/// A node process on a folder of its own; killed, not stopped, when dropped.
struct Node {
    child: Child,
    url: String,
}

fn binary() -> Option<PathBuf> {
    let path = PathBuf::from(std::env::var_os("OPENLEDGER_BIN")?).join("openledger-node");
    path.exists().then_some(path)
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

impl Node {
    fn start(binary: &Path, folder: &Path, rpc: u16) -> Self {
        let child = Command::new(binary)
            .args(["--dev", "--no-prometheus", "--no-telemetry"])
            .arg("--base-path")
            .arg(folder)
            .args(["--rpc-port", &rpc.to_string()])
            .args(["--port", &free_port().to_string()])
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(folder.join("node.log")).unwrap())
            .spawn()
            .unwrap();
        Node {
            child,
            url: format!("ws://127.0.0.1:{rpc}"),
        }
    }

    async fn client(&self) -> ChainClient {
        ChainClient::connect_within(&self.url, Duration::from_secs(60))
            .await
            .unwrap()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn alice() -> Key {
    Key::from_uri("//Alice").unwrap()
}

fn fresh(name: &str) -> AccountId {
    Key::from_uri(&format!("//Alice//{name}"))
        .unwrap()
        .account()
}

fn submitter(client: &ChainClient, key: Key) -> Submitter {
    Submitter::start(client.clone(), key, SubmitterOptions::default())
}

/// Stands between client and node, and can let the connections that it has fall silent without
/// closing them, as a route that is lost does. New connections work.
struct Wire {
    url: String,
    cut: watch::Sender<()>,
}

impl Wire {
    async fn to(node: u16) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}", listener.local_addr().unwrap());
        let (cut, cuts) = watch::channel(());
        tokio::spawn(async move {
            loop {
                let (mut near, _) = listener.accept().await.unwrap();
                let mut cuts = cuts.clone();
                cuts.mark_unchanged();
                tokio::spawn(async move {
                    let mut far = TcpStream::connect(("127.0.0.1", node)).await.unwrap();
                    tokio::select! {
                        _ = copy_bidirectional(&mut near, &mut far) => {}
                        // Held open, and nothing passes any more.
                        Ok(()) = cuts.changed() => std::future::pending().await,
                    }
                });
            }
        });
        Wire { url, cut }
    }
}

macro_rules! node_or_return {
    () => {
        match binary() {
            Some(binary) => binary,
            None => {
                eprintln!("OPENLEDGER_BIN names no folder with openledger-node: nothing tested");
                return;
            }
        }
    };
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_of_one_key_are_applied_in_order_and_their_events_and_errors_read() {
    let binary = node_or_return!();
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(&binary, folder.path(), free_port());
    let client = node.client().await;

    // Several calls queued at once: all applied, each once.
    let submitter = submitter(&client, alice());
    let mut pending = Vec::new();
    for index in 0..5u128 {
        let account = fresh(&format!("fund-{index}"));
        let call = TransferKeepAlive::new(account, (index + 1) * OPEN);
        pending.push((
            account,
            index,
            submitter.queue(call.encoded()).await.unwrap(),
        ));
    }
    for (account, index, pending) in pending {
        let outcome = pending.await.unwrap();
        let transfer: Transfer = outcome.expect().unwrap();
        assert_eq!(
            (transfer.to, transfer.amount),
            (account, (index + 1) * OPEN)
        );
        assert!(outcome.transaction_fee().unwrap() > 0);
        assert_eq!(
            client.balance(account).await.unwrap().free,
            (index + 1) * OPEN
        );
    }

    // A call that fails says which error of which pallet, in the pallet's words.
    let error = submitter.submit(&Thaw { amount: OPEN }).await.unwrap_err();
    assert!(error.is("WorkerBonds", "NotBonded"), "{error}");
    assert!(error.to_string().contains("bond_more"), "{error}");
    let error = submitter
        .submit(&OpenChannel {
            worker: fresh("nobody"),
            deposit: 100 * OPEN,
            lanes: 1,
            signer: [1; 32],
            limit: OPEN,
            valid_until: 1_000,
            evidence: EvidenceClass::Open,
        })
        .await
        .unwrap_err();
    assert!(
        matches!(&error, SubmitError::Dispatch(failure) if failure.pallet == "Settlement"),
        "{error}"
    );

    // A key without money is refused by the pool, at once.
    let poor = self::submitter(&client, Key::from_uri("//Nobody//poor").unwrap());
    let error = poor
        .submit(&TransferKeepAlive::new(fresh("x"), OPEN))
        .await
        .unwrap_err();
    assert!(matches!(error, SubmitError::Invalid { .. }), "{error}");

    // Structs of several fields keep their meaning across the border.
    let service = fresh("service");
    let outcome = submitter
        .submit(&Join {
            bond: 10_000 * OPEN,
            service_key: service,
            endpoint: b"http://127.0.0.1:9".to_vec(),
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
    let joined: Joined = outcome.expect().unwrap();
    assert_eq!(
        (joined.worker, joined.service_key),
        (alice().account(), service)
    );
    let info = client.worker(joined.worker).await.unwrap().unwrap();
    assert_eq!(info.url(), "http://127.0.0.1:9");
    assert_eq!(info.own_bond, 10_000 * OPEN);
    let now = client.best_block().await.unwrap().number;
    assert_eq!(info.service_key(0, now), Some(service));
    assert_eq!(
        client.domain().await.unwrap(),
        openledger_primitives::domain::domain(&client.genesis_hash(), 0)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_under_way_when_the_node_dies_is_applied_exactly_once() {
    let binary = node_or_return!();
    let folder = tempfile::tempdir().unwrap();
    let rpc = free_port();
    let mut node = Node::start(&binary, folder.path(), rpc);
    let client = node.client().await;
    let submitter = submitter(&client, alice());
    // Finality must exist before: a chain that has none cannot tell what is final.
    client.wait_for_finalized(1).await.unwrap();

    for round in 0..3u64 {
        let account = fresh(&format!("survivor-{round}"));
        let pending = submitter
            .queue(TransferKeepAlive::new(account, OPEN).encoded())
            .await
            .unwrap();
        // Killed at different moments of the call's life.
        tokio::time::sleep(Duration::from_millis(900 * round + 100)).await;
        drop(node);
        tokio::time::sleep(Duration::from_millis(500)).await;
        node = Node::start(&binary, folder.path(), rpc);
        let outcome = pending.await.unwrap();
        assert_eq!(outcome.expect::<Transfer>().unwrap().to, account);
        assert_eq!(client.balance(account).await.unwrap().free, OPEN);
    }
    assert_eq!(client.nonce(alice().account()).await.unwrap(), 3);
    drop(node);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_submitters_of_one_key_do_not_lose_or_double_calls() {
    let binary = node_or_return!();
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(&binary, folder.path(), free_port());
    let client = node.client().await;
    let (a, b) = (submitter(&client, alice()), submitter(&client, alice()));
    let one = a
        .queue(TransferKeepAlive::new(fresh("left"), OPEN).encoded())
        .await
        .unwrap();
    let two = b
        .queue(TransferKeepAlive::new(fresh("right"), OPEN).encoded())
        .await
        .unwrap();
    one.await.unwrap();
    two.await.unwrap();
    for name in ["left", "right"] {
        assert_eq!(client.balance(fresh(name)).await.unwrap().free, OPEN);
    }
    assert_eq!(client.nonce(alice().account()).await.unwrap(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_come_again_after_the_link_fell_silent() {
    let binary = node_or_return!();
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let node = Node::start(&binary, folder.path(), port);
    node.client().await;
    let wire = Wire::to(port).await;
    let client = ChainClient::connect(&wire.url)
        .await
        .unwrap()
        .with_silence(Duration::from_secs(10));
    let mut blocks = client.best_block_numbers();
    let before = blocks.next().await.unwrap();
    wire.cut.send(()).unwrap();
    // Reads of the broken connection end with it; far below what TCP itself would take.
    let after = tokio::time::timeout(Duration::from_secs(40), blocks.next())
        .await
        .unwrap()
        .unwrap();
    assert!(after > before, "{after} after {before}");
    assert!(client.best_block().await.unwrap().number >= after);
}
