//! The layout of the file, and what an older one lacks.

use super::{batches, decode, JournalError, JournaledBatch, BATCHES, UNRELEASED};
use redb::{ReadableTable, TableDefinition, WriteTransaction};

/// What the file is written in.
const LAYOUT: u32 = 2;

/// Facts about the file by name. A journal of the first layout has none.
const META: TableDefinition<'_, &str, u32> = TableDefinition::new("meta");

/// Brings a file of an older layout to this one, within the transaction that opens it.
///
/// The first layout had no list of the batches that are not released: every batch ever written was read
/// to find the few that are open.
pub(super) fn migrate(transaction: &WriteTransaction) -> Result<(), JournalError> {
    let mut meta = transaction.open_table(META)?;
    let known = meta.get("layout")?.map(|layout| layout.value());
    match known {
        Some(LAYOUT) => return Ok(()),
        Some(other) => return Err(JournalError::Layout(other)),
        None => {}
    }
    let mut unreleased = transaction.open_table(UNRELEASED)?;
    for entry in transaction.open_table(BATCHES)?.iter()? {
        let (sequence, bytes) = entry?;
        let journaled: JournaledBatch = decode(bytes.value(), "batch")?;
        batches::list(&mut unreleased, sequence.value(), journaled.state)?;
    }
    meta.insert("layout", LAYOUT)?;
    Ok(())
}
