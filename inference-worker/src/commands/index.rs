//! `index`: builds the span index of a revision.

use super::versions;
use crate::{
    cli::IndexArgs,
    indexing::{builder, Version},
};
use anyhow::Result;
use openledger_chain::ChainClient;
use openledger_primitives::hash::blake2_256;
use openledger_spans::VersionRef;
use openledger_text::TextModel;

pub async fn run(args: IndexArgs) -> Result<()> {
    let text = TextModel::from_dir(&args.base)?;
    let tokenizer = blake2_256(&std::fs::read(args.base.join("tokenizer.json"))?);
    let client = ChainClient::connect(&args.chain.url).await?;
    let store = args.store.open()?;
    let sealed = versions::read(&client, &store, &args.versions).await?;
    let versions = sealed
        .iter()
        .map(|version| Version {
            of: VersionRef {
                datanet: version.name.datanet,
                version: version.name.version,
                root: version.root,
            },
            contributions: version
                .contributions
                .iter()
                .map(|(id, rows)| (*id, rows))
                .collect(),
        })
        .collect();
    let builder = builder(&text, tokenizer, versions)?;
    builder.build(&args.out)?;
    println!(
        "{} positions indexed in {}",
        builder.positions(),
        args.out.display()
    );
    Ok(())
}
