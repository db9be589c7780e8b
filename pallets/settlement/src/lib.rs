#![cfg_attr(not(feature = "std"), no_std)]
//! Payment channels, vouchers and batches of inference receipts, settled exactly.
