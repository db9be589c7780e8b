//! What the operator lets the worker serve, and for how little.

use super::names::Names;
use openledger_chain::apis::models::{RevisionInfo, TermsInfo};
use openledger_primitives::{Balance, RevisionId};
use std::collections::BTreeSet;

/// The models of `--models`; without the option, all of the base that pay at least the least prices.
///
/// Anybody can publish anything, for nothing, over files that the worker has: what the operator did not
/// choose by name or number has to be worth its while.
#[derive(Debug, Default)]
pub struct Allowed {
    list: Option<List>,
    least: LeastPrices,
}

/// Prices below which a revision is not served that the operator did not choose, planck per 1,000
/// tokens.
#[derive(Clone, Copy, Debug, Default)]
pub struct LeastPrices {
    /// Of prompt tokens.
    pub input: Balance,
    /// Of output tokens.
    pub output: Balance,
}

#[derive(Debug, Default)]
struct List {
    revisions: BTreeSet<RevisionId>,
    names: BTreeSet<String>,
}

impl Allowed {
    /// Decimal entries are revisions, all others names; no entry allows everything.
    pub fn new(models: &[String], least: LeastPrices) -> Self {
        if models.is_empty() {
            return Allowed { list: None, least };
        }
        let mut list = List::default();
        for model in models {
            match model.parse() {
                Ok(revision) => list.revisions.insert(revision),
                Err(_) => list.names.insert(model.clone()),
            };
        }
        Allowed {
            list: Some(list),
            least,
        }
    }

    /// Whether a revision may be served: by its number, or as one of the model that its name means.
    pub(super) fn allows(&self, info: &RevisionInfo, names: &Names) -> bool {
        let Some(list) = &self.list else {
            return true;
        };
        let label = info.label();
        list.revisions.contains(&info.revision)
            || list.names.contains(&label) && names.owner(&label) == Some(info.model)
    }

    /// Whether the operator chose what to serve, rather than everything that pays.
    pub(super) fn is_chosen(&self) -> bool {
        self.list.is_some()
    }

    /// Why terms are too cheap; chosen models may cost what they like.
    pub(super) fn too_cheap(&self, terms: &TermsInfo) -> Option<String> {
        let (price_in, price_out) = (terms.terms.price_in, terms.terms.price_out);
        let cheap = price_in < self.least.input || price_out < self.least.output;
        (cheap && !self.is_chosen()).then(|| {
            format!(
                "it costs {price_in} and {price_out} planck per 1,000 prompt and output tokens, \
                 --min-price-in is {} and --min-price-out {}; name it with --models to serve it \
                 all the same",
                self.least.input, self.least.output
            )
        })
    }

    /// Entries that allow nothing of what is on chain.
    pub(super) fn idle<'a>(
        &self,
        known: impl Iterator<Item = &'a RevisionInfo>,
        names: &Names,
    ) -> Vec<String> {
        let Some(list) = &self.list else {
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
            let allowed = Allowed::new(&models, LeastPrices::default());
            let mine = known.iter().filter(|info| allowed.allows(info, &names));
            mine.map(|info| info.revision).collect()
        };
        assert_eq!(allowed(&[]), [1, 2, 3, 4, 5]);
        assert_eq!(allowed(&["poet"]), [1, 2]);
        assert_eq!(allowed(&["poet", "5"]), [1, 2, 5]);
        assert!(allowed(&["nobody"]).is_empty());
        let models = ["nobody".into(), "9".into(), "poet".into(), "1".into()];
        let idle = Allowed::new(&models, LeastPrices::default());
        assert_eq!(idle.idle(known.iter(), &names), ["9", "nobody"]);
    }
}
