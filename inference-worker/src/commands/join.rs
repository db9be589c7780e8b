//! `join`: registers a worker.

use crate::cli::JoinArgs;
use anyhow::{Context, Result};
use openledger_chain::{
    calls::{
        balances::TransferKeepAlive,
        workers::{Capability, Join},
        Call,
    },
    ChainClient, Key, Submitter, SubmitterOptions,
};
use openledger_primitives::voucher::EvidenceClass;

pub async fn run(args: JoinArgs) -> Result<()> {
    let client = ChainClient::connect(&args.chain.url).await?;
    let account = Key::from_file(&args.account_key)
        .with_context(|| format!("the account key in {}", args.account_key.display()))?;
    let service = Key::load_or_generate(&args.service_key)?;
    let needed = args.bond.saturating_add(args.fund_service_key);
    client.funds(account.account(), needed).await?;
    let submitter = Submitter::start(client, account, SubmitterOptions::default());
    let join = Join {
        bond: args.bond,
        service_key: service.account(),
        endpoint: args.endpoint.clone().into_bytes(),
        capability: Capability {
            backend: args.device.device.class(),
            memory_mib: args.memory,
            max_batch: args.max_batch,
            engine: args.device.engine()?.into_bytes(),
            evidence: EvidenceClass::Open,
        },
    };
    // Queued one after the other, so that both can stand in one block.
    let joined = submitter.queue(join.encoded()).await?;
    let funded = submitter
        .queue(TransferKeepAlive::new(service.account(), args.fund_service_key).encoded())
        .await?;
    let outcome = joined.await?;
    funded.await?;
    println!(
        "Worker {} joined in block {} with service key {}.",
        submitter.account(),
        outcome.number,
        service.account()
    );
    println!(
        "Serve with: openledger-worker run --worker {} --service-key {} --store DIR --data DIR",
        submitter.account(),
        args.service_key.display()
    );
    Ok(())
}
