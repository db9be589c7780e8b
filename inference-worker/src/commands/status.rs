//! `status`: what the chain knows of a worker.

use crate::cli::StatusArgs;
use anyhow::{bail, Result};
use openledger_chain::{amount::in_open, apis::settlement::WorkerExposure, AccountId, ChainClient};

pub async fn run(args: StatusArgs) -> Result<()> {
    let client = ChainClient::connect(&args.chain.url).await?;
    let worker: AccountId = args.worker.parse().map_err(anyhow::Error::msg)?;
    let Some(info) = client.worker(worker).await? else {
        bail!("{worker} is not a worker; register it with `openledger-worker join`");
    };
    let exposure = client.query(&WorkerExposure { worker }).await?;
    let (next, _) = client.next_batch(worker).await?;
    println!("worker         {worker}");
    println!("endpoint       {}", String::from_utf8_lossy(&info.endpoint));
    println!("standing       {:?}", info.standing);
    println!("heartbeat      block {}", info.last_heartbeat);
    println!("serves         {:?}", client.served_by(worker).await?);
    println!("own bond       {}", open(exposure.own));
    println!("reserved       {}", open(exposure.reserved));
    println!("in challenge   {} of fees", open(exposure.window_fees));
    println!(
        "room           {} of fees in the next batch",
        open(exposure.room)
    );
    println!("batches        {}", next.saturating_sub(1));
    Ok(())
}

/// Planck as OPEN.
fn open(planck: u128) -> String {
    format!("{} OPEN", in_open(planck))
}
