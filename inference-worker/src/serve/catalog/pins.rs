//! The models of `--pin`: their adapters stay on the device, whether or not they are asked for.

use super::Catalog;
use openledger_engine::{AdapterId, EngineHandle};
use std::collections::BTreeMap;

/// What is pinned for each entry of the operator's list.
#[derive(Debug, Default)]
pub struct Pins {
    pinned: BTreeMap<String, Option<AdapterId>>,
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
        Pins {
            pinned: models.iter().map(|model| (model.clone(), None)).collect(),
        }
    }

    /// Pins what the entries mean now, and lets go of what they meant before.
    pub fn apply(&mut self, catalog: &Catalog, engine: &EngineHandle) {
        let moves = self.moves(|entry| catalog.find(entry)?.adapter);
        for adapter in moves.unpin {
            engine.unpin_adapter(adapter);
        }
        for (entry, adapter) in moves.pin {
            let engine = engine.clone();
            // It is there once its files are read: nobody else waits for that.
            tokio::task::spawn_blocking(move || match engine.pin_adapter(adapter) {
                Ok(()) => tracing::info!(model = entry, %adapter, "pinned"),
                Err(error) => tracing::warn!(model = entry, %error, "not pinned"),
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
