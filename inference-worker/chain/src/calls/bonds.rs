//! Bonds of workers.

use super::calls;
use openledger_primitives::Balance;

calls! { "WorkerBonds":
    /// Adds to the caller's own bond.
    BondMore = "bond_more" {
        /// Planck.
        amount: Balance,
    }
    /// Begins to thaw a part of the caller's own bond.
    Thaw = "thaw" {
        /// Planck.
        amount: Balance,
    }
    /// Takes back what has thawed.
    Withdraw = "withdraw" {}
}
