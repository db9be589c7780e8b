//! From a call to the bytes of a signed transaction.

use crate::{calls::EncodedCall, connection::Connection, error::ChainError, Key};
use openledger_primitives::hash::blake2_256;
use subxt::{
    config::DefaultExtrinsicParamsBuilder,
    ext::{
        scale_encode::{EncodeAsFields, Error as EncodeError, FieldIter},
        scale_type_resolver::TypeResolver,
    },
    transactions::Payload,
    utils::H256,
    SubstrateConfig,
};

/// Blocks for which a transaction is valid after the block it is anchored to.
pub(crate) const MORTALITY: u32 = 64;

/// How far finality may lag before a transaction is anchored to the best block instead: one
/// anchored deeper than its mortality would be dead at birth.
const MAX_LAG: u32 = MORTALITY / 2;

/// Arguments that are encoded already.
pub(crate) struct RawArguments(Vec<u8>);

impl EncodeAsFields for RawArguments {
    fn encode_as_fields_to<R: TypeResolver>(
        &self,
        _: &mut dyn FieldIter<'_, R::TypeId>,
        _: &R,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        out.extend_from_slice(&self.0);
        Ok(())
    }
}

struct RawPayload<'a> {
    call: &'a EncodedCall,
    arguments: RawArguments,
}

impl Payload for RawPayload<'_> {
    type CallData = RawArguments;

    fn pallet_name(&self) -> &str {
        self.call.pallet
    }

    fn call_name(&self) -> &str {
        self.call.name
    }

    fn call_data(&self) -> &RawArguments {
        &self.arguments
    }
}

/// A signed transaction.
#[derive(Clone, Debug)]
pub(crate) struct Signed {
    pub(crate) bytes: Vec<u8>,
    /// blake2-256 of the bytes: the transaction's name.
    pub(crate) hash: [u8; 32],
    /// Block it is anchored to: it is in none before.
    pub(crate) born: u32,
    /// Last block that it could be in.
    pub(crate) dies: u32,
    /// Runtime it was signed for.
    pub(crate) spec_version: u32,
}

/// Signs `call` with `nonce`, mortal from the finalized head.
pub(crate) async fn sign(
    connection: &Connection,
    key: &Key,
    call: &EncodedCall,
    nonce: u32,
    tip: u128,
) -> Result<Signed, ChainError> {
    let best = connection.best_hash().await?;
    let best_number = connection.number(best).await?;
    let finalized = connection.finalized_hash().await?;
    let finalized_number = connection.number(finalized).await?;
    let (anchor, born): (H256, u32) = if best_number.saturating_sub(finalized_number) > MAX_LAG {
        (best, best_number)
    } else {
        (finalized, finalized_number)
    };
    let at = connection.at(best).await?;
    let parameters = DefaultExtrinsicParamsBuilder::<SubstrateConfig>::new()
        .nonce(u64::from(nonce))
        .tip(tip)
        .mortal_from_unchecked(u64::from(MORTALITY), u64::from(born), anchor)
        .build();
    let payload = RawPayload {
        call,
        arguments: RawArguments(call.arguments.clone()),
    };
    let refused = |reason: String| ChainError::Refused {
        what: call.label(),
        reason,
    };
    let signed = at
        .tx()
        .create_signable_offline(&payload, parameters)
        .map_err(|error| refused(error.to_string()))?
        .sign(key.pair())
        .map_err(|error| refused(error.to_string()))?;
    let bytes = signed.into_encoded();
    Ok(Signed {
        hash: blake2_256(&bytes),
        bytes,
        born,
        dies: born.saturating_add(MORTALITY),
        spec_version: at.spec_version(),
    })
}

/// The call alone, as a transaction holds it: indices and arguments.
pub(crate) async fn call_bytes(
    connection: &Connection,
    call: &EncodedCall,
    at: H256,
) -> Result<Vec<u8>, ChainError> {
    let payload = RawPayload {
        call,
        arguments: RawArguments(call.arguments.clone()),
    };
    connection
        .at(at)
        .await?
        .tx()
        .call_data(&payload)
        .map_err(|error| ChainError::Refused {
            what: call.label(),
            reason: error.to_string(),
        })
}
