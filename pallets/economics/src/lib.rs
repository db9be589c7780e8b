#![cfg_attr(not(feature = "std"), no_std)]
//! Integer-only arithmetic of fees, splits, attribution shares and slashes, used by runtime and worker alike.
