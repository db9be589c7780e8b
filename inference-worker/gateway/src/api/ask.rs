//! From a request to a question with counts and prices.

use super::request::check_tools;
use crate::{answer::Question, gateway::Gateway, GatewayError};
use openledger_openai::{Completion, Format, ToolChoice};

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
        is_excused: is_excused(request),
        model,
    })
}

/// Whether a worker may have to break the answer off for what is asked: a form that lets it go no
/// further, or tokens without text that are biased or follow the model's end.
fn is_excused(request: &Completion) -> bool {
    let is_forced = !request.tools.is_empty()
        && matches!(
            request.tool_choice,
            ToolChoice::Required | ToolChoice::Function(_)
        );
    request.format != Format::Text
        || is_forced
        || !request.sampling.logit_bias.is_empty()
        || request.ignore_eos
}

#[cfg(test)]
mod tests {
    use super::*;
    use openledger_openai::Endpoint;

    #[test]
    fn what_may_break_an_answer_off_excuses_the_worker() {
        let excused = |more: &str| {
            let body =
                format!(r#"{{"model":"m","messages":[{{"role":"user","content":"Hi"}}]{more}}}"#);
            is_excused(&Completion::parse(Endpoint::Chat, body.as_bytes()).unwrap())
        };
        let tools = r#","tools":[{"type":"function","function":{"name":"f"}}]"#;
        for more in ["", r#","stop":"x","logprobs":true,"seed":1"#, tools] {
            assert!(!excused(more), "{more}");
        }
        for more in [
            r#","response_format":{"type":"json_object"}"#,
            r#","guided_regex":"a+""#,
            r#","logit_bias":{"5":1}"#,
            r#","ignore_eos":true"#,
            &format!(r#"{tools},"tool_choice":"required""#),
        ] {
            assert!(excused(more), "{more}");
        }
    }
}
