//! The project's own pallets, tied together by the traits of `openledger-traits`.

use crate::{AccountId, Runtime};
use frame_system::EnsureRoot;

impl pallet_protocol::Config for Runtime {
    type AdminOrigin = EnsureRoot<AccountId>;
    type WeightInfo = ();
}
