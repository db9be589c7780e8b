//! `key`: the SDK's key commands, and the rotation of a running validator's session keys.

use crate::cli::Cli;
use clap::Parser;
use openledger_runtime::AccountId;
use parity_scale_codec::Encode;
use sc_cli::KeySubcommand;
use serde::Deserialize;
use serde_json::json;
use sp_core::{bytes::to_hex, crypto::Ss58Codec};

/// Commands about keys.
#[derive(Debug, clap::Subcommand)]
pub enum KeyCmd {
    /// The SDK's.
    #[command(flatten)]
    Sdk(KeySubcommand),
    /// Make a running validator generate new session keys, and print them with the proof that they
    /// are the owner's, as `session.setKeys` takes them.
    Rotate(RotateCmd),
}

impl KeyCmd {
    /// Runs the command.
    pub fn run(&self, cli: &Cli) -> sc_cli::Result<()> {
        match self {
            KeyCmd::Sdk(cmd) => cmd.run(cli),
            KeyCmd::Rotate(cmd) => cmd.run(),
        }
    }
}

/// Session keys belong to an account, and the chain takes them only with a proof of it; the node
/// makes both.
#[derive(Debug, Parser)]
pub struct RotateCmd {
    /// The validator's account, as an address.
    #[arg(long, value_parser = parse_account)]
    owner: AccountId,

    /// The validator's own RPC endpoint; it must allow unsafe methods.
    #[arg(long, default_value = "http://127.0.0.1:9944")]
    url: String,
}

fn parse_account(text: &str) -> Result<AccountId, String> {
    AccountId::from_ss58check(text).map_err(|error| format!("not an address: {error}"))
}

#[derive(Deserialize)]
struct Response {
    result: Option<RotatedKeys>,
    error: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct RotatedKeys {
    keys: String,
    proof: Option<String>,
}

impl RotateCmd {
    fn run(&self) -> sc_cli::Result<()> {
        let RotatedKeys { keys, proof } = tokio::runtime::Runtime::new()?.block_on(self.ask())?;
        let proof = proof.ok_or("the chain made no proof of ownership")?;
        println!("keys:  {keys}\nproof: {proof}");
        println!("Submit session.setKeys(keys, proof) from {}.", self.owner);
        Ok(())
    }

    async fn ask(&self) -> sc_cli::Result<RotatedKeys> {
        let failed = |error: reqwest::Error| format!("{} cannot be asked: {error}", self.url);
        let response: Response = reqwest::Client::new()
            .post(&self.url)
            .json(&json!({
                "jsonrpc": "2.0",
                "id": 1,
                "method": "author_rotateKeysWithOwner",
                "params": [to_hex(&self.owner.encode(), false)],
            }))
            .send()
            .await
            .map_err(failed)?
            .json()
            .await
            .map_err(failed)?;
        match response.error {
            Some(error) => Err(format!("the node refused: {error}").into()),
            None => Ok(response.result.ok_or("the node answered nothing")?),
        }
    }
}
