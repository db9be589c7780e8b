//! A running node: network, RPC, author, voter, authority discovery.

use super::partial::{new_partial, Consensus, FullBackend, FullClient, JUSTIFICATION_PERIOD};
use crate::rpc;
use futures::{FutureExt, StreamExt};
use openledger_runtime::{opaque::Block, Hash};
use sc_client_api::{Backend, BlockBackend};
use sc_consensus_babe::SlotProportion;
use sc_consensus_grandpa::SharedVoterState;
use sc_network::{
    config::NetworkBackendType, event::Event, service::traits::NetworkService, NetworkBackend,
    NetworkEventStream,
};
use sc_service::{
    error::Error as ServiceError, Configuration, PartialComponents, TaskManager, WarpSyncConfig,
};
use sc_telemetry::Telemetry;
use sc_transaction_pool_api::OffchainTransactionPoolFactory;
use sp_consensus_babe::{inherents::InherentDataProvider as SlotProvider, SlotDuration};
use sp_inherents::CreateInherentDataProviders;
use sp_timestamp::InherentDataProvider as TimestampProvider;
use std::{sync::Arc, time::Duration};

/// Slot and time, the two things that a block takes from the author's clock.
pub fn inherents(
    slot_duration: SlotDuration,
) -> impl CreateInherentDataProviders<
    Block,
    (),
    InherentDataProviders = (SlotProvider, TimestampProvider),
> + Clone {
    move |_, ()| async move {
        let timestamp = TimestampProvider::from_system_time();
        let slot = SlotProvider::from_timestamp_and_slot_duration(*timestamp, slot_duration);
        Ok((slot, timestamp))
    }
}

/// Starts a node with the network that the configuration names.
pub fn new_full(config: Configuration) -> Result<TaskManager, ServiceError> {
    match config.network.network_backend {
        NetworkBackendType::Libp2p => start::<sc_network::NetworkWorker<_, _>>(config),
        NetworkBackendType::Litep2p => start::<sc_network::Litep2pNetworkBackend>(config),
    }
}

fn start<N: NetworkBackend<Block, Hash>>(
    config: Configuration,
) -> Result<TaskManager, ServiceError> {
    let PartialComponents {
        client,
        backend,
        mut task_manager,
        import_queue,
        keystore_container,
        select_chain,
        transaction_pool,
        other:
            Consensus {
                block_import,
                grandpa_link,
                babe_link,
                babe_worker,
                mut telemetry,
            },
    } = new_partial(&config)?;

    let metrics = N::register_notification_metrics(config.prometheus_registry());
    let mut net_config = sc_network::config::FullNetworkConfiguration::<_, _, N>::new(
        &config.network,
        config.prometheus_registry().cloned(),
    );
    let genesis = client
        .block_hash(0)?
        .ok_or_else(|| ServiceError::Other("the database has no genesis block".into()))?;
    let grandpa_protocol =
        sc_consensus_grandpa::protocol_standard_name(&genesis, &config.chain_spec);
    let (grandpa_network, grandpa_notifications) =
        sc_consensus_grandpa::grandpa_peers_set_config::<_, N>(
            grandpa_protocol.clone(),
            metrics.clone(),
            net_config.peer_store_handle(),
        );
    net_config.add_notification_protocol(grandpa_network);
    let warp_sync = Arc::new(sc_consensus_grandpa::warp_proof::NetworkProvider::new(
        backend.clone(),
        grandpa_link.shared_authority_set().clone(),
        Vec::new(),
    ));

    let (network, system_rpc_tx, tx_handler_controller, sync_service, _) =
        sc_service::build_network(sc_service::BuildNetworkParams {
            config: &config,
            net_config,
            client: client.clone(),
            transaction_pool: transaction_pool.clone(),
            spawn_handle: task_manager.spawn_handle(),
            spawn_essential_handle: task_manager.spawn_essential_handle(),
            import_queue,
            block_announce_validator_builder: None,
            warp_sync_config: Some(WarpSyncConfig::WithProvider(warp_sync)),
            block_relay: None,
            metrics,
            gap_sync_body_policy: None,
        })?;

    let role = config.role;
    let name = config.network.node_name.clone();
    let force_authoring = config.force_authoring;
    let grandpa_disabled = config.disable_grandpa;
    let prometheus = config.prometheus_registry().cloned();
    let voter_state = SharedVoterState::empty();
    let pool_factory = OffchainTransactionPoolFactory::new(transaction_pool.clone());

    if config.offchain_worker.enabled {
        spawn_offchain_workers(
            &task_manager,
            &client,
            &backend,
            &network,
            keystore_container.keystore(),
            pool_factory.clone(),
            role.is_authority(),
        )?;
    }

    let rpc_builder = {
        let client = client.clone();
        let pool = transaction_pool.clone();
        let select_chain = select_chain.clone();
        let keystore = keystore_container.keystore();
        let chain_spec = config.chain_spec.cloned_box();
        let authority_set = grandpa_link.shared_authority_set().clone();
        let justifications = grandpa_link.justification_stream();
        let voter_state = voter_state.clone();
        let finality = sc_consensus_grandpa::FinalityProofProvider::new_for_service(
            backend.clone(),
            Some(authority_set.clone()),
        );
        Box::new(move |subscriptions| {
            let deps = rpc::FullDeps {
                client: client.clone(),
                pool: pool.clone(),
                select_chain: select_chain.clone(),
                chain_spec: chain_spec.cloned_box(),
                keystore: keystore.clone(),
                babe_worker: babe_worker.clone(),
                grandpa: rpc::GrandpaDeps {
                    shared_voter_state: voter_state.clone(),
                    shared_authority_set: authority_set.clone(),
                    justification_stream: justifications.clone(),
                    finality_provider: finality.clone(),
                },
            };
            rpc::create(deps, subscriptions).map_err(Into::into)
        })
    };
    let public_addresses = config.network.public_addresses.clone();

    sc_service::spawn_tasks(sc_service::SpawnTasksParams {
        config,
        client: client.clone(),
        backend,
        task_manager: &mut task_manager,
        keystore: keystore_container.keystore(),
        transaction_pool: transaction_pool.clone(),
        rpc_builder,
        network: network.clone(),
        system_rpc_tx,
        tx_handler_controller,
        sync_service: sync_service.clone(),
        telemetry: telemetry.as_mut(),
        tracing_execute_block: None,
    })?;

    if role.is_authority() {
        let proposer = sc_basic_authorship::ProposerFactory::new(
            task_manager.spawn_handle(),
            client.clone(),
            transaction_pool,
            prometheus.as_ref(),
            telemetry.as_ref().map(Telemetry::handle),
        );
        let slot_duration = babe_link.config().slot_duration();
        let babe = sc_consensus_babe::start_babe(sc_consensus_babe::BabeParams {
            keystore: keystore_container.keystore(),
            client: client.clone(),
            select_chain,
            env: proposer,
            block_import,
            sync_oracle: sync_service.clone(),
            justification_sync_link: sync_service.clone(),
            create_inherent_data_providers: inherents(slot_duration),
            force_authoring,
            backoff_authoring_blocks: Some(
                sc_consensus_slots::BackoffAuthoringOnFinalizedHeadLagging::default(),
            ),
            babe_link,
            // The rest of the slot is for the block to travel.
            block_proposal_slot_portion: SlotProportion::new(0.5),
            max_block_proposal_slot_portion: None,
            telemetry: telemetry.as_ref().map(Telemetry::handle),
        })?;
        task_manager.spawn_essential_handle().spawn_blocking(
            "babe-proposer",
            Some("block-authoring"),
            babe,
        );
        spawn_authority_discovery(
            &task_manager,
            &client,
            &network,
            keystore_container.keystore(),
            public_addresses,
            prometheus.clone(),
        );
    }

    if grandpa_disabled {
        return Ok(task_manager);
    }
    let voter = sc_consensus_grandpa::Config {
        gossip_duration: Duration::from_millis(333),
        justification_generation_period: JUSTIFICATION_PERIOD,
        name: Some(name),
        observer_enabled: false,
        keystore: role.is_authority().then(|| keystore_container.keystore()),
        local_role: role,
        telemetry: telemetry.as_ref().map(Telemetry::handle),
        protocol_name: grandpa_protocol,
    };
    // Without keys it only follows the others' votes, and so learns what is final.
    let grandpa = sc_consensus_grandpa::run_grandpa_voter(sc_consensus_grandpa::GrandpaParams {
        config: voter,
        link: grandpa_link,
        network,
        sync: sync_service,
        notification_service: grandpa_notifications,
        voting_rule: sc_consensus_grandpa::VotingRulesBuilder::default().build(),
        prometheus_registry: prometheus,
        shared_voter_state: voter_state,
        telemetry: telemetry.as_ref().map(Telemetry::handle),
        offchain_tx_pool_factory: pool_factory,
    })?;
    task_manager
        .spawn_essential_handle()
        .spawn_blocking("grandpa-voter", None, grandpa);

    Ok(task_manager)
}

