#![cfg_attr(not(feature = "std"), no_std)]
//! Inference workers: registration, service keys, liveness and discovery.
