//! `verify-receipt`: checks what anybody can check of a receipt.

use crate::cli::VerifyReceiptArgs;
use anyhow::{bail, ensure, Context, Result};
use openledger_chain::{AccountId, ChainClient};
use openledger_metering::{verify, SignedReceipt, SignedVoucher};
use openledger_primitives::{
    receipt::{output_commit, Outcome},
    PublicKey,
};

pub async fn run(args: VerifyReceiptArgs) -> Result<()> {
    let receipt = SignedReceipt::from_bytes(&bytes("--receipt", &args.receipt)?)
        .context("--receipt is not a receipt and its signature")?;
    let voucher = SignedVoucher::from_bytes(&bytes("--voucher", &args.voucher)?)
        .context("--voucher is not a voucher and its signature")?;
    let (said, paid) = (&receipt.receipt, &voucher.voucher);
    let client = match &args.key {
        Some(_) => None,
        None => Some(ChainClient::connect(&args.chain.url).await?),
    };
    let keys: Vec<PublicKey> = match (&args.key, &client) {
        (Some(key), _) => vec![array("--key", key)?],
        (None, Some(client)) => service_keys(client, AccountId(said.worker)).await?,
        (None, None) => Vec::new(),
    };
    ensure!(
        keys.iter()
            .any(|key| verify(key, &said.hash(), &receipt.signature)),
        "the receipt is not signed by the worker's service key"
    );
    ensure!(
        said.voucher == paid.hash(),
        "the receipt is for another voucher"
    );
    ensure!(
        said.domain == paid.domain,
        "receipt and voucher are of different chains"
    );
    ensure!(
        said.fee <= paid.max_fee,
        "the receipt charges {} planck, the voucher allows {}",
        said.fee,
        paid.max_fee
    );
    ensure!(
        Some(said.cum) == paid.prev_cum.checked_add(said.fee),
        "the cumulative charge does not follow from the voucher's"
    );
    match &client {
        Some(client) => on_chain(client, &receipt, &voucher).await?,
        None => println!("Not checked without the chain: the voucher's signer, and the price."),
    }
    if let (Some(output), Some(salt)) = (&args.output, &args.output_salt) {
        ensure!(
            said.output_commit == output_commit(&array("--output-salt", salt)?, output.as_bytes()),
            "the receipt commits to another text"
        );
        println!("The text is the one delivered.");
    }
    println!(
        "Valid: channel {} lane {} sequence {}, {} + {} tokens, {} planck, receipt 0x{}.",
        paid.channel,
        paid.lane,
        paid.sequence,
        said.tokens_in,
        said.tokens_out,
        said.fee,
        hex::encode(said.hash())
    );
    Ok(())
}

/// Keys that may have signed receipts of the worker.
async fn service_keys(client: &ChainClient, worker: AccountId) -> Result<Vec<PublicKey>> {
    let Some(info) = client.worker(worker).await? else {
        bail!("{worker} is not a worker on this chain");
    };
    Ok(info
        .service_keys
        .iter()
        .map(|service| service.account.0)
        .collect())
}

/// What only the chain can tell: its domain, what the tokens cost, and who signs for the lane.
async fn on_chain(
    client: &ChainClient,
    receipt: &SignedReceipt,
    voucher: &SignedVoucher,
) -> Result<()> {
    let (said, paid) = (&receipt.receipt, &voucher.voucher);
    ensure!(
        said.domain == client.domain().await?,
        "the receipt is of another chain"
    );
    let quote = client
        .quote(
            paid.revision,
            Some(paid.terms),
            said.tokens_in,
            said.tokens_out,
        )
        .await?
        .with_context(|| {
            format!(
                "revision {} has no terms {} on this chain",
                paid.revision, paid.terms
            )
        })?;
    // A failed answer costs nothing whatever it took.
    ensure!(
        said.fee == quote.fee || (said.outcome == Outcome::Failed && said.fee == 0),
        "the receipt charges {} planck, its tokens cost {}",
        said.fee,
        quote.fee
    );
    match client.channel(paid.channel).await? {
        Some(channel) => {
            let signer = channel
                .lanes
                .iter()
                .find(|lane| lane.lane == paid.lane)
                .map(|lane| lane.signer)
                .with_context(|| format!("channel {} has no such lane", paid.channel))?;
            ensure!(
                verify(&signer, &paid.hash(), &voucher.signature),
                "the voucher is not signed by the lane's signer"
            );
        }
        None => println!(
            "Not checked: the voucher's signer, because channel {} is closed.",
            paid.channel
        ),
    }
    Ok(())
}

fn bytes(name: &str, text: &str) -> Result<Vec<u8>> {
    hex::decode(text.trim_start_matches("0x")).with_context(|| format!("{name} must be hex"))
}

fn array(name: &str, text: &str) -> Result<[u8; 32]> {
    let Ok(array) = bytes(name, text)?.try_into() else {
        bail!("{name} must be 32 bytes of hex");
    };
    Ok(array)
}
