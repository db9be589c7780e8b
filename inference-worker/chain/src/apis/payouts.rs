//! Earnings.

use super::queries;
use openledger_primitives::{Balance, RevisionId};

queries! { "PayoutsApi":
    /// The unattributed fees of a revision, planck.
    Pool = "pool" {
        /// Which.
        revision: RevisionId,
    } -> Balance;
}
