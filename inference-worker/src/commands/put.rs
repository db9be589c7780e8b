//! `put`: brings rows or a folder into the store and prints what the chain is told of them.

use crate::cli::PutArgs;
use anyhow::{Context, Result};
use openledger_store::{Rows, Store};
use serde_json::{json, Map};

pub fn run(args: PutArgs) -> Result<()> {
    // Without the remote behind it: what is put is sent there, nothing is fetched.
    let store = Store::open(&args.store)?;
    let remote = args.remote.connect()?;
    let path = &args.path;
    let named = || path.display().to_string();
    if path.is_dir() {
        args.kind.check(path)?;
        let digest = store.put_folder(args.kind.name(), path, Map::new())?;
        let sent = remote
            .map(|remote| store.upload_folder(&remote, &digest))
            .transpose()?;
        let mut put = json!({ "manifest": format!("0x{}", hex::encode(digest)) });
        if let Some(sent) = sent {
            put["uploaded"] = json!(sent);
        }
        println!("{}", serde_json::to_string_pretty(&put)?);
        return Ok(());
    }
    let bytes = std::fs::read(path).with_context(named)?;
    let rows = Rows::import(&bytes).with_context(named)?;
    let locator = store.put_rows(&rows)?;
    let sent = remote
        .map(|remote| store.upload(&remote, &locator))
        .transpose()?;
    let mut put = json!({
        "contentRoot": format!("0x{}", hex::encode(rows.content_root())),
        "sketchScheme": openledger_primitives::sketch::SCHEME,
        "rows": rows.as_slice().len(),
        "bytes": rows.bytes(),
        "locator": format!("0x{}", hex::encode(locator)),
    });
    if let Some(sent) = sent {
        put["uploaded"] = json!(usize::from(sent));
    }
    println!("{}", serde_json::to_string_pretty(&put)?);
    Ok(())
}
