#![cfg_attr(not(feature = "std"), no_std)]
//! Codec types of the protocol: identifiers, vouchers, receipts, batches, contributions, signing payloads and Merkle-sum trees.
