//! The runtime APIs that this client reads through, one file per pallet.

pub mod datanets;
pub mod models;
pub mod payouts;
pub mod protocol;
pub mod settlement;
pub mod system;
pub mod workers;

use parity_scale_codec::{Decode, Encode};
use scale_info::TypeInfo;

/// A call of a runtime API: its arguments in SCALE.
pub trait Query: Encode + TypeInfo + 'static {
    /// The API.
    const API: &'static str;
    /// Its method.
    const METHOD: &'static str;
    /// What it returns.
    type Output: Decode + TypeInfo + 'static;
}

macro_rules! queries {
    ($api:literal: $(
        $(#[$meta:meta])*
        $name:ident = $method:literal { $( $(#[$field_meta:meta])* $field:ident : $ty:ty, )* } -> $output:ty;
    )*) => {
        $(
            $(#[$meta])*
            #[derive(Clone, Debug, PartialEq, parity_scale_codec::Encode, scale_info::TypeInfo)]
            pub struct $name { $( $(#[$field_meta])* pub $field: $ty, )* }

            impl crate::apis::Query for $name {
                const API: &'static str = $api;
                const METHOD: &'static str = $method;
                type Output = $output;
            }
        )*

        pub(crate) fn required() -> Vec<crate::requirements::Required> {
            vec![$( crate::requirements::Required::query::<$name>(), )*]
        }
    };
}
pub(crate) use queries;
