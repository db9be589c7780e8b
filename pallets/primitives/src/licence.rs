//! Licences as a lattice of permissions.

use parity_scale_codec::{Decode, DecodeWithMemTracking, Encode, MaxEncodedLen};
use scale_info::TypeInfo;
use serde::{Deserialize, Serialize};

/// What a licence permits, one bit a permission. An obligation is the absence of the permission to
/// do without it, so that combining two licences is always the meet: bitwise *and*.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    Encode,
    Decode,
    DecodeWithMemTracking,
    MaxEncodedLen,
    TypeInfo,
    Serialize,
    Deserialize,
)]
pub struct Licence(pub u32);

impl Licence {
    /// Use for which money is taken.
    pub const COMMERCIAL: Licence = Licence(1);
    /// Derived works: training is one.
    pub const DERIVATIVES: Licence = Licence(1 << 1);
    /// Derived works under other terms.
    pub const WITHOUT_SHARE_ALIKE: Licence = Licence(1 << 2);
    /// Use without naming the source.
    pub const WITHOUT_ATTRIBUTION: Licence = Licence(1 << 3);
    /// Verbatim passages in answers.
    pub const VERBATIM: Licence = Licence(1 << 4);
    /// All that is defined.
    pub const ALL: Licence = Licence((1 << 5) - 1);

    /// The permissions that both grant.
    pub const fn meet(self, other: Licence) -> Licence {
        Licence(self.0 & other.0)
    }

    /// Whether every permission of `wanted` is granted.
    pub const fn permits(self, wanted: Licence) -> bool {
        self.0 & wanted.0 == wanted.0
    }

    /// Whether only defined bits are set.
    pub const fn is_valid(self) -> bool {
        Self::ALL.0 & self.0 == self.0
    }
}
