//! BABE, GRANDPA, sessions and offences over the validators of genesis.

use crate::{
    constants::{deposit, MAX_AUTHORITIES, REPORTABLE_SESSIONS},
    AccountId, Babe, Balance, Balances, Historical, Offences, Protocol, Runtime, RuntimeEvent,
    Session, SessionKeys,
};
use alloc::vec::Vec;
use frame_support::{
    parameter_types,
    storage::types::ValueQuery,
    storage_alias,
    traits::{ConstU32, Get},
    weights::Weight,
};
use openledger_traits::Parameters;
use pallet_session::historical;
use sp_runtime::{
    traits::{Convert, ConvertInto, OpaqueKeys},
    Perbill,
};
use sp_staking::{
    offence::{OffenceDetails, OffenceSeverity, OnOffenceHandler},
    SessionIndex,
};

/// Milliseconds of a slot, fixed at genesis: the same code runs chains of different pace.
pub struct SlotDuration;
impl Get<u64> for SlotDuration {
    fn get() -> u64 {
        Protocol::consensus().slot_duration
    }
}

/// Slots of an epoch, fixed at genesis.
pub struct EpochDuration;
impl Get<u64> for EpochDuration {
    fn get() -> u64 {
        // Divided by: never zero, not even before genesis has been written.
        Protocol::consensus().epoch_length.max(1)
    }
}

/// Slots in which an equivocation can be reported after the session it happened in.
pub struct ReportLongevity;
impl Get<u64> for ReportLongevity {
    fn get() -> u64 {
        EpochDuration::get().saturating_mul(REPORTABLE_SESSIONS.into())
    }
}

impl pallet_babe::Config for Runtime {
    type EpochDuration = EpochDuration;
    type ExpectedBlockTime = SlotDuration;
    type EpochChangeTrigger = pallet_babe::ExternalTrigger;
    type DisabledValidators = Session;
    type WeightInfo = ();
    type MaxAuthorities = ConstU32<MAX_AUTHORITIES>;
    type MaxNominators = ConstU32<0>;
    type KeyOwnerProof = sp_session::MembershipProof;
    type EquivocationReportSystem =
        pallet_babe::EquivocationReportSystem<Runtime, Offences, Historical, ReportLongevity>;
}

impl pallet_grandpa::Config for Runtime {
    type RuntimeEvent = RuntimeEvent;
    type WeightInfo = ();
    type MaxAuthorities = ConstU32<MAX_AUTHORITIES>;
    type MaxNominators = ConstU32<0>;
    type MaxSetIdSessionEntries = MaxSetIdSessionEntries;
    type KeyOwnerProof = sp_session::MembershipProof;
    type EquivocationReportSystem =
        pallet_grandpa::EquivocationReportSystem<Runtime, Offences, Historical, ReportLongevity>;
}

impl pallet_authorship::Config for Runtime {
    type FindAuthor = pallet_session::FindAccountFromAuthorIndex<Runtime, Babe>;
    type EventHandler = ();
}

impl pallet_authority_discovery::Config for Runtime {
    type MaxAuthorities = ConstU32<MAX_AUTHORITIES>;
}

parameter_types! {
    /// Sets of GRANDPA that are remembered to place an equivocation.
    pub const MaxSetIdSessionEntries: u64 = REPORTABLE_SESSIONS as u64;
    /// Held while an account has session keys.
    pub const KeyDeposit: Balance = deposit(4, 32 * 4);
}

impl pallet_session::Config for Runtime {
    type RuntimeEvent = RuntimeEvent;
    type ValidatorId = AccountId;
    type ValidatorIdOf = ConvertInto;
    type ShouldEndSession = Babe;
    type NextSessionRotation = Babe;
    type SessionManager = historical::NoteHistoricalRoot<Runtime, GenesisValidators>;
    type SessionHandler = <SessionKeys as OpaqueKeys>::KeyTypeIdProviders;
    type Keys = SessionKeys;
    type DisablingStrategy = pallet_session::disabling::UpToLimitWithReEnablingDisablingStrategy;
    type WeightInfo = pallet_session::weights::SubstrateWeight<Runtime>;
    type Currency = Balances;
    type KeyDeposit = KeyDeposit;
}

/// Validators bond nothing yet, so their identification says nothing more.
pub struct Unbonded;
impl Convert<AccountId, Option<()>> for Unbonded {
    fn convert(_: AccountId) -> Option<()> {
        Some(())
    }
}

impl historical::Config for Runtime {
    type RuntimeEvent = RuntimeEvent;
    type FullIdentification = ();
    type FullIdentificationOf = Unbonded;
}

/// Accounts that validate, since genesis and for good.
#[storage_alias]
type ValidatorSet = StorageValue<GenesisValidators, Vec<AccountId>, ValueQuery>;

/// The validators of genesis, in every session. Who purged its keys is left out until it sets new ones;
/// nobody else comes in.
pub struct GenesisValidators;

impl GenesisValidators {
    fn set() -> Vec<(AccountId, ())> {
        let mut set = ValidatorSet::get();
        if set.is_empty() {
            // Genesis: those whose keys it names.
            set = pallet_session::NextKeys::<Runtime>::iter_keys().collect();
            set.sort();
            ValidatorSet::put(&set);
        }
        set.retain(|who| pallet_session::NextKeys::<Runtime>::contains_key(who));
        set.into_iter().map(|who| (who, ())).collect()
    }
}

impl pallet_session::SessionManager<AccountId> for GenesisValidators {
    fn new_session(_: SessionIndex) -> Option<Vec<AccountId>> {
        let set: Vec<_> = Self::set().into_iter().map(|(who, ())| who).collect();
        (!set.is_empty()).then_some(set)
    }
    fn start_session(_: SessionIndex) {}
    fn end_session(_: SessionIndex) {}
}

impl historical::SessionManager<AccountId, ()> for GenesisValidators {
    fn new_session(_: SessionIndex) -> Option<Vec<(AccountId, ())>> {
        // Without any, those of the session before go on.
        let set = Self::set();
        (!set.is_empty()).then_some(set)
    }
    fn start_session(_: SessionIndex) {}
    fn end_session(ended: SessionIndex) {
        Historical::prune_up_to(ended.saturating_sub(REPORTABLE_SESSIONS));
    }
}

impl pallet_offences::Config for Runtime {
    type RuntimeEvent = RuntimeEvent;
    type IdentificationTuple = historical::IdentificationTuple<Runtime>;
    type OnOffenceHandler = DisableOffenders;
}

/// There is no bond to slash while the set is that of genesis: an offender is disabled for the rest
/// of the session.
pub struct DisableOffenders;

impl OnOffenceHandler<AccountId, historical::IdentificationTuple<Runtime>, Weight>
    for DisableOffenders
{
    fn on_offence(
        offenders: &[OffenceDetails<AccountId, historical::IdentificationTuple<Runtime>>],
        fractions: &[Perbill],
        _: SessionIndex,
    ) -> Weight {
        let mut weight = Weight::zero();
        for (details, fraction) in offenders.iter().zip(fractions) {
            let (validator, ()) = details.offender.clone();
            Session::report_offence(validator, OffenceSeverity(*fraction));
            weight = weight.saturating_add(
                <Runtime as frame_system::Config>::DbWeight::get().reads_writes(2, 1),
            );
        }
        weight
    }
}
