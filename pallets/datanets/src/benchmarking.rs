//! Benchmarks of the calls, each in its worst case.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::unwrap_used,
    clippy::expect_used
)]

use super::*;
use crate::founding::Charter;
use alloc::vec::Vec;
use frame_benchmarking::v2::*;
use frame_support::{
    traits::{fungible::Mutate, Consideration, ConstU32},
    BoundedVec,
};
use frame_system::RawOrigin;
use openledger_primitives::{
    contribution::{Provenance, Submission},
    licence::Licence,
    revision::VersionUse,
    sketch, Balance, ContributionId, DatanetId,
};
use openledger_traits::Parameters;

impl<T: Config> Pallet<T> {
    /// Writes `count` live versions, each of a Datanet of its own that permits everything at a
    /// royalty of one planck, for benchmarks of other pallets.
    pub fn insert_live_versions(count: u32) -> Vec<VersionUse> {
        let first = NextDatanet::<T>::get();
        NextDatanet::<T>::put(first + count);
        (first..first + count)
            .map(|datanet| {
                let charter = charter::<T>();
                Datanets::<T>::insert(
                    datanet,
                    Datanet {
                        owner: account("owner", 0, 0),
                        kind: charter.kind,
                        licence: charter.licence,
                        schema: charter.schema,
                        admission: charter.admission,
                        access_price: charter.access_price,
                        min_royalty: charter.min_royalty,
                        contribution_bond: charter.contribution_bond,
                        private: charter.private,
                        created_at: 0,
                        versions: 1,
                        queue_from: 0,
                        queue_to: 0,
                    },
                );
                let version = Version {
                    root: [1; 32],
                    count: 1,
                    sealed_at: 0,
                    status: Status::Live,
                };
                Versions::<T>::insert(datanet, 1, version);
                VersionUse {
                    datanet,
                    version: 1,
                    grant: None,
                }
            })
            .collect()
    }
}

fn bond<T: Config>() -> Balance {
    T::Parameters::datanets().min_contribution_bond
}

fn charter<T: Config>() -> Charter {
    Charter {
        kind: DataKind::Text,
        licence: Licence::ALL,
        schema: [1; 32],
        admission: Admission::Open,
        access_price: 0,
        min_royalty: 1,
        contribution_bond: bond::<T>(),
        private: false,
    }
}

/// A submission that differs by `seed`.
fn submission(seed: u32) -> Submission {
    let mut content_root = [1; 32];
    content_root
        .iter_mut()
        .zip(seed.to_le_bytes())
        .for_each(|(byte, seed)| *byte = seed);
    Submission {
        content_root,
        sketch_scheme: sketch::SCHEME,
        rows: 1,
        bytes: 1,
        provenance: Provenance::Licensed,
        rights: [2; 32],
        licence: Licence::ALL,
        locator: [3; 32],
    }
}

fn founded<T: Config>() -> Result<(T::AccountId, DatanetId), BenchmarkError>
where
    T::Currency: Mutate<T::AccountId>,
{
    let owner: T::AccountId = whitelisted_caller();
    T::Consideration::ensure_successful(&owner, Pallet::<T>::footprint());
    let datanet = NextDatanet::<T>::get();
    Pallet::<T>::do_create(owner.clone(), charter::<T>())?;
    Ok((owner, datanet))
}

fn contributor<T: Config>() -> T::AccountId
where
    T::Currency: Mutate<T::AccountId>,
{
    let who: T::AccountId = account("contributor", 0, 0);
    T::Currency::set_balance(&who, bond::<T>() * 1_000 + 1_000_000_000_000_000);
    who
}

/// `count` contributions that wait for a decision.
fn pending<T: Config>(datanet: DatanetId, count: u32) -> Result<Vec<ContributionId>, BenchmarkError>
where
    T::Currency: Mutate<T::AccountId>,
{
    let who = contributor::<T>();
    let first = NextContribution::<T>::get();
    for seed in 0..count {
        Pallet::<T>::do_contribute(who.clone(), datanet, submission(seed))?;
    }
    Ok((first..first + u64::from(count)).collect())
}

#[benchmarks(where T::Currency: Mutate<T::AccountId>)]
mod benchmarks {
    use super::*;

    #[benchmark]
    fn create() {
        let owner: T::AccountId = whitelisted_caller();
        T::Consideration::ensure_successful(&owner, Pallet::<T>::footprint());

        #[extrinsic_call]
        _(
            RawOrigin::Signed(owner),
            DataKind::Text,
            Licence::ALL,
            [1; 32],
            Admission::Open,
            0,
            1,
            bond::<T>(),
            false,
        );

        assert_eq!(NextDatanet::<T>::get(), 1);
    }

    #[benchmark]
    fn contribute() -> Result<(), BenchmarkError> {
        let (_, datanet) = founded::<T>()?;
        let who = contributor::<T>();

        #[extrinsic_call]
        _(RawOrigin::Signed(who), datanet, submission(0));

        assert_eq!(NextContribution::<T>::get(), 1);
        Ok(())
    }

    #[benchmark]
    fn admit(n: Linear<1, MAX_ADMIT>) -> Result<(), BenchmarkError> {
        let (owner, datanet) = founded::<T>()?;
        let ids = pending::<T>(datanet, n)?;
        let list: BoundedVec<ContributionId, ConstU32<MAX_ADMIT>> = BoundedVec::truncate_from(ids);

        #[extrinsic_call]
        _(RawOrigin::Signed(owner), datanet, list);

        assert_eq!(Queue::<T>::iter().count(), n as usize);
        Ok(())
    }

    #[benchmark]
    fn reject() -> Result<(), BenchmarkError> {
        let (owner, datanet) = founded::<T>()?;
        pending::<T>(datanet, 1)?;

        #[extrinsic_call]
        _(
            RawOrigin::Signed(owner),
            datanet,
            0,
            RejectReason::Duplicate,
        );

        assert_eq!(ContentRoots::<T>::iter().count(), 0);
        Ok(())
    }

    #[benchmark]
    fn seal_version(n: Linear<1, MAX_SEAL>) -> Result<(), BenchmarkError> {
        let (owner, datanet) = founded::<T>()?;
        for chunk in pending::<T>(datanet, n)?.chunks(MAX_ADMIT as usize) {
            Pallet::<T>::do_admit(&owner, datanet, chunk)?;
        }

        #[extrinsic_call]
        _(RawOrigin::Signed(owner), datanet);

        assert_eq!(
            Versions::<T>::get(datanet, 1).map(|version| version.count),
            Some(n.min(Pallet::<T>::seal_limit()))
        );
        Ok(())
    }

    #[benchmark]
    fn withdraw() -> Result<(), BenchmarkError> {
        let (owner, datanet) = founded::<T>()?;
        let ids = pending::<T>(datanet, 2)?;
        Pallet::<T>::do_admit(&owner, datanet, &ids)?;
        // The second in the queue: the head must move.
        let who = contributor::<T>();

        #[extrinsic_call]
        _(RawOrigin::Signed(who), 1);

        assert_eq!(Contributions::<T>::iter().count(), 1);
        Ok(())
    }

    impl_benchmark_test_suite!(Pallet, crate::mock::ext(), crate::mock::Test);
}
