//! `index`: builds the span index of a revision.

use crate::cli::IndexArgs;
use anyhow::{bail, Context, Result};
use openledger_primitives::{hash::blake2_256, Digest};
use openledger_spans::{Builder, RowKey, VersionRef};
use openledger_store::Rows;
use openledger_text::TextModel;
use std::path::PathBuf;

/// `DATANET:VERSION:ROOT:CONTRIBUTION:ROWS_FILE`.
struct Spec {
    version: VersionRef,
    contribution: u64,
    rows: PathBuf,
}

pub fn run(args: IndexArgs) -> Result<()> {
    let text = TextModel::from_dir(&args.base)?;
    let tokenizer = blake2_256(&std::fs::read(args.base.join("tokenizer.json"))?);
    let mut specs = args
        .contributions
        .iter()
        .map(|spec| parse(spec))
        .collect::<Result<Vec<_>>>()?;
    specs.sort_by_key(|spec| {
        (
            spec.version.datanet,
            spec.version.version,
            spec.contribution,
        )
    });
    let mut versions: Vec<VersionRef> = specs.iter().map(|spec| spec.version).collect();
    versions.dedup();
    let vocabulary = u32::try_from(text.tokenizer().vocab_size())?;
    let mut builder = Builder::new(vocabulary, tokenizer, versions)?;
    for spec in &specs {
        let rows = std::fs::read(&spec.rows)
            .with_context(|| format!("the rows in {}", spec.rows.display()))?;
        let rows = Rows::from_jsonl(&rows)?;
        for (number, row) in rows.as_slice().iter().enumerate() {
            let texts = row
                .texts()
                .map(|passage| text.tokenizer().encode(passage, false))
                .collect::<Result<Vec<_>, _>>()?;
            let key = RowKey {
                datanet: spec.version.datanet,
                version: spec.version.version,
                contribution: spec.contribution,
                row: u32::try_from(number)?,
            };
            builder.add(key, &texts)?;
        }
    }
    builder.build(&args.out)?;
    println!(
        "{} positions indexed in {}",
        builder.positions(),
        args.out.display()
    );
    Ok(())
}

fn parse(spec: &str) -> Result<Spec> {
    let parts: Vec<&str> = spec.splitn(5, ':').collect();
    let [datanet, version, root, contribution, rows] = parts[..] else {
        bail!("`{spec}` is not DATANET:VERSION:ROOT:CONTRIBUTION:ROWS_FILE");
    };
    let root: Option<Digest> = hex::decode(root.trim_start_matches("0x"))
        .ok()
        .and_then(|bytes| bytes.try_into().ok());
    Ok(Spec {
        version: VersionRef {
            datanet: datanet
                .parse()
                .with_context(|| format!("the Datanet in `{spec}`"))?,
            version: version
                .parse()
                .with_context(|| format!("the version in `{spec}`"))?,
            root: root.with_context(|| format!("the version's root in `{spec}`"))?,
        },
        contribution: contribution
            .parse()
            .with_context(|| format!("the contribution in `{spec}`"))?,
        rows: rows.into(),
    })
}
