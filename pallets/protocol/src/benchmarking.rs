//! Benchmark of the calls, which all do the same work.

use super::*;
use frame_benchmarking::v2::*;
use frame_support::traits::EnsureOrigin;

#[benchmarks]
mod benchmarks {
    use super::*;

    #[benchmark]
    fn set() -> Result<(), BenchmarkError> {
        let origin = T::AdminOrigin::try_successful_origin()
            .map_err(|_| BenchmarkError::Stop("nobody may set parameters"))?;
        let parameters = ParameterSet::public_chain();
        Pallet::<T>::store(&parameters);
        let mut settlement = parameters.settlement;
        settlement.fork_nonce = 1;

        #[extrinsic_call]
        set_settlement(origin as T::RuntimeOrigin, settlement);

        assert_eq!(Settlement::<T>::get(), settlement);
        Ok(())
    }

    impl_benchmark_test_suite!(Pallet, crate::mock::ext(), crate::mock::Test);
}
