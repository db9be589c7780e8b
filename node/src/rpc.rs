//! The RPC methods beside those that every node of the SDK has.

use crate::service::{FullBackend, FullClient, FullPool, FullSelectChain};
use jsonrpsee::RpcModule;
use openledger_runtime::{opaque::Block, BlockNumber, Hash};
use sc_consensus_babe::BabeWorkerHandle;
use sc_consensus_grandpa::{
    FinalityProofProvider, GrandpaJustificationStream, SharedAuthoritySet, SharedVoterState,
};
use sc_rpc::SubscriptionTaskExecutor;
use sp_keystore::KeystorePtr;
use std::sync::Arc;

type Error = Box<dyn std::error::Error + Send + Sync>;

/// What the methods about GRANDPA need.
pub struct GrandpaDeps {
    /// Where the voter stands.
    pub shared_voter_state: SharedVoterState,
    /// Who votes.
    pub shared_authority_set: SharedAuthoritySet<Hash, BlockNumber>,
    /// New justifications.
    pub justification_stream: GrandpaJustificationStream<Block>,
    /// Proofs of finality.
    pub finality_provider: Arc<FinalityProofProvider<FullBackend, Block>>,
}

/// What all of them need.
pub struct FullDeps {
    /// The client.
    pub client: Arc<FullClient>,
    /// Transactions to come.
    pub pool: Arc<FullPool>,
    /// Which chain is the best.
    pub select_chain: FullSelectChain,
    /// The chain's specification.
    pub chain_spec: Box<dyn sc_chain_spec::ChainSpec>,
    /// The node's keys.
    pub keystore: KeystorePtr,
    /// BABE's epochs.
    pub babe_worker: BabeWorkerHandle<Block>,
    /// GRANDPA.
    pub grandpa: GrandpaDeps,
}

/// Puts them together.
pub fn create(
    deps: FullDeps,
    subscriptions: SubscriptionTaskExecutor,
) -> Result<RpcModule<()>, Error> {
    use pallet_transaction_payment_rpc::{TransactionPayment, TransactionPaymentApiServer};
    use sc_consensus_babe_rpc::{Babe, BabeApiServer};
    use sc_consensus_grandpa_rpc::{Grandpa, GrandpaApiServer};
    use sc_sync_state_rpc::{SyncState, SyncStateApiServer};
    use substrate_frame_rpc_system::{System, SystemApiServer};

    let FullDeps {
        client,
        pool,
        select_chain,
        chain_spec,
        keystore,
        babe_worker,
        grandpa,
    } = deps;

    let mut module = RpcModule::new(());
    module.merge(System::new(client.clone(), pool).into_rpc())?;
    module.merge(TransactionPayment::new(client.clone()).into_rpc())?;
    module
        .merge(Babe::new(client.clone(), babe_worker.clone(), keystore, select_chain).into_rpc())?;
    module.merge(
        Grandpa::new(
            subscriptions,
            grandpa.shared_authority_set.clone(),
            grandpa.shared_voter_state,
            grandpa.justification_stream,
            grandpa.finality_provider,
        )
        .into_rpc(),
    )?;
    module.merge(
        SyncState::new(
            chain_spec,
            client,
            grandpa.shared_authority_set,
            babe_worker,
        )?
        .into_rpc(),
    )?;
    Ok(module)
}
