//! Raw storage, by pallet and entry name.

use crate::{client::decode, error::ChainError, AccountId, ChainClient};
use openledger_primitives::revision::ModelRef;
use parity_scale_codec::Decode;
use subxt::dynamic::Value;

/// A key of a storage map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StorageKey {
    /// An account or a digest.
    Bytes([u8; 32]),
    /// An identifier.
    Number(u64),
    /// A model.
    Model(ModelRef),
}

impl From<AccountId> for StorageKey {
    fn from(account: AccountId) -> Self {
        StorageKey::Bytes(account.0)
    }
}

impl From<u32> for StorageKey {
    fn from(number: u32) -> Self {
        StorageKey::Number(u64::from(number))
    }
}

impl From<u64> for StorageKey {
    fn from(number: u64) -> Self {
        StorageKey::Number(number)
    }
}

impl From<ModelRef> for StorageKey {
    fn from(model: ModelRef) -> Self {
        StorageKey::Model(model)
    }
}

impl StorageKey {
    fn value(self) -> Value {
        match self {
            StorageKey::Bytes(bytes) => Value::from_bytes(bytes),
            StorageKey::Number(number) => Value::u128(u128::from(number)),
            StorageKey::Model(ModelRef::Base(base)) => {
                Value::unnamed_variant("Base", [Value::u128(u128::from(base))])
            }
            StorageKey::Model(ModelRef::Adapter(adapter)) => {
                Value::unnamed_variant("Adapter", [Value::u128(u128::from(adapter))])
            }
        }
    }
}

impl ChainClient {
    /// The value of a storage item at the best block, under the keys that its maps ask for; `None`
    /// when unset.
    pub async fn storage<V: Decode>(
        &self,
        pallet: &str,
        entry: &str,
        keys: &[StorageKey],
    ) -> Result<Option<V>, ChainError> {
        self.read(|connection| async move {
            let what = format!("storage {pallet}.{entry}");
            let hash = connection.best_hash().await?;
            let at = connection.at(hash).await?;
            let address = subxt::dynamic::storage::<Vec<Value>, Value>(pallet, entry);
            let parts: Vec<Value> = keys.iter().map(|key| key.value()).collect();
            let key = at
                .storage()
                .entry(address)
                .and_then(|entry| entry.fetch_key(parts))
                .map_err(|error| ChainError::Refused {
                    what: what.clone(),
                    reason: error.to_string(),
                })?;
            connection
                .rpc
                .state_get_storage(&key, Some(hash))
                .await
                .map_err(|error| connection.error(&what, error))?
                .map(|bytes| decode(&what, &bytes))
                .transpose()
        })
        .await
    }
}
