#![cfg_attr(not(feature = "std"), no_std)]
//! The performance-bond ledger: stake, thaw, reservation and exposure.
