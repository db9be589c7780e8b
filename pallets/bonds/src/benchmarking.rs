//! Benchmarks of the calls, each in its worst case.

#![allow(clippy::arithmetic_side_effects, clippy::unwrap_used)]

use super::*;
use frame_benchmarking::v2::*;
use frame_support::traits::{fungible::Mutate, Get};
use frame_system::{pallet_prelude::BlockNumberFor, RawOrigin};
use openledger_primitives::Balance;

const STAKE: Balance = 1_000_000_000_000_000;

fn rich<T: Config<I>, I: 'static>() -> T::AccountId
where
    T::Currency: Mutate<T::AccountId>,
{
    let who: T::AccountId = whitelisted_caller();
    T::Currency::set_balance(&who, STAKE * 4);
    who
}

/// A caller whose every thaw is running.
fn thawing<T: Config<I>, I: 'static>(thaws: u32) -> Result<T::AccountId, BenchmarkError>
where
    T::Currency: Mutate<T::AccountId>,
{
    let who = rich::<T, I>();
    Pallet::<T, I>::do_bond(&who, STAKE)?;
    for block in 1..=thaws {
        frame_system::Pallet::<T>::set_block_number(block.into());
        Pallet::<T, I>::do_thaw(&who, STAKE / 100)?;
    }
    frame_system::Pallet::<T>::set_block_number(BlockNumberFor::<T>::from(thaws + 1));
    Ok(who)
}

#[instance_benchmarks(where T::Currency: Mutate<T::AccountId>)]
mod benchmarks {
    use super::*;

    #[benchmark]
    fn bond_more() -> Result<(), BenchmarkError> {
        let who = thawing::<T, I>(MAX_THAWS)?;

        #[extrinsic_call]
        _(RawOrigin::Signed(who.clone()), STAKE);

        assert_eq!(
            Ledgers::<T, I>::get(&who).map(|ledger| ledger.held()),
            Some(STAKE * 2)
        );
        Ok(())
    }

    #[benchmark]
    fn thaw() -> Result<(), BenchmarkError> {
        let who = thawing::<T, I>(MAX_THAWS - 1)?;

        #[extrinsic_call]
        _(RawOrigin::Signed(who.clone()), STAKE / 100);

        assert_eq!(
            Ledgers::<T, I>::get(&who).map(|ledger| ledger.thawing.len()),
            Some(MAX_THAWS as usize)
        );
        Ok(())
    }

    #[benchmark]
    fn withdraw() -> Result<(), BenchmarkError> {
        let who = thawing::<T, I>(MAX_THAWS)?;
        frame_system::Pallet::<T>::set_block_number((T::Thaw::get() + MAX_THAWS + 1).into());

        #[extrinsic_call]
        _(RawOrigin::Signed(who.clone()));

        assert_eq!(
            Ledgers::<T, I>::get(&who).map(|ledger| ledger.thawing.len()),
            Some(0)
        );
        Ok(())
    }

    impl_benchmark_test_suite!(Pallet, crate::mock::ext(), crate::mock::Test);
}
