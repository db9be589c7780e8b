//! The people of the story, each with a key of its own, and the account that funds them.

use anyhow::Result;
use futures::future::try_join_all;
use openledger_chain::{
    calls::{balances::TransferKeepAlive, Call},
    AccountId, ChainClient, Key, Submitter, SubmitterOptions, OPEN,
};
use std::path::{Path, PathBuf};

/// Somebody with a key and a task that submits their calls.
pub struct Actor {
    /// What they are called here.
    pub name: &'static str,
    /// File of their key.
    pub key_file: PathBuf,
    /// Submits their calls.
    pub chain: Submitter,
}

impl Actor {
    fn new(name: &'static str, keys: &Path, client: &ChainClient) -> Result<Self> {
        let key_file = keys.join(name);
        let key = Key::generate(&key_file)?;
        Ok(Actor {
            name,
            key_file,
            chain: Submitter::start(client.clone(), key, SubmitterOptions::default()),
        })
    }

    /// Their account.
    pub fn account(&self) -> AccountId {
        self.chain.account()
    }
}

/// Everyone.
pub struct Cast {
    /// Owns the worker and its bond.
    pub operator: Actor,
    /// Founds the Datanets and admits what is good.
    pub owner: Actor,
    /// Contribute documents: two to the first Datanet, one to the second.
    pub contributors: [Actor; 3],
    /// Trains and publishes.
    pub developer: Actor,
    /// Asks and pays.
    pub consumer: Actor,
}

impl Cast {
    /// Makes the keys.
    pub fn new(keys: &Path, client: &ChainClient) -> Result<Self> {
        std::fs::create_dir_all(keys)?;
        let actor = |name| Actor::new(name, keys, client);
        Ok(Cast {
            operator: actor("operator")?,
            owner: actor("owner")?,
            contributors: [actor("ada")?, actor("ben")?, actor("cleo")?],
            developer: actor("developer")?,
            consumer: actor("consumer")?,
        })
    }

    /// Everybody.
    pub fn all(&self) -> Vec<&Actor> {
        let mut all = vec![&self.operator, &self.owner, &self.developer, &self.consumer];
        all.extend(&self.contributors);
        all
    }

    /// Funds everybody from the development chain's endowed account: the only use of its key.
    pub async fn fund(&self, client: &ChainClient) -> Result<()> {
        let alice = Key::from_uri("//Alice")?;
        let purse = Submitter::start(client.clone(), alice, SubmitterOptions::default());
        let mut transfers = Vec::new();
        for actor in self.all() {
            let call = TransferKeepAlive::new(actor.account(), 10_000 * OPEN);
            transfers.push(purse.queue(call.encoded()).await?);
        }
        try_join_all(transfers).await?;
        Ok(())
    }
}
