//! Starts the built node as a process and asks it over RPC.

mod common;

use common::{run, Node};
use serde_json::json;

const ALICE: &str = "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY";

#[test]
fn dev_node_should_finalize_and_serve_when_started_alone() {
    let base = tempfile::tempdir().expect("a temporary folder");
    let node = Node::development(base.path(), &[]);
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
    let base = tempfile::tempdir().expect("a temporary folder");
    let node = Node::development(base.path(), &[]);
    let text = run(&["key", "rotate", "--url", node.url(), "--owner", ALICE])
        .expect_success()
        .output;
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
    let nowhere = "http://127.0.0.1:1";
    let rotated = run(&["key", "rotate", "--url", nowhere, "--owner", ALICE]);
    assert!(!rotated.success);
    assert!(rotated.log.contains(nowhere), "{}", rotated.log);
}
