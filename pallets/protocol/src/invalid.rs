//! Why a set of parameters is invalid.

use crate::{Config, Error};
use core::fmt;

macro_rules! invalid {
    ($($(#[$meta:meta])* $name:ident => $message:literal,)*) => {
        /// Why a set of parameters is invalid. Each has an error of the pallet of the same name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Invalid { $(#[doc = $message] $name,)* }

        impl fmt::Display for Invalid {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Invalid::$name => $message,)* })
            }
        }

        impl<T: Config> From<Invalid> for Error<T> {
            fn from(invalid: Invalid) -> Self {
                match invalid { $(Invalid::$name => Error::$name,)* }
            }
        }
    };
}

invalid! {
    SlotDuration => "a slot takes 1,000 to 60,000 ms",
    EpochLength => "an epoch has 4 to 28,800 slots",
    ZeroWindow => "every window and delay is at least one block",
    WindowTooLong => "every window and delay is at most 10,000,000 blocks",
    ZeroDeposit => "deposits and bonds are above zero",
    ForkNonceLowered => "the fork nonce never falls",
    ThawTooShort => "a bond thaws no faster than challenge window + evidence window",
    RevokeAfterClose => "a revocation takes no longer than closing",
    VersionSize => "a version adds 1 to 256 contributions",
    WorkerShare => "a worker's share is at least half",
    ProtocolShare => "the protocol's share is at least 5 %",
    Shares => "the least shares are at most one million together",
    BurnShare => "at least half of the protocol's part is burned, at most all of it",
}
