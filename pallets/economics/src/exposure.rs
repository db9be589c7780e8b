//! How much unsettled work a bond answers for.

use openledger_primitives::Balance;
use parity_scale_codec::{Decode, DecodeWithMemTracking, Encode, MaxEncodedLen};
use scale_info::TypeInfo;

/// A slash is twice the batch's fee: what is reserved for it.
pub const RESERVE_FACTOR: Balance = 2;

/// A worker's bond and what it answers for, planck.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    Encode,
    Decode,
    DecodeWithMemTracking,
    MaxEncodedLen,
    TypeInfo,
)]
pub struct Exposure {
    /// Own bond that does not thaw.
    pub own: Balance,
    /// Bond that counts.
    pub usable: Balance,
    /// Part of the usable bond already reserved.
    pub reserved: Balance,
    /// Fees of batches inside the challenge window.
    pub window_fees: Balance,
    /// Fees of batches inside liability (challenge and evidence), those of the window among them.
    pub liability_fees: Balance,
}

/// The limit that a batch would break.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Fees inside the challenge window may be half of the own bond.
    Window,
    /// Fees inside liability may be half of the usable bond.
    Liability,
    /// Twice the batch's fee must be free in the usable bond.
    Reservation,
}

impl Exposure {
    /// Checks that a batch of `fee` fits. Returns what to reserve for it.
    pub fn admit(&self, fee: Balance) -> Result<Balance, Limit> {
        if fee > half(self.own).saturating_sub(self.window_fees) {
            return Err(Limit::Window);
        }
        if fee > half(self.usable).saturating_sub(self.liability_fees) {
            return Err(Limit::Liability);
        }
        fee.checked_mul(RESERVE_FACTOR)
            .filter(|reserve| *reserve <= self.usable.saturating_sub(self.reserved))
            .ok_or(Limit::Reservation)
    }

    /// The largest fee that [`admit`](Self::admit) accepts.
    pub fn room(&self) -> Balance {
        half(self.own)
            .saturating_sub(self.window_fees)
            .min(half(self.usable).saturating_sub(self.liability_fees))
            .min(half(self.usable.saturating_sub(self.reserved)))
    }
}

fn half(amount: Balance) -> Balance {
    amount.checked_div(2).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BONDED: Exposure = Exposure {
        own: 100,
        usable: 300,
        reserved: 0,
        window_fees: 0,
        liability_fees: 0,
    };

    #[test]
    fn each_limit_holds() {
        assert_eq!(BONDED.room(), 50);
        assert_eq!(BONDED.admit(50), Ok(100));
        assert_eq!(BONDED.admit(51), Err(Limit::Window));
        let late = Exposure {
            liability_fees: 120,
            ..BONDED
        };
        assert_eq!(
            (late.admit(30), late.admit(31)),
            (Ok(60), Err(Limit::Liability))
        );
        let reserved = Exposure {
            reserved: 261,
            ..BONDED
        };
        assert_eq!(
            (reserved.admit(19), reserved.admit(20)),
            (Ok(38), Err(Limit::Reservation))
        );
        assert_eq!(Exposure::default().admit(0), Ok(0));
        assert_eq!(Exposure::default().admit(1), Err(Limit::Window));
    }

    proptest! {
        #[test]
        fn room_is_the_largest_fee_admitted(
            own: u128, usable: u128, reserved: u128, window_fees: u128, liability_fees: u128,
        ) {
            let exposure = Exposure { own, usable, reserved, window_fees, liability_fees };
            let room = exposure.room();
            prop_assert!(exposure.admit(room).is_ok());
            prop_assert!(exposure.admit(room + 1).is_err());
        }
    }
}
