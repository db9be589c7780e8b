//! The presets from which chain specifications are built.

mod accounts;
mod presets;

use alloc::{string::ToString, vec, vec::Vec};
use sp_consensus_babe::{AllowedSlots, BabeEpochConfiguration};
use sp_genesis_builder::{PresetId, DEV_RUNTIME_PRESET, LOCAL_TESTNET_RUNTIME_PRESET};

/// One slot in four has a primary author by lot; the others fall to a secondary one, so that every
/// slot has a block.
pub const BABE_EPOCH_CONFIGURATION: BabeEpochConfiguration = BabeEpochConfiguration {
    c: (1, 4),
    allowed_slots: AllowedSlots::PrimaryAndSecondaryVRFSlots,
};

/// The preset of this name as a JSON patch of the default genesis.
pub fn preset(name: &PresetId) -> Option<Vec<u8>> {
    let patch = match name.as_ref() {
        DEV_RUNTIME_PRESET => presets::development(),
        LOCAL_TESTNET_RUNTIME_PRESET => presets::local_testnet(),
        _ => return None,
    };
    Some(patch.to_string().into_bytes())
}

/// The presets there are.
pub fn preset_names() -> Vec<PresetId> {
    vec![
        PresetId::from(DEV_RUNTIME_PRESET),
        PresetId::from(LOCAL_TESTNET_RUNTIME_PRESET),
    ]
}
