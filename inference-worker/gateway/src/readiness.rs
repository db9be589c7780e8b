//! Whether the gateway can answer now, and if not, why.

use crate::{gateway::Gateway, lanes::Breakage, GatewayError};
use serde_json::{json, Value};

/// What `/ready` says.
#[derive(Clone, Debug)]
pub struct Readiness {
    chain: Result<u32, String>,
    funds: Result<u128, String>,
    worker: bool,
    models: Result<usize, String>,
    usable: usize,
    parked: Vec<(u16, String)>,
    breakage: Result<Breakage, String>,
}

impl Gateway {
    /// Loads the text of every base that the worker serves; how many models it serves.
    ///
    /// # Errors
    /// [`GatewayError::Text`] when the store is not one to work with; others pass.
    pub async fn warm(&self) -> Result<usize, GatewayError> {
        self.catalogue.warm().await
    }

    /// Looks at chain, channel, worker and lanes.
    pub async fn readiness(&self) -> Readiness {
        let chain = self
            .chain
            .best_block()
            .await
            .map(|block| block.number)
            .map_err(|error| error.to_string());
        let funds = self
            .funds()
            .await
            .map(|funds| {
                funds
                    .deposit
                    .min(funds.signer)
                    .saturating_sub(funds.unclaimed)
            })
            .map_err(|error| error.to_string());
        let worker = match self.upstream().await {
            Ok(worker) => worker.is_alive().await,
            Err(_) => false,
        };
        let models = self.warm().await.map_err(|error| error.to_string());
        Readiness {
            chain,
            funds,
            worker,
            models,
            usable: self.pool.usable(),
            parked: self.pool.parked().into_iter().collect(),
            breakage: self
                .store
                .breakage(&self.worker.0)
                .map_err(|error| error.to_string()),
        }
    }
}

impl Readiness {
    /// Whether a request could be answered.
    pub fn is_ready(&self) -> bool {
        self.chain.is_ok()
            && self.funds.as_ref().is_ok_and(|left| *left > 0)
            && self.worker
            && self.models.as_ref().is_ok_and(|models| *models > 0)
            && self.usable > 0
    }

    /// As JSON.
    pub fn body(&self) -> Value {
        let parked: Vec<Value> = self
            .parked
            .iter()
            .map(|(lane, reason)| json!({"lane": lane, "reason": reason}))
            .collect();
        json!({
            "ready": self.is_ready(),
            "chain": match &self.chain {
                Ok(block) => json!({"best_block": block}),
                Err(error) => json!({"error": error}),
            },
            "channel": match &self.funds {
                Ok(left) => json!({"left": left.to_string()}),
                Err(error) => json!({"error": error}),
            },
            "broken_off": match &self.breakage {
                Ok(breakage) => json!({
                    "answers": breakage.answers,
                    "lost": breakage.lost.fee.to_string(),
                    "delivered": breakage.delivered.fee.to_string(),
                }),
                Err(error) => json!({"error": error}),
            },
            "worker": if self.worker { "reachable" } else { "unreachable" },
            "models": match &self.models {
                Ok(models) => json!({"served": models}),
                Err(error) => json!({"error": error}),
            },
            "lanes": {"usable": self.usable, "parked": parked},
        })
    }
}
