//! What nodes, wallets and workers call on the runtime. The interfaces are described where they are
//! declared.

// For what the macro writes.
#![allow(missing_docs)]

use crate::{
    configs::{EpochDuration, SlotDuration},
    genesis, AccountId, AuthorityDiscovery, Babe, Balance, Block, Datanets, Executive, Grandpa,
    Historical, Models, Nonce, Payouts, Protocol, Runtime, RuntimeCall, RuntimeGenesisConfig,
    SessionKeys, Settlement, System, TransactionPayment, Workers, VERSION,
};
use alloc::vec::Vec;
use frame_support::{
    genesis_builder_helper::{build_state, get_preset},
    traits::Get,
    view_functions::{ViewFunctionDispatchError, ViewFunctionId},
    weights::Weight,
};
use openledger_primitives::{
    contribution::VersionLeaf, inclusion::ContributionProof, revision::ModelRef, AdapterId, BaseId,
    BatchSequence, ChannelId, ContributionId, DatanetId, Digest, RevisionId, TermsIndex,
    VersionIndex,
};
use openledger_traits::{
    BondParameters, ConsensusParameters, DatanetParameters, ModelParameters, Parameters,
    PayoutParameters, SettlementParameters,
};
use pallet_datanets::{Contribution, Datanet, Version};
use pallet_models::{
    runtime_api::{RevisionInfo, TermsInfo},
    Adapter, Base,
};
use pallet_payouts::{runtime_api::EarningInfo, Totals};
use pallet_settlement::runtime_api::{BatchInfo, ChannelInfo, ExposureInfo, Quote};
use pallet_transaction_payment::{FeeDetails, RuntimeDispatchInfo};
use pallet_workers::{runtime_api::WorkerInfo, Served};
use parity_scale_codec::Encode;
use sp_api::impl_runtime_apis;
use sp_authority_discovery::AuthorityId as AuthorityDiscoveryId;
use sp_consensus_babe as babe;
use sp_consensus_grandpa as grandpa;
use sp_core::{crypto::KeyTypeId, OpaqueMetadata};
use sp_genesis_builder::PresetId;
use sp_inherents::{CheckInherentsResult, InherentData};
use sp_runtime::{
    traits::{Block as BlockT, NumberFor},
    transaction_validity::{TransactionSource, TransactionValidity},
    ApplyExtrinsicResult, ExtrinsicInclusionMode,
};
use sp_session::OpaqueGeneratedSessionKeys;
use sp_version::RuntimeVersion;

