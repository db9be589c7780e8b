//! The calls that this client makes, one file per pallet. Field order is encoding order.

pub mod balances;
pub mod bonds;
pub mod datanets;
pub mod models;
pub mod payouts;
pub mod settlement;
pub mod workers;

use parity_scale_codec::Encode;
use scale_info::TypeInfo;

/// A call of the runtime: its arguments in SCALE, found by name in the node's metadata.
pub trait Call: Encode + TypeInfo + 'static {
    /// Pallet, as the runtime names it.
    const PALLET: &'static str;
    /// Call, as the pallet names it.
    const NAME: &'static str;

    /// The call with its arguments encoded, ready to be queued.
    fn encoded(&self) -> EncodedCall {
        EncodedCall {
            pallet: Self::PALLET,
            name: Self::NAME,
            arguments: self.encode(),
        }
    }
}

/// A call whose arguments are already encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodedCall {
    pub(crate) pallet: &'static str,
    pub(crate) name: &'static str,
    pub(crate) arguments: Vec<u8>,
}

impl EncodedCall {
    /// The call, as `Settlement.open_channel`.
    pub fn label(&self) -> String {
        format!("{}.{}", self.pallet, self.name)
    }
}

macro_rules! calls {
    ($pallet:literal: $(
        $(#[$meta:meta])*
        $name:ident = $call:literal { $( $(#[$field_meta:meta])* $field:ident : $ty:ty, )* }
    )*) => {
        $(
            $(#[$meta])*
            #[derive(Clone, Debug, PartialEq, parity_scale_codec::Encode, scale_info::TypeInfo)]
            pub struct $name { $( $(#[$field_meta])* pub $field: $ty, )* }

            impl crate::calls::Call for $name {
                const PALLET: &'static str = $pallet;
                const NAME: &'static str = $call;
            }
        )*

        pub(crate) fn required() -> Vec<crate::requirements::Required> {
            vec![$( crate::requirements::Required::call::<$name>(), )*]
        }
    };
}
pub(crate) use calls;
