#![cfg_attr(not(feature = "std"), no_std)]
//! Datanets: contributions of data, their admission, and sealed Merkle-rooted versions.
