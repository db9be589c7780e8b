//! Two validators on loopback, each with a key of its own, that find each other by a bootnode.

mod common;

use common::{run, wait_until, Node};
use serde_json::{json, Value};
use std::path::Path;

fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

/// Writes the built-in network's specification with shorter slots: how long they are is not what is
/// tested, and the built-in ones would double the test's time.
fn write_specification(path: &Path) {
    let output = run(&["export-chain-spec", "--chain", "local"])
        .expect_success()
        .output;
    let mut specification: Value = serde_json::from_str(&output).expect("JSON");
    let pointer = "/genesis/runtimeGenesis/patch/protocol/consensus/slot_duration";
    let slot = specification
        .pointer_mut(pointer)
        .expect("the specification names the slot's length");
    *slot = json!(3_000);
    std::fs::write(path, specification.to_string()).expect("the file is written");
}

/// Starts a validator with its database in `base`.
fn validator(specification: &Path, base: &Path, more: &[&str]) -> Node {
    let key = base.with_extension("key");
    if !key.exists() {
        run(&["key", "generate-node-key", "--file", text(&key)]).expect_success();
    }
    let mut arguments = vec!["--validator", "--chain", text(specification)];
    arguments.extend(["--node-key-file", text(&key), "--base-path", text(base)]);
    // The system chooses the ports, so that nobody else can have them.
    arguments.extend(["--listen-addr", "/ip4/127.0.0.1/tcp/0"]);
    arguments.extend(["--prometheus-port", "0"]);
    arguments.extend(more);
    Node::start(&arguments)
}

/// The address at which others reach the node.
fn address(node: &Node) -> String {
    let addresses = node.ask("system_localListenAddresses", json!([]));
    addresses[0].as_str().expect("an address").to_owned()
}

/// The height of the last final block according to the page of metrics.
fn finalized_in_metrics(node: &Node) -> Option<u64> {
    let page = node.metrics();
    let line = page
        .lines()
        .find(|line| line.starts_with("substrate_block_height{status=\"finalized\""))?;
    line.rsplit(' ').next()?.parse().ok()
}

#[test]
fn finality_should_stop_and_go_on_when_one_of_two_validators_is_killed_and_returns() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let specification = folder.path().join("chain.json");
    write_specification(&specification);

    // A validator without peers waits for the network unless it is told not to.
    let alice_base = folder.path().join("alice");
    let alice = validator(
        &specification,
        &alice_base,
        &["--alice", "--force-authoring"],
    );
    let bootnode = address(&alice);
    let bob_base = folder.path().join("bob");
    let start_bob = || {
        validator(
            &specification,
            &bob_base,
            &["--bob", "--bootnodes", &bootnode],
        )
    };

    let bob = start_bob();
    alice.wait_for_finality_of(2);
    bob.wait_for_finality_of(2);
    assert_eq!(alice.hash(2), bob.hash(2), "both have the same chain");
    assert_eq!(alice.hash(0), bob.hash(0));

    bob.kill();
    // He cannot have voted for what was made after this, and without him there are not enough votes.
    let alone_from = alice.best();
    alice.wait_for_block(alone_from + 5);
    let stopped_at = alice.finalized();
    assert!(
        stopped_at <= alone_from,
        "block {stopped_at} is final by one vote of two; alone from {alone_from}"
    );
    wait_until("the metrics say what is final", || {
        finalized_in_metrics(&alice) == Some(stopped_at)
    });

    let bob = start_bob();
    let beyond = alone_from + 5;
    alice.wait_for_finality_of(beyond);
    bob.wait_for_finality_of(beyond);
    assert_eq!(alice.hash(beyond), bob.hash(beyond));
}
