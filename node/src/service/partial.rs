//! What a node and the commands about its database have in common.

use openledger_runtime::{apis::RuntimeApi, opaque::Block, BlockNumber};
use sc_consensus::{BoxBlockImport, DefaultImportQueue};
use sc_consensus_babe::{BabeLink, BabeWorkerHandle};
use sc_consensus_grandpa::LinkHalf;
use sc_executor::WasmExecutor;
use sc_service::{error::Error as ServiceError, Configuration, PartialComponents};
use sc_telemetry::{Telemetry, TelemetryWorker};
use sc_transaction_pool_api::OffchainTransactionPoolFactory;
use std::sync::Arc;

/// What the runtime may call in the node.
#[cfg(not(feature = "runtime-benchmarks"))]
type HostFunctions = sp_io::SubstrateHostFunctions;
#[cfg(feature = "runtime-benchmarks")]
type HostFunctions = (
    sp_io::SubstrateHostFunctions,
    frame_benchmarking::benchmarking::HostFunctions,
);

/// The chain as the node sees it.
pub type FullClient = sc_service::TFullClient<Block, RuntimeApi, WasmExecutor<HostFunctions>>;
/// The database.
pub type FullBackend = sc_service::TFullBackend<Block>;
/// Prefers the longest chain.
pub type FullSelectChain = sc_consensus::LongestChain<FullBackend, Block>;
/// Transactions to come.
pub type FullPool = sc_transaction_pool::TransactionPoolHandle<Block, FullClient>;

/// Consensus, to be started or not.
pub struct Consensus {
    /// Checks and stores blocks, with BABE and GRANDPA.
    pub block_import: BoxBlockImport<Block>,
    /// For the voter.
    pub grandpa_link: LinkHalf<Block, FullClient, FullSelectChain>,
    /// For the author.
    pub babe_link: BabeLink<Block>,
    /// Answers about epochs.
    pub babe_worker: BabeWorkerHandle<Block>,
    /// Reports to a telemetry server, where one is configured.
    pub telemetry: Option<Telemetry>,
}

type Partial = PartialComponents<
    FullClient,
    FullBackend,
    FullSelectChain,
    DefaultImportQueue<Block>,
    FullPool,
    Consensus,
>;

/// GRANDPA keeps a justification at least every so many blocks.
pub const JUSTIFICATION_PERIOD: u32 = 512;

/// Opens the database and prepares to import blocks.
pub fn new_partial(config: &Configuration) -> Result<Partial, ServiceError> {
    let telemetry = config
        .telemetry_endpoints
        .clone()
        .filter(|endpoints| !endpoints.is_empty())
        .map(|endpoints| -> Result<_, sc_telemetry::Error> {
            let worker = TelemetryWorker::new(16)?;
            let telemetry = worker.handle().new_telemetry(endpoints);
            Ok((worker, telemetry))
        })
        .transpose()?;

    let executor = sc_service::new_wasm_executor::<HostFunctions>(&config.executor);
    let (client, backend, keystore_container, task_manager) =
        sc_service::new_full_parts::<Block, RuntimeApi, _>(
            config,
            telemetry.as_ref().map(|(_, telemetry)| telemetry.handle()),
            executor,
            Vec::new(),
        )?;
    let client = Arc::new(client);
    let telemetry = telemetry.map(|(worker, telemetry)| {
        task_manager
            .spawn_handle()
            .spawn("telemetry", None, worker.run());
        telemetry
    });

    let select_chain = sc_consensus::LongestChain::new(backend.clone());
    let transaction_pool = Arc::from(
        sc_transaction_pool::Builder::new(
            task_manager.spawn_essential_handle(),
            client.clone(),
            config.role.is_authority().into(),
        )
        .with_options(config.transaction_pool.clone())
        .with_prometheus(config.prometheus_registry())
        .build(),
    );

    let (grandpa_import, grandpa_link) = sc_consensus_grandpa::block_import(
        client.clone(),
        JUSTIFICATION_PERIOD,
        &client,
        select_chain.clone(),
        telemetry.as_ref().map(Telemetry::handle),
    )?;
    let justification_import = grandpa_import.clone();

    let babe_config = sc_consensus_babe::configuration(&*client)?;
    let slot_duration = babe_config.slot_duration();
    let (block_import, babe_link) = sc_consensus_babe::block_import(
        babe_config,
        grandpa_import,
        client.clone(),
        super::full::inherents(slot_duration),
        select_chain.clone(),
        OffchainTransactionPoolFactory::new(transaction_pool.clone()),
    )?;

    let (import_queue, babe_worker) =
        sc_consensus_babe::import_queue(sc_consensus_babe::ImportQueueParams {
            link: babe_link.clone(),
            block_import: block_import.clone(),
            justification_import: Some(Box::new(justification_import)),
            client: client.clone(),
            slot_duration,
            spawner: &task_manager.spawn_essential_handle(),
            registry: config.prometheus_registry(),
            telemetry: telemetry.as_ref().map(Telemetry::handle),
        })?;

    Ok(PartialComponents {
        client,
        backend,
        task_manager,
        keystore_container,
        select_chain,
        import_queue,
        transaction_pool,
        other: Consensus {
            block_import: Box::new(block_import),
            grandpa_link,
            babe_link,
            babe_worker,
            telemetry,
        },
    })
}

/// Takes what BABE and GRANDPA keep beside the blocks back by `blocks`.
pub fn revert_consensus(
    client: Arc<FullClient>,
    backend: Arc<FullBackend>,
    blocks: BlockNumber,
) -> sc_cli::Result<()> {
    sc_consensus_babe::revert(client.clone(), backend, blocks)?;
    sc_consensus_grandpa::revert(client, blocks)?;
    Ok(())
}
