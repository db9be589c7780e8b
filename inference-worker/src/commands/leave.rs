//! `leave`: drains a worker, and lets it go when nothing is owed.

use crate::cli::OwnerArgs;
use anyhow::{Context, Result};
use openledger_chain::{
    calls::workers::{Drain, Leave},
    ChainClient, Key, SubmitError, Submitter, SubmitterOptions,
};

pub async fn run(args: OwnerArgs) -> Result<()> {
    let client = ChainClient::connect(&args.chain.url).await?;
    let account = Key::from_file(&args.account_key)
        .with_context(|| format!("the account key in {}", args.account_key.display()))?;
    let submitter = Submitter::start(client, account, SubmitterOptions::default());
    match submitter.submit(&Drain {}).await {
        Ok(outcome) => println!("Draining since block {}: no new channels.", outcome.number),
        Err(error) if error.is("Workers", "AlreadyDraining") => println!("Draining already."),
        Err(error) => return Err(error.into()),
    }
    match submitter.submit(&Leave {}).await {
        Ok(outcome) => {
            println!(
                "Left in block {}. The bond thaws; withdraw it then.",
                outcome.number
            );
            Ok(())
        }
        Err(error @ SubmitError::Dispatch { .. }) => Err(error)
            .context("not yet free to leave; run this again when what is named is settled"),
        Err(error) => Err(error.into()),
    }
}
