#![cfg_attr(not(feature = "std"), no_std)]
//! Protocol parameters: fee shares, bonds and windows as validated structs.
