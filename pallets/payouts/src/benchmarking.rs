//! Benchmarks of the calls, each in its worst case.

#![allow(clippy::arithmetic_side_effects)]

use super::*;
use frame_benchmarking::v2::*;
use frame_support::traits::fungible::{Inspect, Mutate};
use frame_system::RawOrigin;
use openledger_primitives::receipt::CreditReason;
use openledger_traits::{Earning, Earnings as _, Role};

#[benchmarks]
mod benchmarks {
    use super::*;

    #[benchmark]
    fn claim(n: Linear<1, MAX_PAID>) -> Result<(), BenchmarkError> {
        Pallet::<T>::found_pots();
        let who: T::AccountId = whitelisted_caller();
        let source: T::AccountId = account("source", 0, 0);
        let part = T::Currency::minimum_balance().max(1) * 2;
        T::Currency::set_balance(&source, part * 1_000);
        // One more than is paid, so that the search ends at one that has not vested.
        for index in 0..=n {
            let vests_at = if index < n { 1 } else { u32::MAX };
            Pallet::<T>::earn(
                &source,
                Earning {
                    account: who.clone(),
                    role: Role::Contributor {
                        contribution: index.into(),
                        reason: CreditReason::Span,
                    },
                    amount: part,
                    worker: source.clone(),
                    batch: 1,
                    revision: 1,
                    vests_at,
                },
            )?;
        }
        frame_system::Pallet::<T>::set_block_number(1u32.into());

        #[extrinsic_call]
        _(RawOrigin::Signed(who.clone()));

        assert_eq!(T::Currency::balance(&who), part * u128::from(n));
        Ok(())
    }

    impl_benchmark_test_suite!(Pallet, crate::mock::ext(), crate::mock::Test);
}
