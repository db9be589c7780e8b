#![cfg_attr(not(feature = "std"), no_std)]
//! What the pallets ask of each other.
