//! The models of `--pin`: their adapters stay on the device, whether or not they are asked for.

use super::{Catalog, Opened};
use openledger_engine::{AdapterId, EngineHandle};
use std::{
    collections::BTreeMap,
    sync::{
        mpsc::{channel, Receiver, Sender},
        Arc, Mutex, PoisonError,
    },
};

/// The data of pinned models, by entry, and the adapter that it was loaded beside.
type Kept = Arc<Mutex<BTreeMap<String, (AdapterId, Opened)>>>;

/// What is pinned for each entry of the operator's list, or about to be.
pub struct Pins {
    pinned: BTreeMap<String, Option<AdapterId>>,
    failed: Receiver<AdapterId>,
    fails: Sender<AdapterId>,
    /// Held, so that it stays in memory: the first answer's sources wait for nothing.
    kept: Kept,
}

/// What to do for the entries to be pinned as the catalog has them.
#[derive(Debug, Default, PartialEq, Eq)]
struct Moves {
    unpin: Vec<AdapterId>,
    pin: Vec<(String, AdapterId)>,
}

impl Pins {
    /// Entries as `--models` takes them: names and revision numbers.
    pub fn new(models: &[String]) -> Self {
        let (fails, failed) = channel();
        Pins {
            pinned: models.iter().map(|model| (model.clone(), None)).collect(),
            failed,
            fails,
            kept: Kept::default(),
        }
    }

    /// Pins what the entries mean now, and lets go of what they meant before.
    pub fn apply(&mut self, catalog: &Catalog, engine: &EngineHandle) {
        // What could not be pinned is tried again.
        for adapter in self.failed.try_iter() {
            for pinned in self.pinned.values_mut() {
                if *pinned == Some(adapter) {
                    *pinned = None;
                }
            }
        }
        let moves = self.moves(|entry| catalog.find(entry)?.adapter);
        for adapter in moves.unpin {
            engine.unpin_adapter(adapter);
        }
        lock(&self.kept)
            .retain(|entry, (adapter, _)| self.pinned.get(entry) == Some(&Some(*adapter)));
        for (entry, adapter) in moves.pin {
            let (engine, fails) = (engine.clone(), self.fails.clone());
            let kept = Arc::clone(&self.kept);
            let training = catalog.find(&entry).and_then(|one| one.training.clone());
            // It is there once its files are read: nobody else waits for that.
            tokio::task::spawn_blocking(move || match engine.pin_adapter(adapter) {
                Ok(()) => {
                    tracing::info!(model = entry, %adapter, "pinned");
                    match training.map(|training| training.open()).transpose() {
                        // Let go of in the next round should it be pinned no more.
                        Ok(Some(data)) => drop(lock(&kept).insert(entry, (adapter, data))),
                        Ok(None) => {}
                        Err(error) => {
                            tracing::warn!(model = entry, "its data is not at hand: {error:#}");
                            let _ = fails.send(adapter);
                        }
                    }
                }
                Err(error) => {
                    tracing::warn!(model = entry, %error, "not pinned");
                    // An error means that the worker ends.
                    let _ = fails.send(adapter);
                }
            });
        }
    }

    fn moves(&mut self, find: impl Fn(&str) -> Option<AdapterId>) -> Moves {
        let mut moves = Moves::default();
        let mut gone = Vec::new();
        for (entry, pinned) in &mut self.pinned {
            let now = find(entry);
            if *pinned != now {
                gone.extend(*pinned);
                moves
                    .pin
                    .extend(now.map(|adapter| (entry.clone(), adapter)));
                *pinned = now;
            }
        }
        // Another entry may mean the same adapter.
        gone.retain(|adapter| !self.pinned.values().any(|kept| *kept == Some(*adapter)));
        moves.unpin = gone;
        moves
    }
}

fn lock(kept: &Kept) -> std::sync::MutexGuard<'_, BTreeMap<String, (AdapterId, Opened)>> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_entry_means_now_is_pinned_and_what_it_meant_is_let_go() {
        let id = |n: u8| AdapterId([n; 32]);
        let mut pins = Pins::new(&["poet".into(), "7".into(), "later".into()]);
        let moves = pins.moves(|entry| match entry {
            "poet" | "7" => Some(id(1)),
            _ => None,
        });
        assert_eq!(moves.unpin, []);
        assert_eq!(moves.pin, [("7".into(), id(1)), ("poet".into(), id(1))]);
        // Nothing changed: nothing to do.
        let same = |entry: &str| (entry != "later").then(|| id(1));
        assert_eq!(pins.moves(same), Moves::default());
        // The name means a new revision; the number still means the old one.
        let moves = pins.moves(|entry| match entry {
            "poet" => Some(id(2)),
            "7" => Some(id(1)),
            _ => None,
        });
        assert_eq!(
            (moves.unpin, moves.pin),
            (vec![], vec![("poet".into(), id(2))])
        );
        let moves = pins.moves(|entry| (entry == "later").then(|| id(3)));
        assert_eq!(moves.unpin, [id(1), id(2)]);
        assert_eq!(moves.pin, [("later".into(), id(3))]);
    }
}
