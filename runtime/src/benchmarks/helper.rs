//! What the benchmarks of one pallet need of the others.

use crate::{AccountId, Balances, Datanets, Models, Runtime, RuntimeOrigin, Workers, OPEN};
use alloc::vec::Vec;
use frame_benchmarking::account;
use frame_support::{assert_ok, traits::fungible::Mutate};
use openledger_primitives::{
    contribution::{Provenance, Submission},
    licence::Licence,
    receipt::BackendClass,
    revision::{ModelRef, VersionUse, MAX_VERSIONS},
    sketch,
    terms::{Split, Terms},
    voucher::EvidenceClass,
    ContributionId, RevisionId, TermsIndex,
};
use pallet_datanets::{Contribution, Stage, Status};
use pallet_models::{Adapter, Name};
use pallet_workers::Capability;

/// Writes what they need.
pub struct Helper;

fn rich(who: &AccountId) {
    Balances::set_balance(who, 1_000_000 * OPEN);
}

impl pallet_models::BenchmarkHelper for Helper {
    fn live_versions(count: u32) -> Vec<VersionUse> {
        Datanets::insert_live_versions(count)
    }
}

impl pallet_workers::BenchmarkHelper<AccountId> for Helper {
    fn fund(who: &AccountId) {
        rich(who);
    }
    fn live_revisions(count: u32) -> Vec<RevisionId> {
        Models::insert_live_revisions(count)
    }
}

impl pallet_settlement::BenchmarkHelper<AccountId> for Helper {
    fn worker(who: &AccountId) {
        rich(who);
        assert_ok!(Workers::join(
            RuntimeOrigin::signed(who.clone()),
            500_000 * OPEN,
            account("service", 0, 0),
            b"http://127.0.0.1:1"
                .to_vec()
                .try_into()
                .unwrap_or_default(),
            Capability {
                backend: BackendClass::CpuF32,
                memory_mib: 1_024,
                max_batch: 16,
                engine: b"benchmark".to_vec().try_into().unwrap_or_default(),
                evidence: EvidenceClass::Open,
            },
        ));
    }

    fn fund(who: &AccountId) {
        rich(who);
    }

    fn revisions(count: u32) -> Vec<(RevisionId, TermsIndex)> {
        let developer: AccountId = account("developer", 0, 0);
        for revision in Models::insert_live_revisions(count) {
            let adapter = revision as u32;
            let versions = Datanets::insert_live_versions(MAX_VERSIONS);
            pallet_models::Adapters::<Runtime>::insert(
                adapter,
                Adapter {
                    owner: developer.clone(),
                    base: 0,
                    name: Name::default(),
                    live: alloc::vec![revision].try_into().unwrap_or_default(),
                    registered_at: 0,
                },
            );
            pallet_models::Revisions::<Runtime>::mutate(revision, |record| {
                if let Some(record) = record {
                    record.model = ModelRef::Adapter(adapter);
                    record.versions = versions.try_into().unwrap_or_default();
                }
            });
            let model = ModelRef::Adapter(adapter);
            pallet_models::TermsCount::<Runtime>::insert(model, 1);
            pallet_models::TermsList::<Runtime>::insert(model, 0, terms());
        }
        let end = pallet_models::NextRevision::<Runtime>::get();
        (end.saturating_sub(count.into())..end)
            .map(|revision| (revision, 0))
            .collect()
    }

    fn contributions(revision: RevisionId, count: u32) -> Vec<ContributionId> {
        let versions = pallet_models::Revisions::<Runtime>::get(revision)
            .map(|record| record.versions)
            .unwrap_or_default();
        let first = pallet_datanets::NextContribution::<Runtime>::get();
        let ids: Vec<ContributionId> = (first..first.saturating_add(count.into())).collect();
        let in_turn = versions.iter().cycle();
        for ((position, id), version) in (0u32..).zip(&ids).zip(in_turn) {
            pallet_datanets::Contributions::<Runtime>::insert(id, sealed(version, position));
        }
        pallet_datanets::NextContribution::<Runtime>::put(first.saturating_add(count.into()));
        ids
    }
}

fn terms() -> Terms<crate::BlockNumber> {
    Terms {
        price_in: OPEN,
        price_out: OPEN,
        split: Split {
            worker: 500_000,
            developer: 150_000,
            holders: 100_000,
            contributors: 200_000,
            protocol: 50_000,
        },
        effective_from: 0,
    }
}

fn sealed(version: &VersionUse, position: u32) -> Contribution<AccountId> {
    Contribution {
        datanet: version.datanet,
        owner: account("contributor", position, 0),
        submission: Submission {
            content_root: [1; 32],
            sketch_scheme: sketch::SCHEME,
            rows: 1,
            bytes: 1,
            provenance: Provenance::Licensed,
            rights: [2; 32],
            licence: Licence::ALL,
            locator: [3; 32],
        },
        committed_at: 0,
        revealed_at: 0,
        bond: 0,
        stage: Stage::Sealed {
            version: version.version,
            position,
        },
        status: Status::Live,
    }
}
