//! What became of a call: its events, or why it failed.

use crate::{
    calls::EncodedCall,
    client::decode,
    connection::Connection,
    error::{ChainError, DispatchFailure, SubmitError},
    events::Event,
};
use openledger_primitives::hash::blake2_256;
use parity_scale_codec::Decode;
use subxt::{error::DispatchError, events::Phase, utils::H256, ArcMetadata};

/// An event, its fields in SCALE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawEvent {
    /// Pallet, as the runtime names it.
    pub pallet: String,
    /// Event, as the pallet names it.
    pub name: String,
    /// Its fields, encoded.
    pub fields: Vec<u8>,
}

/// A call that was applied in a finalized block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Hash of the block.
    pub block: [u8; 32],
    /// Number of the block.
    pub number: u32,
    /// Hash of the transaction.
    pub extrinsic: [u8; 32],
    /// Position of the transaction in the block.
    pub index: u32,
    /// Events of the transaction, in order.
    pub events: Vec<RawEvent>,
}

impl Outcome {
    /// The first event `E`.
    pub fn find<E: Event>(&self) -> Result<Option<E>, ChainError> {
        Ok(self.all::<E>()?.into_iter().next())
    }

    /// Every event `E`, in order.
    pub fn all<E: Event>(&self) -> Result<Vec<E>, ChainError> {
        self.events
            .iter()
            .filter(|event| event.pallet == E::PALLET && event.name == E::NAME)
            .map(|event| decode(&format!("event {}.{}", E::PALLET, E::NAME), &event.fields))
            .collect()
    }

    /// The first event `E`, which the call is known to emit.
    pub fn expect<E: Event>(&self) -> Result<E, ChainError> {
        self.find::<E>()?.ok_or_else(|| {
            ChainError::Missing(format!(
                "event {}.{} of transaction 0x{}",
                E::PALLET,
                E::NAME,
                hex::encode(self.extrinsic)
            ))
        })
    }
}

/// Looks in a block for a transaction with one of `hashes`: its position and hash.
pub(crate) async fn find_in_block(
    connection: &Connection,
    block: H256,
    hashes: &[[u8; 32]],
) -> Result<Option<(u32, [u8; 32])>, ChainError> {
    let details = connection
        .rpc
        .chain_get_block(Some(block))
        .await
        .map_err(|error| connection.error("a block", error))?
        .ok_or_else(|| ChainError::Missing(format!("block {block:?}")))?;
    Ok(details
        .block
        .extrinsics
        .iter()
        .enumerate()
        .find_map(|(index, extrinsic)| {
            let hash = blake2_256(&extrinsic.0);
            hashes.contains(&hash).then_some((index as u32, hash))
        }))
}

/// Reads what happened to the transaction at `index` of a block.
pub(crate) async fn read(
    connection: &Connection,
    call: &EncodedCall,
    block: H256,
    index: u32,
    extrinsic: [u8; 32],
) -> Result<Outcome, SubmitError> {
    let number = connection.number(block).await?;
    let pruned = || SubmitError::EventsPruned {
        call: call.label(),
        block: block.0,
    };
    let at = match connection.at(block).await {
        Ok(at) => at,
        Err(error @ (ChainError::Unreachable { .. } | ChainError::Incompatible { .. })) => {
            return Err(error.into())
        }
        // The state of the block is gone, or the connection is: a request that needs no state tells.
        Err(_) => {
            connection.best_hash().await?;
            return Err(pruned());
        }
    };
    let all = match at.events().fetch().await {
        Ok(all) => all,
        Err(_) => {
            connection.best_hash().await?;
            return Err(pruned());
        }
    };
    let mut events = Vec::new();
    for event in all.iter() {
        let event = event.map_err(|error| ChainError::Decode {
            what: format!("the events of block {block:?}"),
            reason: error.to_string(),
        })?;
        if event.phase() != Phase::ApplyExtrinsic(index) {
            continue;
        }
        if event.pallet_name() == "System" && event.event_name() == "ExtrinsicFailed" {
            return Err(failure(call, block.0, event.field_bytes(), at.metadata()));
        }
        events.push(RawEvent {
            pallet: event.pallet_name().to_owned(),
            name: event.event_name().to_owned(),
            fields: event.field_bytes().to_vec(),
        });
    }
    Ok(Outcome {
        block: block.0,
        number,
        extrinsic,
        index,
        events,
    })
}

/// Renders the error of `System.ExtrinsicFailed` with the pallet's own words.
fn failure(
    call: &EncodedCall,
    block: [u8; 32],
    fields: &[u8],
    metadata: ArcMetadata,
) -> SubmitError {
    let dispatch = |pallet: &str, error: &str, docs: String| {
        SubmitError::from(Box::new(DispatchFailure {
            call: call.label(),
            pallet: pallet.to_owned(),
            error: error.to_owned(),
            docs,
            block,
        }))
    };
    match DispatchError::decode_from(fields, metadata.clone()) {
        Ok(DispatchError::Module(module)) => match module.details() {
            Ok(details) => dispatch(
                details.pallet.name(),
                &details.variant.name,
                details.variant.docs.join(" ").trim().to_owned(),
            ),
            Err(error) => dispatch("Runtime", "Module", error.to_string()),
        },
        Ok(error) => {
            let name = format!("{error:?}");
            let name = name.split(['(', ' ']).next().unwrap_or_default().to_owned();
            dispatch("Runtime", &name, error.to_string())
        }
        Err(error) => dispatch("Runtime", "Unknown", error.to_string()),
    }
}

/// Fee of the transaction, planck: `TransactionPayment.TransactionFeePaid`.
#[derive(Decode)]
struct FeePaid {
    _who: [u8; 32],
    actual_fee: u128,
    _tip: u128,
}

impl Outcome {
    /// What the transaction itself cost, planck; `None` when the runtime charged nothing.
    pub fn transaction_fee(&self) -> Option<u128> {
        self.events
            .iter()
            .find(|event| {
                event.pallet == "TransactionPayment" && event.name == "TransactionFeePaid"
            })
            .and_then(|event| FeePaid::decode(&mut event.fields.as_slice()).ok())
            .map(|paid| paid.actual_fee)
    }
}
