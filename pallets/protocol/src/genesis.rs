//! Parameters between genesis, storage and those who read them.

use crate::{
    Bonds, Config, Consensus, Datanets, Error, GenesisConfig, Models, Pallet, ParameterSet,
    Payouts, Settlement,
};
use openledger_traits::{
    BondParameters, ConsensusParameters, DatanetParameters, ModelParameters, Parameters,
    PayoutParameters, SettlementParameters,
};

impl<T: Config> From<&GenesisConfig<T>> for ParameterSet {
    fn from(genesis: &GenesisConfig<T>) -> Self {
        ParameterSet {
            consensus: genesis.consensus,
            settlement: genesis.settlement,
            bonds: genesis.bonds,
            datanets: genesis.datanets,
            models: genesis.models,
            payouts: genesis.payouts,
        }
    }
}

impl<T: Config> From<ParameterSet> for GenesisConfig<T> {
    fn from(set: ParameterSet) -> Self {
        GenesisConfig {
            consensus: set.consensus,
            settlement: set.settlement,
            bonds: set.bonds,
            datanets: set.datanets,
            models: set.models,
            payouts: set.payouts,
            _runtime: Default::default(),
        }
    }
}

impl<T: Config> Pallet<T> {
    /// All parameters in force.
    pub fn in_force() -> ParameterSet {
        ParameterSet {
            consensus: Consensus::<T>::get(),
            settlement: Settlement::<T>::get(),
            bonds: Bonds::<T>::get(),
            datanets: Datanets::<T>::get(),
            models: Models::<T>::get(),
            payouts: Payouts::<T>::get(),
        }
    }

    pub(crate) fn store(set: &ParameterSet) {
        Consensus::<T>::put(set.consensus);
        Settlement::<T>::put(set.settlement);
        Bonds::<T>::put(set.bonds);
        Datanets::<T>::put(set.datanets);
        Models::<T>::put(set.models);
        Payouts::<T>::put(set.payouts);
    }

    /// Applies `change` if the parameters are valid with it.
    pub(crate) fn replace(change: impl FnOnce(&mut ParameterSet)) -> Result<(), Error<T>> {
        let before = Self::in_force();
        let mut after = before;
        change(&mut after);
        after.check_after(&before)?;
        Self::store(&after);
        Ok(())
    }

    /// Checks every invariant of the pallet; the error names the one that is broken.
    #[cfg(any(feature = "std", feature = "try-runtime"))]
    pub fn do_try_state() -> Result<(), sp_runtime::DispatchError> {
        frame_support::ensure!(
            Self::in_force().check().is_ok(),
            "1: the parameters in force are valid as a whole"
        );
        Ok(())
    }
}

impl<T: Config> Parameters for Pallet<T> {
    fn consensus() -> ConsensusParameters {
        Consensus::<T>::get()
    }
    fn settlement() -> SettlementParameters {
        Settlement::<T>::get()
    }
    fn bonds() -> BondParameters {
        Bonds::<T>::get()
    }
    fn datanets() -> DatanetParameters {
        Datanets::<T>::get()
    }
    fn models() -> ModelParameters {
        Models::<T>::get()
    }
    fn payouts() -> PayoutParameters {
        Payouts::<T>::get()
    }
}
