//! Accounts.

use base58::ToBase58;
use blake2::{Blake2b512, Digest};
use parity_scale_codec::{Decode, Encode};
use scale_info::TypeInfo;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::{fmt, str::FromStr};
use subxt::utils::AccountId32;

/// The prefix of the chain's addresses; its runtime has the same in `System::SS58Prefix`.
const PREFIX: u16 = 2609;

/// An account: an sr25519 public key, or the address of a keyless account. Shown in SS58 with the chain's
/// prefix; read with any.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, TypeInfo)]
pub struct AccountId(pub [u8; 32]);

impl fmt::Display for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The two bytes of a prefix above 63.
        let ident = PREFIX & 0x3fff;
        let first = 0x40 | ((ident & 0xfc) >> 2) as u8;
        let second = (ident >> 8) as u8 | ((ident & 3) << 6) as u8;
        let mut bytes = vec![first, second];
        bytes.extend_from_slice(&self.0);
        let checksum = Blake2b512::new()
            .chain_update(b"SS58PRE")
            .chain_update(&bytes)
            .finalize();
        bytes.extend_from_slice(&checksum[..2]);
        f.write_str(&bytes.to_base58())
    }
}

impl fmt::Debug for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for AccountId {
    type Err = String;

    /// Reads SS58 or `0x` and 64 hexadecimal digits.
    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(digits) = text.strip_prefix("0x") {
            let mut bytes = [0; 32];
            return hex::decode_to_slice(digits, &mut bytes)
                .map(|()| AccountId(bytes))
                .map_err(|error| format!("{text} is not an account: {error}"));
        }
        AccountId32::from_str(text)
            .map(|account| AccountId(account.0))
            .map_err(|error| format!("{text} is not an account: {error}"))
    }
}

impl From<[u8; 32]> for AccountId {
    fn from(bytes: [u8; 32]) -> Self {
        AccountId(bytes)
    }
}

impl From<AccountId> for AccountId32 {
    fn from(account: AccountId) -> Self {
        AccountId32(account.0)
    }
}

impl Serialize for AccountId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for AccountId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_should_be_shown_as_the_chain_shows_it() {
        // Alice; as subxt and `openledger-node key inspect` do, with another prefix and with the chain's.
        let alice: AccountId = "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY"
            .parse()
            .unwrap();
        assert_eq!(
            alice.to_string(),
            "abnVoGVhNqrk4k28K3SbHbaHb7A1KozBCQnpErUmx756tUX1r"
        );
        assert_eq!(
            "abnVoGVhNqrk4k28K3SbHbaHb7A1KozBCQnpErUmx756tUX1r".parse(),
            Ok(alice)
        );
    }

    #[test]
    fn an_account_reads_back_from_what_it_shows() {
        let account = AccountId([7; 32]);
        assert_eq!(account.to_string().parse(), Ok(account));
        assert_eq!(format!("0x{}", hex::encode([7; 32])).parse(), Ok(account));
        assert!("5Grw".parse::<AccountId>().is_err());
        assert!("0x07".parse::<AccountId>().is_err());
    }
}
