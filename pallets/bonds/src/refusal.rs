//! Why the ledger refuses a transition.

use crate::{Config, Error};

/// Why a transition of a [`Ledger`](crate::Ledger) is refused. Each has an error of the pallet of
/// the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The amount is zero.
    ZeroAmount,
    /// A sum would exceed 128 bits.
    Overflow,
    /// More than the own stake that does not thaw.
    MoreThanBonded,
    /// The rest would not cover what is reserved.
    Reserved,
    /// All slots for thaws are taken.
    TooManyThaws,
    /// Nothing has thawed long enough.
    NothingToWithdraw,
    /// The bond still answers for something.
    Liable,
    /// A slash is announced and not yet applied.
    SlashPending,
    /// The usable stake that is not reserved is smaller.
    BondTooSmall,
}

impl<T: Config<I>, I: 'static> From<Refusal> for Error<T, I> {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::ZeroAmount => Error::ZeroAmount,
            Refusal::Overflow => Error::Overflow,
            Refusal::MoreThanBonded => Error::MoreThanBonded,
            Refusal::Reserved => Error::Reserved,
            Refusal::TooManyThaws => Error::TooManyThaws,
            Refusal::NothingToWithdraw => Error::NothingToWithdraw,
            Refusal::Liable => Error::Liable,
            Refusal::SlashPending => Error::SlashPending,
            Refusal::BondTooSmall => Error::BondTooSmall,
        }
    }
}
