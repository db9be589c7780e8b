//! Claims of what was earned.

use super::calls;

calls! { "Payouts":
    /// Claims all that the caller earned and that has vested, up to the pallet's bound.
    Claim = "claim" {}
}
