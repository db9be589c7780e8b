//! Chain specifications: the two that are built in, and files.

use openledger_runtime::{DECIMALS, SS58_PREFIX, TOKEN, WASM_BINARY};
use sc_chain_spec::{ChainSpecExtension, ChainType, Properties};
use serde::{Deserialize, Serialize};
use sp_genesis_builder::{DEV_RUNTIME_PRESET, LOCAL_TESTNET_RUNTIME_PRESET};

/// What a specification carries besides the genesis.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ChainSpecExtension)]
#[serde(rename_all = "camelCase")]
pub struct Extensions {
    /// Where a light client starts; `sync_state_genSyncSpec` fills it in.
    pub light_sync_state: sc_sync_state_rpc::LightSyncStateExtension,
}

/// A specification of this chain.
pub type ChainSpec = sc_service::GenericChainSpec<Extensions>;

/// The specification named `id`: `dev`, `local`, or the path of a file.
pub fn load(id: &str) -> Result<ChainSpec, String> {
    match id {
        "dev" => development(),
        "" | "local" => local_testnet(),
        path => ChainSpec::from_json_file(path.into())
            .map_err(|error| format!("no chain is named '{path}', and as a file: {error}")),
    }
}

fn development() -> Result<ChainSpec, String> {
    built_in(
        "OpenLedger Development",
        "openledger_dev",
        ChainType::Development,
        DEV_RUNTIME_PRESET,
    )
}

fn local_testnet() -> Result<ChainSpec, String> {
    built_in(
        "OpenLedger Local Testnet",
        "openledger_local",
        ChainType::Local,
        LOCAL_TESTNET_RUNTIME_PRESET,
    )
}

fn built_in(name: &str, id: &str, kind: ChainType, preset: &str) -> Result<ChainSpec, String> {
    let code = WASM_BINARY
        .ok_or("this node was built without the runtime's wasm (SKIP_WASM_BUILD was set)")?;
    Ok(ChainSpec::builder(code, Extensions::default())
        .with_name(name)
        .with_id(id)
        .with_protocol_id("openledger")
        .with_chain_type(kind)
        .with_properties(properties())
        .with_genesis_config_preset_name(preset)
        .build())
}

fn properties() -> Properties {
    let mut properties = Properties::new();
    properties.insert("tokenSymbol".into(), TOKEN.into());
    properties.insert("tokenDecimals".into(), DECIMALS.into());
    properties.insert("ss58Format".into(), SS58_PREFIX.into());
    properties
}
