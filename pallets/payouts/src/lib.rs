#![cfg_attr(not(feature = "std"), no_std)]
//! Earnings of every role: vesting, claims, reasons and pools.
