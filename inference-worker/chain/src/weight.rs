//! What a call weighs and costs, by the runtime's own account.

use crate::{
    calls::EncodedCall, client::decode, error::ChainError, signing::call_bytes, ChainClient,
};
use parity_scale_codec::{Compact, Decode, Encode};

/// `TransactionPaymentCallApi` of the SDK.
const FUNCTION: &str = "TransactionPaymentCallApi_query_call_info";

/// Weight of a call, before it is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallWeight {
    /// Time that it may take, picoseconds.
    pub ref_time: u64,
    /// Bytes of state that it may touch.
    pub proof_size: u64,
    /// Fee for weight and length, without tip, planck.
    pub fee: u128,
    /// Bytes of the call.
    pub bytes: u32,
}

/// `sp_weights::Weight`, the class and the fee, as the SDK encodes them.
#[derive(Decode)]
struct DispatchInfo {
    ref_time: Compact<u64>,
    proof_size: Compact<u64>,
    _class: u8,
    partial_fee: u128,
}

impl ChainClient {
    /// What `call` weighs and costs at the best block.
    pub async fn call_weight(&self, call: &EncodedCall) -> Result<CallWeight, ChainError> {
        self.read(|connection| async move {
            let hash = connection.best_hash().await?;
            let mut arguments = call_bytes(&connection, call, hash).await?;
            let bytes = u32::try_from(arguments.len()).unwrap_or(u32::MAX);
            bytes.encode_to(&mut arguments);
            let answer = connection.state_call(FUNCTION, &arguments, hash).await?;
            let info: DispatchInfo = decode(FUNCTION, &answer)?;
            Ok(CallWeight {
                ref_time: info.ref_time.0,
                proof_size: info.proof_size.0,
                fee: info.partial_fee,
                bytes,
            })
        })
        .await
    }
}
