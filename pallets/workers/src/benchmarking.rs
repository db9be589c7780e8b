//! Benchmarks of the calls, each in its worst case.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::unwrap_used,
    clippy::expect_used
)]

use super::*;
use alloc::vec::Vec;
use frame_benchmarking::v2::*;
use frame_system::RawOrigin;
use openledger_primitives::{receipt::BackendClass, voucher::EvidenceClass, Balance, RevisionId};
use openledger_traits::Parameters;

/// What the benchmarks need of the other pallets.
pub trait BenchmarkHelper<AccountId> {
    /// Gives the account more than the least bond.
    fn fund(who: &AccountId);
    /// Publishes `count` revisions that are live.
    fn live_revisions(count: u32) -> Vec<RevisionId>;
}

fn endpoint() -> Endpoint {
    let mut bytes = b"http://".to_vec();
    bytes.resize(MAX_ENDPOINT as usize, b'a');
    Endpoint::truncate_from(bytes)
}

fn capability() -> Capability {
    Capability {
        backend: BackendClass::CpuF32,
        memory_mib: 1,
        max_batch: 1,
        engine: alloc::vec![b'e'; MAX_ENGINE as usize]
            .try_into()
            .unwrap_or_default(),
        evidence: EvidenceClass::Open,
    }
}

fn bond<T: Config>() -> Balance {
    T::Parameters::bonds().min_worker_bond
}

fn joined<T: Config>() -> Result<T::AccountId, BenchmarkError> {
    let who: T::AccountId = whitelisted_caller();
    T::BenchmarkHelper::fund(&who);
    let key = account("key", 0, 0);
    Pallet::<T>::do_join(&who, bond::<T>(), &key, endpoint(), capability())?;
    Ok(who)
}

/// A worker that announces `old` revisions, and `new` others that are live.
fn serving<T: Config>(old: u32, new: u32) -> Result<(T::AccountId, Served), BenchmarkError> {
    let who = joined::<T>()?;
    let mut revisions = T::BenchmarkHelper::live_revisions(old + new);
    let fresh = revisions.split_off(old as usize);
    Pallet::<T>::do_serve(&who, Served::truncate_from(revisions))
        .map_err(|_| BenchmarkError::Stop("the revisions are not live"))?;
    Ok((who, Served::truncate_from(fresh)))
}

#[benchmarks]
mod benchmarks {
    use super::*;

    #[benchmark]
    fn join() {
        let who: T::AccountId = whitelisted_caller();
        T::BenchmarkHelper::fund(&who);
        let key: T::AccountId = account("key", 0, 0);

        #[extrinsic_call]
        _(
            RawOrigin::Signed(who.clone()),
            bond::<T>(),
            key,
            endpoint(),
            capability(),
        );

        assert!(Workers::<T>::contains_key(&who));
    }

    #[benchmark]
    fn set_service_key() -> Result<(), BenchmarkError> {
        let who = joined::<T>()?;
        for index in 1..MAX_KEYS {
            Pallet::<T>::do_set_service_key(&who, &account("key", index, 0))?;
        }
        // Late enough that all but the current key are forgotten.
        frame_system::Pallet::<T>::set_block_number(u32::MAX.into());
        let key: T::AccountId = account("key", MAX_KEYS, 0);

        #[extrinsic_call]
        _(RawOrigin::Signed(who.clone()), key);

        assert_eq!(Keys::<T>::get(&who).len(), 2);
        Ok(())
    }

    #[benchmark]
    fn serve(n: Linear<0, MAX_SERVED>, o: Linear<0, MAX_SERVED>) -> Result<(), BenchmarkError> {
        let (who, fresh) = serving::<T>(o, n)?;

        #[extrinsic_call]
        _(RawOrigin::Signed(who.clone()), fresh);

        assert_eq!(Serving::<T>::get(&who).len(), n as usize);
        Ok(())
    }

    #[benchmark]
    fn heartbeat() -> Result<(), BenchmarkError> {
        let who = joined::<T>()?;
        let key: T::AccountId = account("key", 0, 0);
        frame_system::Pallet::<T>::set_block_number(9u32.into());

        #[extrinsic_call]
        _(RawOrigin::Signed(key));

        assert_eq!(
            Workers::<T>::get(&who).map(|worker| worker.last_heartbeat),
            Some(9)
        );
        Ok(())
    }

    #[benchmark]
    fn drain(o: Linear<0, MAX_SERVED>) -> Result<(), BenchmarkError> {
        let (who, _) = serving::<T>(o, 0)?;

        #[extrinsic_call]
        _(RawOrigin::Signed(who.clone()));

        assert!(!Serving::<T>::contains_key(&who));
        Ok(())
    }

    #[benchmark]
    fn leave() -> Result<(), BenchmarkError> {
        let who = joined::<T>()?;
        for index in 1..MAX_KEYS {
            Pallet::<T>::do_set_service_key(&who, &account("key", index, 0))?;
        }
        Pallet::<T>::do_drain(&who).map_err(|_| BenchmarkError::Stop("a worker drains"))?;
        frame_system::Pallet::<T>::set_block_number(u32::MAX.into());

        #[extrinsic_call]
        _(RawOrigin::Signed(who.clone()));

        assert!(!Workers::<T>::contains_key(&who));
        Ok(())
    }

    #[benchmark]
    fn update() -> Result<(), BenchmarkError> {
        let who = joined::<T>()?;

        #[extrinsic_call]
        _(RawOrigin::Signed(who.clone()), endpoint(), capability());

        assert!(Workers::<T>::contains_key(&who));
        Ok(())
    }

    impl_benchmark_test_suite!(Pallet, crate::mock::ext(), crate::mock::Test);
}
