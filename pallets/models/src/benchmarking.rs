//! Benchmarks of the calls, each in its worst case.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::unwrap_used,
    clippy::expect_used
)]

use super::*;
use alloc::vec::Vec;
use frame_benchmarking::v2::*;
use frame_support::traits::Consideration;
use frame_system::RawOrigin;
use openledger_primitives::{
    licence::Licence,
    revision::{
        AttributionParams, ModelRef, RevisionFacts, RevisionStatus, Targets, VersionUse,
        MAX_VERSIONS,
    },
    terms::{Split, PPM},
    BaseId, RevisionId,
};
use openledger_traits::Parameters;

/// What the benchmarks need of the other pallets.
pub trait BenchmarkHelper {
    /// Seals `count` versions of as many Datanets, live, with every permission and a royalty of at
    /// most 1,000 planck.
    fn live_versions(count: u32) -> Vec<VersionUse>;
}

impl<T: Config> Pallet<T> {
    /// Writes `count` live revisions of one base, for benchmarks of other pallets.
    pub fn insert_live_revisions(count: u32) -> Vec<RevisionId> {
        let first = NextRevision::<T>::get();
        let revisions: Vec<RevisionId> = (first..first + u64::from(count)).collect();
        for revision in &revisions {
            Revisions::<T>::insert(
                revision,
                Revision {
                    model: ModelRef::Base(0),
                    base: 0,
                    facts: facts(),
                    versions: Default::default(),
                    licence: Licence::ALL,
                    royalty: 0,
                    published_at: 0,
                    retired_at: None,
                    status: RevisionStatus::Live,
                },
            );
        }
        NextRevision::<T>::put(first + u64::from(count));
        revisions
    }
}

fn facts() -> RevisionFacts {
    RevisionFacts {
        adapter_digest: [1; 32],
        rank: 8,
        targets: Targets::ALL_LINEAR,
        manifest: [2; 32],
        index: [3; 32],
        null: [4; 32],
        evaluation: [5; 32],
        attribution: AttributionParams::default(),
    }
}

fn name() -> Name {
    Name::truncate_from(alloc::vec![b'n'; MAX_NAME as usize])
}

fn split<T: Config>() -> Split {
    let least = T::Parameters::models();
    Split {
        worker: PPM - least.min_protocol_ppm,
        developer: 0,
        holders: 0,
        contributors: 0,
        protocol: least.min_protocol_ppm,
    }
}

fn owner<T: Config>() -> T::AccountId {
    whitelisted_caller()
}

/// Lets the owner leave the next deposit.
fn fund<T: Config>() {
    let owner = owner::<T>();
    T::Consideration::ensure_successful(&owner, Pallet::<T>::base_footprint());
}

fn base<T: Config>() -> Result<BaseId, BenchmarkError> {
    fund::<T>();
    let base = NextBase::<T>::get();
    let prices = (1_000, 1_000);
    Pallet::<T>::do_register_base(
        owner::<T>(),
        name(),
        [9; 32],
        Licence::ALL,
        prices,
        split::<T>(),
    )?;
    Ok(base)
}

/// An adapter with terms and `live` revisions on `versions` versions each.
fn adapter<T: Config>(live: u32, versions: u32) -> Result<(u32, Versions), BenchmarkError> {
    let base = base::<T>()?;
    let adapter = NextAdapter::<T>::get();
    fund::<T>();
    Pallet::<T>::do_register_adapter(owner::<T>(), base, name())?;
    let model = ModelRef::Adapter(adapter);
    Pallet::<T>::do_set_terms(&owner::<T>(), model, (1_000, 1_000), split::<T>())?;
    let versions = Versions::truncate_from(T::BenchmarkHelper::live_versions(versions));
    for _ in 0..live {
        fund::<T>();
        Pallet::<T>::do_publish(&owner::<T>(), adapter, facts(), versions.clone())?;
    }
    Ok((adapter, versions))
}

#[benchmarks]
mod benchmarks {
    use super::*;

    #[benchmark]
    fn register_base() {
        fund::<T>();

        #[extrinsic_call]
        _(
            RawOrigin::Signed(owner::<T>()),
            name(),
            [9; 32],
            Licence::ALL,
            1,
            1,
            split::<T>(),
        );

        assert_eq!(NextBase::<T>::get(), 1);
    }

    #[benchmark]
    fn register_adapter() -> Result<(), BenchmarkError> {
        let base = base::<T>()?;
        fund::<T>();

        #[extrinsic_call]
        _(RawOrigin::Signed(owner::<T>()), base, name());

        assert_eq!(NextAdapter::<T>::get(), 1);
        Ok(())
    }

    #[benchmark]
    fn publish_revision(n: Linear<1, MAX_VERSIONS>) -> Result<(), BenchmarkError> {
        let (adapter, versions) = adapter::<T>(MAX_LIVE - 1, n)?;
        fund::<T>();

        #[extrinsic_call]
        _(RawOrigin::Signed(owner::<T>()), adapter, facts(), versions);

        assert_eq!(
            Adapters::<T>::get(adapter).map(|adapter| adapter.live.len()),
            Some(MAX_LIVE as usize)
        );
        Ok(())
    }

    #[benchmark]
    fn set_terms() -> Result<(), BenchmarkError> {
        let (adapter, _) = adapter::<T>(MAX_LIVE, MAX_VERSIONS)?;
        let model = ModelRef::Adapter(adapter);

        #[extrinsic_call]
        _(
            RawOrigin::Signed(owner::<T>()),
            model,
            1_000,
            1_000,
            split::<T>(),
        );

        assert_eq!(TermsCount::<T>::get(model), 2);
        Ok(())
    }

    #[benchmark]
    fn retire_revision() -> Result<(), BenchmarkError> {
        let (adapter, _) = adapter::<T>(MAX_LIVE, MAX_VERSIONS)?;
        let last = NextRevision::<T>::get() - 1;

        #[extrinsic_call]
        _(RawOrigin::Signed(owner::<T>()), last);

        assert_eq!(
            Adapters::<T>::get(adapter).map(|adapter| adapter.live.len()),
            Some(MAX_LIVE as usize - 1)
        );
        Ok(())
    }

    impl_benchmark_test_suite!(Pallet, crate::mock::ext(), crate::mock::Test);
}
