//! `verify-receipt`: checks what anybody can check of a receipt.

use crate::cli::VerifyReceiptArgs;
use anyhow::{bail, ensure, Context, Result};
use openledger_chain::{AccountId, ChainClient};
use openledger_metering::{verify, SignedReceipt, SignedVoucher};
use openledger_primitives::{receipt::output_commit, PublicKey};

pub async fn run(args: VerifyReceiptArgs) -> Result<()> {
    let receipt = SignedReceipt::from_bytes(&bytes("--receipt", &args.receipt)?)
        .context("--receipt is not a receipt and its signature")?;
    let voucher = SignedVoucher::from_bytes(&bytes("--voucher", &args.voucher)?)
        .context("--voucher is not a voucher and its signature")?;
    let (said, paid) = (&receipt.receipt, &voucher.voucher);
    let keys: Vec<PublicKey> = match &args.key {
        Some(key) => vec![array("--key", key)?],
        None => {
            let client = ChainClient::connect(&args.chain.url).await?;
            let worker = AccountId(said.worker);
            let Some(info) = client.worker(worker).await? else {
                bail!("{worker} is not a worker on this chain");
            };
            info.service_keys
                .iter()
                .map(|service| service.account.0)
                .collect()
        }
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

fn bytes(name: &str, text: &str) -> Result<Vec<u8>> {
    hex::decode(text.trim_start_matches("0x")).with_context(|| format!("{name} must be hex"))
}

fn array(name: &str, text: &str) -> Result<[u8; 32]> {
    let Ok(array) = bytes(name, text)?.try_into() else {
        bail!("{name} must be 32 bytes of hex");
    };
    Ok(array)
}
