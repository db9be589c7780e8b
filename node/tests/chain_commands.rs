//! The commands about a database, on one that a development node has filled.

mod common;

use common::{command::Finished, run, Node};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Runs a command about the development chain's database at `base`.
fn succeed(name: &str, base: &Path, more: &[&str]) -> Finished {
    let base = base.to_str().expect("a path in UTF-8");
    let mut arguments = vec![name, "--dev", "--base-path", base];
    arguments.extend(more);
    run(&arguments).expect_success()
}

#[derive(Debug, PartialEq, serde::Deserialize)]
struct Info {
    best_hash: String,
    best_number: usize,
    genesis_hash: String,
    finalized_hash: String,
    finalized_number: usize,
}

fn info(base: &Path) -> Info {
    let output = succeed("chain-info", base, &[]).output;
    serde_json::from_str(&output).expect("chain-info prints JSON")
}

/// Where the database of the development chain is.
fn database(base: &Path) -> PathBuf {
    base.join("chains/openledger_dev/paritydb")
}

/// Fills the database with at least `height` blocks, none of them final; says all blocks' hashes.
fn fill(base: &Path, height: u64) -> Vec<String> {
    // Without GRANDPA, because only what is not final can be reverted.
    let node = Node::development(base, &["--no-grandpa"]);
    node.wait_for_block(height);
    let hashes = (0..=height)
        .map(|height| node.hash(height).as_str().expect("a hash").to_owned())
        .collect();
    node.stop();
    hashes
}

/// One chain for all commands, since making one takes longer than what is asked of it.
#[test]
fn commands_should_keep_hashes_and_heights_when_a_chain_moves_between_databases() {
    const TOP: usize = 4;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (first, second) = (folder.path().join("first"), folder.path().join("second"));
    let hashes = fill(&first, TOP as u64);

    let made = info(&first);
    // Another block may have come between the last question and the end.
    assert!(made.best_number >= TOP, "{made:?}");
    assert_eq!(made.genesis_hash, hashes[0]);
    assert_eq!(made.finalized_hash, hashes[0]);
    assert_eq!(made.finalized_number, 0);
    assert!(database(&first).is_dir(), "ParityDB is the database");

    let file = folder.path().join("blocks.json");
    let file = file.to_str().expect("a path in UTF-8");
    succeed("export-blocks", &first, &["--to", &TOP.to_string(), file]);
    let blocks = std::fs::read(file).expect("the file is written");
    let headers: Vec<_> = serde_json::Deserializer::from_slice(&blocks)
        .into_iter()
        .map(|block: Result<Value, _>| {
            let mut block = block.expect("a block in JSON");
            let header = block["block"]["header"].take();
            (header["number"].clone(), header["parentHash"].clone())
        })
        .collect();
    let expected: Vec<_> = (1..=TOP)
        .map(|number| {
            let parent: Value = hashes[number - 1].clone().into();
            (format!("{number:#x}").into(), parent)
        })
        .collect();
    assert_eq!(headers, expected);

    let checked = succeed("check-block", &first, &["3"]);
    assert!(checked.log.contains("Imported 1 blocks"), "{}", checked.log);
    assert_eq!(info(&first), made, "checking changes nothing");

    succeed("import-blocks", &second, &[file]);
    let imported = Info {
        best_hash: hashes[TOP].clone(),
        best_number: TOP,
        genesis_hash: hashes[0].clone(),
        finalized_hash: hashes[0].clone(),
        finalized_number: 0,
    };
    assert_eq!(info(&second), imported);

    succeed("revert", &second, &["2"]);
    let reverted = info(&second);
    assert_eq!(reverted.best_number, TOP - 2);
    assert_eq!(reverted.best_hash, hashes[TOP - 2]);
    // What BABE and GRANDPA keep beside the blocks went back with them, or it would not fit now.
    succeed("import-blocks", &second, &[file]);
    assert_eq!(info(&second), imported);

    succeed("purge-chain", &first, &["-y"]);
    assert!(!database(&first).exists());
    assert_eq!(info(&second), imported, "the other database is left alone");

    let node = Node::development(&second, &[]);
    node.wait_for_finality_of(TOP as u64 + 1);
    assert_eq!(node.hash(TOP as u64), hashes[TOP], "it goes on from there");
    node.stop();
    succeed("revert", &second, &["1000"]);
    let final_only = info(&second);
    assert!(final_only.finalized_number > TOP, "{final_only:?}");
    assert_eq!(final_only.best_number, final_only.finalized_number);
    assert_eq!(final_only.best_hash, final_only.finalized_hash);
}
