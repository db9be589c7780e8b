//! What programs outside the chain ask about the rules in force.

use openledger_traits::{
    BondParameters, ConsensusParameters, DatanetParameters, ModelParameters, PayoutParameters,
    SettlementParameters,
};

sp_api::decl_runtime_apis! {
    /// Reads the parameters in force. Times are in blocks, amounts in planck, shares in parts per
    /// million.
    #[api_version(1)]
    pub trait ProtocolApi {
        /// Slots and epochs.
        fn consensus() -> ConsensusParameters;
        /// Windows and limits of settlement.
        fn settlement() -> SettlementParameters;
        /// Bonds of workers.
        fn bonds() -> BondParameters;
        /// Deposits of Datanets and contributions.
        fn datanets() -> DatanetParameters;
        /// Bounds on models' terms.
        fn models() -> ModelParameters;
        /// When earnings can be claimed.
        fn payouts() -> PayoutParameters;
    }
}
