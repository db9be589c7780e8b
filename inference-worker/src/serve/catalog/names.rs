//! Who owns a name.

use openledger_chain::apis::models::RevisionInfo;
use openledger_primitives::revision::ModelRef;
use std::collections::BTreeMap;

/// Which model each name means. The chain lets anybody register a name again, so the first keeps it:
/// the base, else the lowest-numbered adapter, whether or not anything of it is served now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Names(BTreeMap<String, ModelRef>);

impl Names {
    /// The names of all that was published on a base.
    pub(super) fn of<'a>(revisions: impl IntoIterator<Item = &'a RevisionInfo>) -> Self {
        let mut names = BTreeMap::new();
        for info in revisions {
            let owner = names.entry(info.label()).or_insert(info.model);
            // In order of `ModelRef`: bases before adapters, each by number.
            *owner = info.model.min(*owner);
        }
        Names(names)
    }

    /// The model that a name means.
    pub(super) fn owner(&self, name: &str) -> Option<ModelRef> {
        self.0.get(name).copied()
    }
}
