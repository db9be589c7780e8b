//! From a request to a question with counts and prices.

use super::request::check_tools;
use crate::{answer::Question, gateway::Gateway, GatewayError};
use openledger_openai::Completion;

/// Resolves the model, counts the prompt and fixes how much may be answered.
pub(super) async fn question(
    gateway: &Gateway,
    request: &Completion,
) -> Result<Question, GatewayError> {
    let model = gateway.catalogue.find(&request.model).await?;
    gateway.max_price.check(&request.model, &model.terms)?;
    check_tools(request, &model.base.text)?;
    let base = model.base.clone();
    let counted = request.clone();
    let tokens_in = tokio::task::spawn_blocking(move || base.count_prompt(&counted))
        .await
        .map_err(|error| GatewayError::Text(error.to_string()))??;
    let room = model.base.context.saturating_sub(tokens_in);
    if tokens_in == 0 {
        return Err(GatewayError::bad(
            "empty_prompt",
            "prompt",
            "the prompt has no tokens",
        ));
    }
    if room == 0 {
        return Err(GatewayError::TooLong {
            context: model.base.context,
            prompt: tokens_in,
        });
    }
    let max_tokens = request.max_tokens.unwrap_or(room).min(room);
    Ok(Question {
        endpoint: request.endpoint,
        body: request
            .canonical(&model.info.revision.to_string(), max_tokens)
            .into(),
        tokens_in,
        max_tokens,
        model,
    })
}
