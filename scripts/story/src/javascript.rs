//! Clients in JavaScript: scripts with packages of their own beside this program.

use crate::processes::complete;
use anyhow::{Context, Result};
use openledger_chain::AccountId;
use serde_json::Value;
use std::{path::Path, process::Command, time::SystemTime};

/// Runs a script of the folder `package`, which has a lock file of its own, and reads the JSON that
/// it prints. Paths are those of the repository, from whose root this program runs.
pub async fn run(
    package: &str,
    script: &str,
    arguments: impl FnOnce(&mut Command),
) -> Result<Value> {
    let folder = Path::new(package);
    if !is_installed(folder) {
        let mut command = Command::new("npm");
        command.args(["ci", "--no-audit", "--no-fund", "--silent", "--prefix"]);
        command.arg(folder);
        complete("npm ci", command).await?;
    }
    let mut command = Command::new("node");
    command.arg(folder.join(script));
    arguments(&mut command);
    let printed = complete(script, command).await?;
    serde_json::from_str(&printed).with_context(|| format!("{script} printed no JSON: {printed}"))
}

/// An account as the scripts print it: hex, for an address differs with the chain's prefix.
pub fn account(account: AccountId) -> String {
    format!("0x{}", hex::encode(account.0))
}

/// Whether the packages were installed after the lock file was last changed.
fn is_installed(folder: &Path) -> bool {
    let changed = |file: &str| -> Option<SystemTime> {
        let found = folder.join(file).metadata().ok()?;
        found.modified().ok()
    };
    match (
        changed("node_modules/.package-lock.json"),
        changed("package-lock.json"),
    ) {
        (Some(installed), Some(locked)) => installed >= locked,
        _ => false,
    }
}
