//! The chain's pallets.

// The macro writes much that carries no words; what is ours is described in `configs`.
#![allow(missing_docs)]

use crate::{Block, UncheckedExtrinsic};
use alloc::vec::Vec;
use sp_inherents::{CheckInherentsResult, InherentData};
use sp_runtime::traits::Block as BlockT;

/// What a block's author must put into it.
pub(crate) fn create_inherents(data: InherentData) -> Vec<UncheckedExtrinsic> {
    data.create_extrinsics()
}

/// Whether the author put the right things into it.
pub(crate) fn check_inherents(
    block: <Block as BlockT>::LazyBlock,
    data: InherentData,
) -> CheckInherentsResult {
    data.check_extrinsics(&block)
}

// An index is part of every encoded call and event: none ever changes, and one that falls free is
// not used again.
#[frame_support::runtime]
mod runtime {
    /// The runtime.
    #[runtime::runtime]
    #[runtime::derive(
        RuntimeCall,
        RuntimeEvent,
        RuntimeError,
        RuntimeOrigin,
        RuntimeFreezeReason,
        RuntimeHoldReason,
        RuntimeSlashReason,
        RuntimeLockId,
        RuntimeTask,
        RuntimeViewFunction
    )]
    pub struct Runtime;

    #[runtime::pallet_index(0)]
    pub type System = frame_system;
    #[runtime::pallet_index(1)]
    pub type Timestamp = pallet_timestamp;
    #[runtime::pallet_index(2)]
    pub type MultiBlockMigrations = pallet_migrations;

    // Tokens and fees.
    #[runtime::pallet_index(3)]
    pub type Balances = pallet_balances;
    #[runtime::pallet_index(4)]
    pub type TransactionPayment = pallet_transaction_payment;

    // Consensus. Authorship comes before sessions, so that an author is noted in its own session.
    #[runtime::pallet_index(10)]
    pub type Babe = pallet_babe;
    #[runtime::pallet_index(11)]
    pub type Authorship = pallet_authorship;
    #[runtime::pallet_index(12)]
    pub type Offences = pallet_offences;
    #[runtime::pallet_index(13)]
    pub type Historical = pallet_session::historical;
    #[runtime::pallet_index(14)]
    pub type Session = pallet_session;
    #[runtime::pallet_index(15)]
    pub type Grandpa = pallet_grandpa;
    #[runtime::pallet_index(16)]
    pub type AuthorityDiscovery = pallet_authority_discovery;

    // Everyday tools.
    #[runtime::pallet_index(20)]
    pub type Utility = pallet_utility;
    #[runtime::pallet_index(29)]
    pub type Sudo = pallet_sudo;

    // OpenLedger.
    #[runtime::pallet_index(30)]
    pub type Protocol = pallet_protocol;
    #[runtime::pallet_index(31)]
    pub type Datanets = pallet_datanets;
    #[runtime::pallet_index(32)]
    pub type Models = pallet_models;
    #[runtime::pallet_index(33)]
    pub type WorkerBonds = pallet_bonds<Instance1>;
    #[runtime::pallet_index(34)]
    pub type Workers = pallet_workers;
    #[runtime::pallet_index(35)]
    pub type Settlement = pallet_settlement;
    #[runtime::pallet_index(36)]
    pub type Payouts = pallet_payouts;
}
