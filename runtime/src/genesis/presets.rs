//! `development` and `local_testnet`.

use super::{
    accounts::{endowed, validator},
    BABE_EPOCH_CONFIGURATION,
};
use crate::{
    AccountId, BabeConfig, BalancesConfig, ProtocolConfig, RuntimeGenesisConfig, SessionConfig,
    SessionKeys, SudoConfig, OPEN,
};
use alloc::{vec, vec::Vec};
use frame_support::build_struct_json_patch;
use openledger_traits::{
    BondParameters, ConsensusParameters, ModelParameters, PayoutParameters, SettlementParameters,
};
use pallet_protocol::ParameterSet;
use serde_json::Value;
use sp_keyring::{Ed25519Keyring, Sr25519Keyring};

/// One validator, slots of three seconds, epochs and windows of a minute.
pub fn development() -> Value {
    chain(
        vec![validator(Sr25519Keyring::Alice, Ed25519Keyring::Alice)],
        quick(),
    )
}

/// Two validators, with the times of a public chain.
pub fn local_testnet() -> Value {
    chain(
        vec![
            validator(Sr25519Keyring::Alice, Ed25519Keyring::Alice),
            validator(Sr25519Keyring::Bob, Ed25519Keyring::Bob),
        ],
        ParameterSet::public_chain(),
    )
}

/// The public chain's rules with windows that somebody at the keyboard can wait for.
fn quick() -> ParameterSet {
    let public = ParameterSet::public_chain();
    ParameterSet {
        consensus: ConsensusParameters {
            slot_duration: 3_000,
            epoch_length: 20,
        },
        settlement: SettlementParameters {
            challenge_window: 20,
            evidence_window: 10,
            close_delay: 40,
            revoke_delay: 20,
            voucher_grace: 20,
            ..public.settlement
        },
        bonds: BondParameters {
            min_worker_bond: 100 * OPEN,
            thaw: 60,
            heartbeat_grace: 100,
        },
        datanets: public.datanets,
        models: ModelParameters {
            terms_notice: 5,
            ..public.models
        },
        payouts: PayoutParameters {
            contributor_vesting: 5,
            ..public.payouts
        },
    }
}

fn chain(validators: Vec<(AccountId, AccountId, SessionKeys)>, parameters: ParameterSet) -> Value {
    build_struct_json_patch!(RuntimeGenesisConfig {
        balances: BalancesConfig {
            balances: endowed(),
        },
        babe: BabeConfig {
            epoch_config: BABE_EPOCH_CONFIGURATION,
        },
        session: SessionConfig { keys: validators },
        sudo: SudoConfig {
            key: Some(Sr25519Keyring::Alice.to_account_id()),
        },
        protocol: ProtocolConfig {
            consensus: parameters.consensus,
            settlement: parameters.settlement,
            bonds: parameters.bonds,
            datanets: parameters.datanets,
            models: parameters.models,
            payouts: parameters.payouts,
        },
    })
}
