//! The runtime's version.

use crate::apis::RUNTIME_API_VERSIONS;
use sp_version::{runtime_version, RuntimeVersion};

/// The version that nodes compare before they run this code. `spec_version` rises with every change
/// of behaviour, `transaction_version` with every change of how a call is encoded.
#[runtime_version]
pub const VERSION: RuntimeVersion = RuntimeVersion {
    spec_name: alloc::borrow::Cow::Borrowed("openledger"),
    impl_name: alloc::borrow::Cow::Borrowed("openledger-node"),
    authoring_version: 1,
    spec_version: 1,
    impl_version: 1,
    apis: RUNTIME_API_VERSIONS,
    transaction_version: 1,
    system_version: 1,
};
