//! What the operator lets the worker serve.

use super::names::Names;
use openledger_chain::apis::models::RevisionInfo;
use openledger_primitives::RevisionId;
use std::collections::BTreeSet;

/// The models of `--models`; without the option, all of the base.
#[derive(Debug, Default)]
pub struct Allowed(Option<List>);

#[derive(Debug, Default)]
struct List {
    revisions: BTreeSet<RevisionId>,
    names: BTreeSet<String>,
}

impl Allowed {
    /// Decimal entries are revisions, all others names; no entry allows everything.
    pub fn new(models: &[String]) -> Self {
        if models.is_empty() {
            return Allowed(None);
        }
        let mut list = List::default();
        for model in models {
            match model.parse() {
                Ok(revision) => list.revisions.insert(revision),
                Err(_) => list.names.insert(model.clone()),
            };
        }
        Allowed(Some(list))
    }

    /// Whether a revision may be served: by its number, or as one of the model that its name means.
    pub(super) fn allows(&self, info: &RevisionInfo, names: &Names) -> bool {
        let Some(list) = &self.0 else {
            return true;
        };
        let label = info.label();
        list.revisions.contains(&info.revision)
            || list.names.contains(&label) && names.owner(&label) == Some(info.model)
    }

    /// Entries that allow nothing of what is on chain.
    pub(super) fn idle<'a>(
        &self,
        known: impl Iterator<Item = &'a RevisionInfo>,
        names: &Names,
    ) -> Vec<String> {
        let Some(list) = &self.0 else {
            return Vec::new();
        };
        let known: BTreeSet<RevisionId> = known.map(|info| info.revision).collect();
        let revisions = list.revisions.difference(&known).map(ToString::to_string);
        let unowned = list.names.iter().filter(|name| names.owner(name).is_none());
        revisions.chain(unowned.cloned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::samples::{info, names_of},
        *,
    };
    use openledger_primitives::revision::ModelRef;

    #[test]
    fn a_name_allows_the_revisions_of_its_owner_and_a_number_one_revision() {
        let known = [
            info(1, ModelRef::Adapter(0), "poet"),
            info(2, ModelRef::Adapter(0), "poet"),
            info(3, ModelRef::Adapter(1), "poet"),
            info(4, ModelRef::Adapter(2), "other"),
            info(5, ModelRef::Adapter(2), "other"),
        ];
        let names = names_of(&known);
        let allowed = |models: &[&str]| -> Vec<RevisionId> {
            let models: Vec<String> = models.iter().map(ToString::to_string).collect();
            let allowed = Allowed::new(&models);
            let mine = known.iter().filter(|info| allowed.allows(info, &names));
            mine.map(|info| info.revision).collect()
        };
        assert_eq!(allowed(&[]), [1, 2, 3, 4, 5]);
        assert_eq!(allowed(&["poet"]), [1, 2]);
        assert_eq!(allowed(&["poet", "5"]), [1, 2, 5]);
        assert!(allowed(&["nobody"]).is_empty());
        let idle = Allowed::new(&["nobody".into(), "9".into(), "poet".into(), "1".into()]);
        assert_eq!(idle.idle(known.iter(), &names), ["9", "nobody"]);
    }
}