impl_runtime_apis! {
    impl sp_api::Core<Block> for Runtime {
        fn version() -> RuntimeVersion {
            VERSION
        }
        fn execute_block(block: <Block as BlockT>::LazyBlock) {
            Executive::execute_block(block);
        }
        fn initialize_block(header: &<Block as BlockT>::Header) -> ExtrinsicInclusionMode {
            Executive::initialize_block(header)
        }
    }

    impl sp_api::Metadata<Block> for Runtime {
        fn metadata() -> OpaqueMetadata {
            OpaqueMetadata::new(Runtime::metadata().into())
        }
        fn metadata_at_version(version: u32) -> Option<OpaqueMetadata> {
            Runtime::metadata_at_version(version)
        }
        fn metadata_versions() -> Vec<u32> {
            Runtime::metadata_versions()
        }
    }

    impl frame_support::view_functions::runtime_api::RuntimeViewFunction<Block> for Runtime {
        fn execute_view_function(
            id: ViewFunctionId,
            input: Vec<u8>,
        ) -> Result<Vec<u8>, ViewFunctionDispatchError> {
            Runtime::execute_view_function(id, input)
        }
    }

    impl sp_block_builder::BlockBuilder<Block> for Runtime {
        fn apply_extrinsic(extrinsic: <Block as BlockT>::Extrinsic) -> ApplyExtrinsicResult {
            Executive::apply_extrinsic(extrinsic)
        }
        fn finalize_block() -> <Block as BlockT>::Header {
            Executive::finalize_block()
        }
        fn inherent_extrinsics(data: InherentData) -> Vec<<Block as BlockT>::Extrinsic> {
            crate::pallets::create_inherents(data)
        }
        fn check_inherents(
            block: <Block as BlockT>::LazyBlock,
            data: InherentData,
        ) -> CheckInherentsResult {
            crate::pallets::check_inherents(block, data)
        }
    }

    impl sp_transaction_pool::runtime_api::TaggedTransactionQueue<Block> for Runtime {
        fn validate_transaction(
            source: TransactionSource,
            transaction: <Block as BlockT>::Extrinsic,
            block_hash: <Block as BlockT>::Hash,
        ) -> TransactionValidity {
            Executive::validate_transaction(source, transaction, block_hash)
        }
    }

    impl sp_offchain::OffchainWorkerApi<Block> for Runtime {
        fn offchain_worker(header: &<Block as BlockT>::Header) {
            Executive::offchain_worker(header)
        }
    }

    impl sp_consensus_babe::BabeApi<Block> for Runtime {
        fn configuration() -> babe::BabeConfiguration {
            let epoch = Babe::epoch_config().unwrap_or(genesis::BABE_EPOCH_CONFIGURATION);
            babe::BabeConfiguration {
                slot_duration: SlotDuration::get(),
                epoch_length: EpochDuration::get(),
                c: epoch.c,
                authorities: Babe::authorities().to_vec(),
                randomness: Babe::randomness(),
                allowed_slots: epoch.allowed_slots,
            }
        }
        fn current_epoch_start() -> babe::Slot {
            Babe::current_epoch_start()
        }
        fn current_epoch() -> babe::Epoch {
            Babe::current_epoch()
        }
        fn next_epoch() -> babe::Epoch {
            Babe::next_epoch()
        }
        fn generate_key_ownership_proof(
            _: babe::Slot,
            authority: babe::AuthorityId,
        ) -> Option<babe::OpaqueKeyOwnershipProof> {
            key_ownership_proof((babe::KEY_TYPE, authority)).map(babe::OpaqueKeyOwnershipProof::new)
        }
        fn submit_report_equivocation_unsigned_extrinsic(
            proof: babe::EquivocationProof<<Block as BlockT>::Header>,
            owner: babe::OpaqueKeyOwnershipProof,
        ) -> Option<()> {
            Babe::submit_unsigned_equivocation_report(proof, owner.decode()?)
        }
    }

    impl sp_consensus_grandpa::GrandpaApi<Block> for Runtime {
        fn grandpa_authorities() -> grandpa::AuthorityList {
            Grandpa::grandpa_authorities()
        }
        fn current_set_id() -> grandpa::SetId {
            pallet_grandpa::CurrentSetId::<Runtime>::get()
        }
        fn submit_report_equivocation_unsigned_extrinsic(
            proof: grandpa::EquivocationProof<<Block as BlockT>::Hash, NumberFor<Block>>,
            owner: grandpa::OpaqueKeyOwnershipProof,
        ) -> Option<()> {
            Grandpa::submit_unsigned_equivocation_report(proof, owner.decode()?)
        }
        fn generate_key_ownership_proof(
            _: grandpa::SetId,
            authority: grandpa::AuthorityId,
        ) -> Option<grandpa::OpaqueKeyOwnershipProof> {
            key_ownership_proof((grandpa::KEY_TYPE, authority))
                .map(grandpa::OpaqueKeyOwnershipProof::new)
        }
    }

    impl sp_authority_discovery::AuthorityDiscoveryApi<Block> for Runtime {
        fn authorities() -> Vec<AuthorityDiscoveryId> {
            AuthorityDiscovery::authorities()
        }
    }

    impl sp_session::SessionKeys<Block> for Runtime {
        fn generate_session_keys(
            owner: Vec<u8>,
            seed: Option<Vec<u8>>,
        ) -> OpaqueGeneratedSessionKeys {
            SessionKeys::generate(&owner, seed).into()
        }
        fn decode_session_keys(encoded: Vec<u8>) -> Option<Vec<(Vec<u8>, KeyTypeId)>> {
            SessionKeys::decode_into_raw_public_keys(&encoded)
        }
    }

    impl frame_system_rpc_runtime_api::AccountNonceApi<Block, AccountId, Nonce> for Runtime {
        fn account_nonce(account: AccountId) -> Nonce {
            System::account_nonce(account)
        }
    }

    impl pallet_transaction_payment_rpc_runtime_api::TransactionPaymentApi<Block, Balance>
        for Runtime
    {
        fn query_info(
            transaction: <Block as BlockT>::Extrinsic,
            bytes: u32,
        ) -> RuntimeDispatchInfo<Balance> {
            TransactionPayment::query_info(transaction, bytes)
        }
        fn query_fee_details(
            transaction: <Block as BlockT>::Extrinsic,
            bytes: u32,
        ) -> FeeDetails<Balance> {
            TransactionPayment::query_fee_details(transaction, bytes)
        }
        fn query_weight_to_fee(weight: Weight) -> Balance {
            TransactionPayment::weight_to_fee(weight)
        }
        fn query_length_to_fee(bytes: u32) -> Balance {
            TransactionPayment::length_to_fee(bytes)
        }
    }

    impl pallet_transaction_payment_rpc_runtime_api::TransactionPaymentCallApi<
        Block,
        Balance,
        RuntimeCall,
    > for Runtime {
        fn query_call_info(call: RuntimeCall, bytes: u32) -> RuntimeDispatchInfo<Balance> {
            TransactionPayment::query_call_info(call, bytes)
        }
        fn query_call_fee_details(call: RuntimeCall, bytes: u32) -> FeeDetails<Balance> {
            TransactionPayment::query_call_fee_details(call, bytes)
        }
        fn query_weight_to_fee(weight: Weight) -> Balance {
            TransactionPayment::weight_to_fee(weight)
        }
        fn query_length_to_fee(bytes: u32) -> Balance {
            TransactionPayment::length_to_fee(bytes)
        }
    }

    impl pallet_protocol::runtime_api::ProtocolApi<Block> for Runtime {
        fn consensus() -> ConsensusParameters {
            <Protocol as Parameters>::consensus()
        }
        fn settlement() -> SettlementParameters {
            <Protocol as Parameters>::settlement()
        }
        fn bonds() -> BondParameters {
            <Protocol as Parameters>::bonds()
        }
        fn datanets() -> DatanetParameters {
            <Protocol as Parameters>::datanets()
        }
        fn models() -> ModelParameters {
            <Protocol as Parameters>::models()
        }
        fn payouts() -> PayoutParameters {
            <Protocol as Parameters>::payouts()
        }
    }

    impl pallet_datanets::runtime_api::DatanetsApi<Block, AccountId> for Runtime {
        fn datanet(datanet: DatanetId) -> Option<Datanet<AccountId>> {
            pallet_datanets::Datanets::<Runtime>::get(datanet)
        }
        fn contribution(contribution: ContributionId) -> Option<Contribution<AccountId>> {
            pallet_datanets::Contributions::<Runtime>::get(contribution)
        }
        fn version(datanet: DatanetId, version: VersionIndex) -> Option<Version> {
            pallet_datanets::Versions::<Runtime>::get(datanet, version)
        }
        fn version_leaves(datanet: DatanetId, version: VersionIndex) -> Vec<VersionLeaf> {
            Datanets::version_leaves(datanet, version)
        }
        fn prove_contribution(
            datanet: DatanetId,
            version: VersionIndex,
            contribution: ContributionId,
        ) -> Option<(u32, Vec<Digest>)> {
            Datanets::prove_contribution(datanet, version, contribution)
        }
        fn verify_row(
            datanet: DatanetId,
            version: VersionIndex,
            proof: ContributionProof,
        ) -> bool {
            Datanets::verify_row(datanet, version, &proof)
        }
    }

    impl pallet_models::runtime_api::ModelsApi<Block, AccountId> for Runtime {
        fn revision(revision: RevisionId) -> Option<RevisionInfo<AccountId>> {
            Models::revision_info(revision)
        }
        fn terms(model: ModelRef, index: Option<TermsIndex>) -> Option<TermsInfo> {
            Models::terms_info(model, index)
        }
        fn base(base: BaseId) -> Option<Base<AccountId>> {
            pallet_models::Bases::<Runtime>::get(base)
        }
        fn adapter(adapter: AdapterId) -> Option<Adapter<AccountId>> {
            pallet_models::Adapters::<Runtime>::get(adapter)
        }
    }

    impl pallet_workers::runtime_api::WorkersApi<Block, AccountId> for Runtime {
        fn find(revision: RevisionId) -> Vec<WorkerInfo<AccountId>> {
            Workers::find(revision)
        }
        fn worker(worker: AccountId) -> Option<WorkerInfo<AccountId>> {
            Workers::info(worker)
        }
        fn served_by(worker: AccountId) -> Served {
            Workers::served_by(&worker)
        }
    }

    impl pallet_settlement::runtime_api::SettlementApi<Block, AccountId> for Runtime {
        fn quote(
            revision: RevisionId,
            terms: Option<TermsIndex>,
            tokens_in: u32,
            tokens_out: u32,
        ) -> Option<Quote> {
            Settlement::quote(revision, terms, tokens_in, tokens_out)
        }
        fn channel(channel: ChannelId) -> Option<ChannelInfo<AccountId>> {
            Settlement::channel_info(channel)
        }
        fn worker_exposure(worker: AccountId) -> ExposureInfo {
            Settlement::worker_exposure(&worker)
        }
        fn domain() -> Digest {
            Settlement::signing_domain()
        }
        fn next_batch(worker: AccountId) -> (BatchSequence, Digest) {
            Settlement::next_batch(&worker)
        }
        fn batch(worker: AccountId, sequence: BatchSequence) -> Option<BatchInfo> {
            Settlement::batch_info(&worker, sequence)
        }
    }

    impl pallet_payouts::runtime_api::PayoutsApi<Block, AccountId> for Runtime {
        fn earnings(account: AccountId) -> Vec<EarningInfo<AccountId>> {
            Payouts::earnings_of(&account)
        }
        fn pool(revision: RevisionId) -> Balance {
            Payouts::pool_of(revision)
        }
        fn totals() -> Totals {
            Payouts::totals()
        }
    }

    impl sp_genesis_builder::GenesisBuilder<Block> for Runtime {
        fn build_state(config: Vec<u8>) -> sp_genesis_builder::Result {
            build_state::<RuntimeGenesisConfig>(config)
        }
        fn get_preset(name: &Option<PresetId>) -> Option<Vec<u8>> {
            get_preset::<RuntimeGenesisConfig>(name, genesis::preset)
        }
        fn preset_names() -> Vec<PresetId> {
            genesis::preset_names()
        }
    }

    #[cfg(feature = "runtime-benchmarks")]
    impl frame_benchmarking::Benchmark<Block> for Runtime {
        fn benchmark_metadata(
            extra: bool,
        ) -> (
            Vec<frame_benchmarking::BenchmarkList>,
            Vec<frame_support::traits::StorageInfo>,
        ) {
            crate::benchmarks::metadata(extra)
        }
        fn dispatch_benchmark(
            config: frame_benchmarking::BenchmarkConfig,
        ) -> Result<Vec<frame_benchmarking::BenchmarkBatch>, alloc::string::String> {
            crate::benchmarks::dispatch(config)
        }
    }

    #[cfg(feature = "try-runtime")]
    impl frame_try_runtime::TryRuntime<Block> for Runtime {
        fn on_runtime_upgrade(
            checks: frame_try_runtime::UpgradeCheckSelect,
        ) -> (Weight, Weight) {
            #[allow(clippy::expect_used)]
            let weight = Executive::try_runtime_upgrade(checks).expect("the upgrade is sound");
            (
                weight,
                <Runtime as frame_system::Config>::BlockWeights::get().max_block,
            )
        }
        fn execute_block(
            block: <Block as BlockT>::LazyBlock,
            state_root_check: bool,
            signature_check: bool,
            select: frame_try_runtime::TryStateSelect,
        ) -> Weight {
            #[allow(clippy::expect_used)]
            Executive::try_execute_block(block, state_root_check, signature_check, select)
                .expect("the block is valid")
        }
    }
}

/// A proof that whoever owns the session key is a validator of this session.
fn key_ownership_proof<Key: Encode>(key: (KeyTypeId, Key)) -> Option<Vec<u8>>
where
    Historical: frame_support::traits::KeyOwnerProofSystem<(KeyTypeId, Key)>,
    <Historical as frame_support::traits::KeyOwnerProofSystem<(KeyTypeId, Key)>>::Proof: Encode,
{
    <Historical as frame_support::traits::KeyOwnerProofSystem<(KeyTypeId, Key)>>::prove(key)
        .map(|proof| proof.encode())
}