fn spawn_offchain_workers(
    task_manager: &TaskManager,
    client: &Arc<FullClient>,
    backend: &Arc<FullBackend>,
    network: &Arc<dyn NetworkService>,
    keystore: sp_keystore::KeystorePtr,
    pool: OffchainTransactionPoolFactory<Block>,
    is_validator: bool,
) -> Result<(), ServiceError> {
    let workers = sc_offchain::OffchainWorkers::new(sc_offchain::OffchainWorkerOptions {
        runtime_api_provider: client.clone(),
        keystore: Some(keystore),
        offchain_db: backend.offchain_storage(),
        transaction_pool: Some(pool),
        network_provider: Arc::new(network.clone()),
        is_validator,
        enable_http_requests: false,
        custom_extensions: |_| Vec::new(),
    })?;
    task_manager.spawn_handle().spawn(
        "offchain-workers-runner",
        "offchain-worker",
        workers
            .run(client.clone(), task_manager.spawn_handle())
            .boxed(),
    );
    Ok(())
}

fn spawn_authority_discovery(
    task_manager: &TaskManager,
    client: &Arc<FullClient>,
    network: &Arc<dyn NetworkService>,
    keystore: sp_keystore::KeystorePtr,
    public_addresses: Vec<sc_network::Multiaddr>,
    prometheus: Option<substrate_prometheus_endpoint::Registry>,
) {
    let dht = network
        .event_stream("authority-discovery")
        .filter_map(|event| async move {
            match event {
                Event::Dht(event) => Some(event),
                _ => None,
            }
        });
    let (worker, _) = sc_authority_discovery::new_worker_and_service_with_config(
        sc_authority_discovery::WorkerConfig {
            publish_non_global_ips: false,
            public_addresses,
            ..Default::default()
        },
        client.clone(),
        Arc::new(network.clone()),
        Box::pin(dht),
        sc_authority_discovery::Role::PublishAndDiscover(keystore),
        prometheus,
        task_manager.spawn_handle(),
    );
    task_manager.spawn_handle().spawn(
        "authority-discovery-worker",
        Some("networking"),
        worker.run(),
    );
}
