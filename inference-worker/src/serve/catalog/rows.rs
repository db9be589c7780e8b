//! Rows in memory, once each.

use openledger_primitives::Digest;
use openledger_store::{Rows, Store, StoreError};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

/// Rows by locator. Revisions of one Datanet have most of their rows in common; as many as there are,
/// an object is read and held once, for as long as one of them is served.
#[derive(Clone, Default)]
pub(super) struct SharedRows(Arc<Mutex<HashMap<Digest, Weak<Rows>>>>);

impl SharedRows {
    /// The rows under a locator.
    pub(super) fn get(&self, store: &Store, locator: &Digest) -> Result<Arc<Rows>, StoreError> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(rows) = held.get(locator).and_then(Weak::upgrade) {
            return Ok(rows);
        }
        let rows = Arc::new(store.rows(locator)?);
        held.retain(|_, rows| rows.strong_count() > 0);
        held.insert(*locator, Arc::downgrade(&rows));
        Ok(rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_held_once_and_no_longer_than_they_are_used() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let put = |text: &str| {
            let rows = Rows::import(format!("{{\"text\":\"{text}\"}}\n").as_bytes()).unwrap();
            store.put_rows(&rows).unwrap()
        };
        let (one, other) = (put("one"), put("other"));
        let shared = SharedRows::default();
        let first = shared.get(&store, &one).unwrap();
        let again = shared.clone().get(&store, &one).unwrap();
        assert!(Arc::ptr_eq(&first, &again));
        drop((first, again));
        let kept = shared.get(&store, &other).unwrap();
        assert_eq!(kept.as_slice()[0].text(), "other");
        assert_eq!(shared.0.lock().unwrap().len(), 1);
    }
}
