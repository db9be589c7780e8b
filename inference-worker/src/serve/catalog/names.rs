//! Who owns a name.

use openledger_primitives::{revision::ModelRef, AdapterId, BaseId};
use std::{collections::BTreeMap, sync::Arc};

/// Which model each name means. The chain lets anybody register a name again, so who came first keeps
/// it: the base, else the lowest-numbered adapter on chain, whatever base it stands on and whether or
/// not anything of it is served. The gateway keeps the same rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Names(Arc<BTreeMap<Vec<u8>, ModelRef>>);

impl Names {
    /// The names of a base and of all adapters, by number from 0.
    pub(super) fn new(base: Option<(BaseId, &[u8])>, adapters: &[Vec<u8>]) -> Self {
        let mut names = BTreeMap::new();
        for (number, name) in (AdapterId::MIN..).zip(adapters) {
            names
                .entry(name.clone())
                .or_insert(ModelRef::Adapter(number));
        }
        if let Some((number, name)) = base {
            names.insert(name.to_vec(), ModelRef::Base(number));
        }
        Names(Arc::new(names))
    }

    /// The model that a name means.
    pub(super) fn owner(&self, name: &str) -> Option<ModelRef> {
        self.0.get(name.as_bytes()).copied()
    }
}
