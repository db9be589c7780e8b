//! What a plain name means. Names are not unique on chain: anyone may register an adapter by a name that
//! is taken. So a name means a base of that name, the lowest-numbered, or else the lowest-numbered
//! adapter on chain with that name, and of it the newest live revision: whoever came first keeps it.
//! A decimal number is always a revision, never a name.

use openledger_chain::{
    apis::models::{GetAdapter, RevisionInfo},
    ChainClient, ChainError,
};
use openledger_primitives::{
    revision::{ModelRef, RevisionStatus},
    AdapterId,
};
use std::{collections::HashMap, sync::Arc};

/// The lowest-numbered adapter of each name, as far as the chain was read. Adapters keep their number
/// and name for ever.
#[derive(Default)]
pub(super) struct Names {
    first: HashMap<Vec<u8>, AdapterId>,
    next: AdapterId,
}

impl Names {
    /// The lowest-numbered adapter on chain with this name.
    pub(super) async fn first(
        &mut self,
        chain: &ChainClient,
        name: &str,
    ) -> Result<Option<AdapterId>, ChainError> {
        // An adapter that was read already is lower than any that was not.
        while !self.first.contains_key(name.as_bytes()) {
            let adapter = self.next;
            let Some(found) = chain.query(&GetAdapter { adapter }).await? else {
                return Ok(None);
            };
            self.note(found.name);
        }
        Ok(self.first.get(name.as_bytes()).copied())
    }

    fn note(&mut self, name: Vec<u8>) {
        self.first.entry(name).or_insert(self.next);
        self.next = self.next.saturating_add(1);
    }
}

/// The base revision that a name means among `served`.
pub(super) fn base(served: &[Arc<RevisionInfo>], name: &str) -> Option<Arc<RevisionInfo>> {
    served
        .iter()
        .filter(|info| matches!(info.model, ModelRef::Base(_)) && info.name == name.as_bytes())
        .min_by_key(|info| info.base)
        .cloned()
}

/// The newest live revision of an adapter among `served`.
pub(super) fn newest(
    served: &[Arc<RevisionInfo>],
    adapter: AdapterId,
) -> Option<Arc<RevisionInfo>> {
    served
        .iter()
        .filter(|info| info.model == ModelRef::Adapter(adapter))
        .filter(|info| info.status == RevisionStatus::Live)
        .max_by_key(|info| info.revision)
        .cloned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use openledger_chain::AccountId;
    use openledger_primitives::{
        licence::Licence,
        revision::{AttributionParams, RevisionFacts, Targets},
        RevisionId,
    };

    fn info(revision: RevisionId, model: ModelRef, name: &str) -> Arc<RevisionInfo> {
        Arc::new(RevisionInfo {
            revision,
            model,
            name: name.into(),
            developer: AccountId([1; 32]),
            base: match model {
                ModelRef::Base(base) => base,
                ModelRef::Adapter(_) => 0,
            },
            base_name: b"small".to_vec(),
            base_manifest: [0; 32],
            base_revision: 0,
            facts: RevisionFacts {
                adapter_digest: [0; 32],
                rank: 8,
                targets: Targets::ALL_LINEAR,
                manifest: [0; 32],
                index: [0; 32],
                null: [0; 32],
                evaluation: [0; 32],
                attribution: AttributionParams::default(),
            },
            versions: Vec::new(),
            licence: Licence::ALL,
            royalty: 0,
            published_at: 1,
            status: RevisionStatus::Live,
            terms: Some(0),
        })
    }

    fn retired(info: &RevisionInfo) -> Arc<RevisionInfo> {
        Arc::new(RevisionInfo {
            status: RevisionStatus::Retired,
            ..info.clone()
        })
    }

    #[test]
    fn whoever_came_first_keeps_the_name() {
        let mut names = Names::default();
        for name in ["roads", "bridges", "bridges"] {
            names.note(name.into());
        }
        assert_eq!(names.first.get(b"bridges".as_slice()), Some(&1));
        assert_eq!(names.next, 3);
        let served = [
            info(0, ModelRef::Base(0), "small"),
            info(4, ModelRef::Adapter(1), "bridges"),
            info(6, ModelRef::Adapter(1), "bridges"),
            // A stranger's, published last.
            info(9, ModelRef::Adapter(2), "bridges"),
        ];
        assert_eq!(newest(&served, 1).unwrap().revision, 6);
        let mut served = served.to_vec();
        served[2] = retired(&served[2]);
        assert_eq!(newest(&served, 1).unwrap().revision, 4);
        served[1] = retired(&served[1]);
        // The name does not pass on to the stranger.
        assert_eq!(newest(&served, 1), None);
    }

    #[test]
    fn a_base_keeps_its_name_from_adapters_and_later_bases() {
        let served = [
            info(8, ModelRef::Base(3), "small"),
            info(2, ModelRef::Base(1), "small"),
            info(9, ModelRef::Adapter(2), "small"),
        ];
        assert_eq!(base(&served, "small").unwrap().revision, 2);
        assert_eq!(base(&served[2..], "small"), None);
    }
}
