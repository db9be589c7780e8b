//! What the tests of the whole runtime share: state built from a preset, as a node builds it.

#![allow(dead_code)]

pub mod batch;
pub mod blocks;
pub mod market;

use openledger_runtime::{
    genesis, AccountId, Protocol, Runtime, RuntimeGenesisConfig, RuntimeOrigin, System,
};
use serde_json::Value;
use sp_genesis_builder::PresetId;
use sp_keyring::Sr25519Keyring;
use sp_runtime::BuildStorage;

/// State at block 1 of the preset.
pub fn preset(name: &str) -> sp_io::TestExternalities {
    let patch = genesis::preset(&PresetId::from(name)).expect("the preset exists");
    let patch: Value = serde_json::from_slice(&patch).expect("the preset is JSON");
    let mut config =
        serde_json::to_value(RuntimeGenesisConfig::default()).expect("the default is JSON");
    merge(&mut config, patch);
    let config: RuntimeGenesisConfig =
        serde_json::from_value(config).expect("the preset fits the genesis");
    let mut state = sp_io::TestExternalities::new(config.build_storage().expect("genesis builds"));
    state.execute_with(|| System::set_block_number(1));
    state
}

/// State at block 1 of a development chain.
pub fn development() -> sp_io::TestExternalities {
    preset(sp_genesis_builder::DEV_RUNTIME_PRESET)
}

/// RFC 7386, as the genesis builder merges a preset into the default.
fn merge(into: &mut Value, patch: Value) {
    match patch {
        Value::Object(fields) => {
            if !into.is_object() {
                *into = Value::Object(Default::default());
            }
            let target = into.as_object_mut().expect("made an object above");
            for (key, value) in fields {
                merge(target.entry(key).or_insert(Value::Null), value);
            }
        }
        other => *into = other,
    }
}

/// Runs a test on a development chain, and checks every pallet's invariants after it.
pub fn run(test: impl FnOnce()) {
    development().execute_with(|| {
        test();
        check_invariants();
    });
}

/// Checks every project pallet's invariants.
pub fn check_invariants() {
    Protocol::do_try_state().expect("protocol");
    openledger_runtime::Datanets::do_try_state().expect("datanets");
    openledger_runtime::Models::do_try_state().expect("models");
    openledger_runtime::WorkerBonds::do_try_state().expect("bonds");
    openledger_runtime::Workers::do_try_state().expect("workers");
    openledger_runtime::Settlement::do_try_state().expect("settlement");
    openledger_runtime::Payouts::do_try_state().expect("payouts");
}

/// One of the accounts that presets endow.
pub fn account(key: Sr25519Keyring) -> AccountId {
    key.to_account_id()
}

/// A call signed by one of them.
pub fn signed(key: Sr25519Keyring) -> RuntimeOrigin {
    RuntimeOrigin::signed(key.to_account_id())
}

/// Events of the runtime since the block began.
pub fn events() -> Vec<openledger_runtime::RuntimeEvent> {
    System::events()
        .into_iter()
        .map(|record| record.event)
        .collect()
}

/// The runtime, for functions that are generic over it.
pub type Chain = Runtime;
