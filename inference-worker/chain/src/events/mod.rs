//! The events that this client reads, one file per pallet.

pub mod balances;
pub mod datanets;
pub mod models;
pub mod payouts;
pub mod settlement;
pub mod workers;

use parity_scale_codec::Decode;
use scale_info::TypeInfo;

/// An event of the runtime: its fields in SCALE, found by name.
pub trait Event: Decode + TypeInfo + 'static {
    /// Pallet, as the runtime names it.
    const PALLET: &'static str;
    /// Event, as the pallet names it.
    const NAME: &'static str;
}

macro_rules! events {
    ($pallet:literal: $(
        $(#[$meta:meta])*
        $name:ident { $( $(#[$field_meta:meta])* $field:ident : $ty:ty, )* }
    )*) => {
        $(
            $(#[$meta])*
            #[derive(Clone, Debug, PartialEq, parity_scale_codec::Decode, scale_info::TypeInfo)]
            pub struct $name { $( $(#[$field_meta])* pub $field: $ty, )* }

            impl crate::events::Event for $name {
                const PALLET: &'static str = $pallet;
                const NAME: &'static str = stringify!($name);
            }
        )*

        pub(crate) fn required() -> Vec<crate::requirements::Required> {
            vec![$( crate::requirements::Required::event::<$name>(), )*]
        }
    };
}
pub(crate) use events;
