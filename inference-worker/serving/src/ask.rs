//! From a request of the API to requests of the engine.

use crate::guide::Guides;
use openledger_engine::{EngineHandle, Request, Sampling};
use openledger_openai::{ApiError, Completion, Input, Prompt};
use openledger_text::{Conversation, StopStrings, TextError, TextModel};

/// The token ids of each prompt of a request. A long prompt takes its time: call it where that stops
/// nobody.
///
/// # Errors
/// [`ApiError`] when the model has no chat template, or a prompt cannot be encoded or is empty.
pub fn prompts(text: &TextModel, request: &Completion) -> Result<Vec<Vec<u32>>, ApiError> {
    let prompts = match &request.prompt {
        Prompt::Messages(messages) => {
            let tools: Vec<_> = request.tools.iter().map(|tool| tool.to_json()).collect();
            let conversation = Conversation {
                messages,
                tools: &tools,
                variables: Some(&request.template),
                add_generation_prompt: true,
            };
            vec![text.count_conversation(&conversation).map_err(unreadable)?]
        }
        Prompt::Inputs(inputs) => inputs
            .iter()
            .map(|input| tokens(text, input))
            .collect::<Result<_, _>>()?,
    };
    if prompts.iter().any(Vec::is_empty) {
        return Err(ApiError::invalid(
            "empty_prompt",
            "The prompt has no tokens.",
        ));
    }
    Ok(prompts)
}

/// The token ids of one text.
///
/// # Errors
/// When it cannot be encoded.
pub fn tokens(text: &TextModel, input: &Input) -> Result<Vec<u32>, ApiError> {
    match input {
        Input::Text(prompt) => text.count_text(prompt).map_err(unreadable),
        Input::Tokens(tokens) => Ok(tokens.clone()),
    }
}

fn unreadable(error: TextError) -> ApiError {
    match error {
        TextError::NoChatTemplate => ApiError::unprocessable(
            "no_chat_template",
            "This model has no chat template. Send a plain prompt to /v1/completions.",
        ),
        error => ApiError::invalid(
            "invalid_prompt",
            format!("The prompt cannot be read: {error}."),
        ),
    }
}

/// The engine's request for one answer to `prompt` with at most `limit` tokens, but for adapter, seed,
/// tenant and turn, which are the caller's. The last `answered` tokens of the prompt are the begin of
/// the answer, which goes on from there.
///
/// # Errors
/// [`ApiError`] when the model cannot do what is asked for, or the prompt leaves no room for it.
pub fn engine_request(
    engine: &EngineHandle,
    text: &TextModel,
    guides: &Guides,
    request: &Completion,
    prompt: Vec<u32>,
    answered: usize,
    limit: Option<u32>,
) -> Result<Request, ApiError> {
    let context = engine.context();
    let room = context.saturating_sub(prompt.len());
    let wanted = limit.or(request.max_tokens).map(|tokens| tokens as usize);
    if room == 0 && wanted != Some(0) || prompt.len() > context {
        return Err(ApiError::invalid(
            "context_length_exceeded",
            format!(
                "The prompt has {} tokens; this model's context is {context}, answer included. Shorten \
                 the prompt.",
                prompt.len()
            ),
        ));
    }
    let mut guide = guides.of(request)?;
    let begun = prompt.len().saturating_sub(answered);
    let begun = prompt.get(begun..).unwrap_or_default().to_vec();
    if let Some(guide) = &mut guide {
        for token in &begun {
            guide.accept(*token).map_err(|error| {
                ApiError::unprocessable(
                    "constraint_failed",
                    format!("The answer's begin: {error}."),
                )
            })?;
        }
    }
    let mut asked = Request::new(prompt, wanted.unwrap_or(room).min(room));
    let numbers = &request.sampling;
    asked.sampling = Sampling {
        temperature: numbers.temperature as f32,
        top_p: (numbers.top_p as f32).max(f32::MIN_POSITIVE),
        top_k: numbers.top_k as usize,
        min_p: numbers.min_p as f32,
        frequency_penalty: numbers.frequency_penalty as f32,
        presence_penalty: numbers.presence_penalty as f32,
        repetition_penalty: (numbers.repetition_penalty as f32).max(f32::MIN_POSITIVE),
    };
    let bias = numbers.logit_bias.iter();
    asked.logit_bias = bias.map(|(token, bias)| (*token, *bias as f32)).collect();
    asked.logprobs = request.logprobs.map(|alternatives| alternatives as usize);
    if request.echo {
        asked.prompt_logprobs = asked.logprobs;
        if asked.max_new_tokens == 0 {
            // Reading the prompt is all there is to do.
            asked.prompt_logprobs = Some(asked.logprobs.unwrap_or(0));
        }
    }
    asked.answered = answered;
    asked.constraint = guide;
    if !request.ignore_eos {
        asked.stop_tokens = engine.config().eos_token_ids.clone();
    }
    if !request.stop.is_empty() {
        let before = text.tokenizer().decode(&begun).map_err(unreadable)?;
        let stops = StopStrings::new(request.stop.clone());
        let mut stops = stops.map_err(|error| ApiError::value("stop", error.to_string()))?;
        stops.push(&before);
        asked.stop = Some(Box::new(stops.check(text.stream())));
    }
    Ok(asked)
}

/// A client's seed as the key of draws: little-endian, padded with zeros.
pub fn client_seed(seed: i64) -> [u8; 32] {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key
}
