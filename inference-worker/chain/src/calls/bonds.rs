//! Bonds of workers.

use super::calls;
use openledger_primitives::Balance;
use parity_scale_codec::Compact;

calls! { "WorkerBonds":
    /// Adds to the caller's own bond.
    BondMore = "bond_more" {
        /// Planck.
        amount: Compact<Balance>,
    }
    /// Begins to thaw a part of the caller's own bond.
    Thaw = "thaw" {
        /// Planck.
        amount: Compact<Balance>,
    }
    /// Takes back what has thawed.
    Withdraw = "withdraw" {}
}
