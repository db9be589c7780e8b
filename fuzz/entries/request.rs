//! A body of the API: `c`, `t`, `e`, `l` or `u` for chat, text, embeddings, loading and unloading an
//! adapter, then its bytes.

use openledger_openai::adapters::{LoadAdapter, UnloadAdapter};
use openledger_openai::limits::{ANSWERS_OF_ALL, INPUTS, MESSAGES, STOPS, TOOLS};
use openledger_openai::{ApiError, Completion, EmbeddingsRequest, Endpoint, Prompt};

/// Whether the request was taken. What is taken is within its bounds, and is the same once written and
/// read again; what is not has an error that fits into an answer.
pub fn check(data: &[u8]) -> bool {
    let Some((kind, body)) = data.split_first() else {
        return false;
    };
    let taken = match kind {
        b'c' => Completion::parse(Endpoint::Chat, body).map(completion),
        b't' => Completion::parse(Endpoint::Text, body).map(completion),
        b'e' => EmbeddingsRequest::parse(body).map(|request| {
            assert!((1..=INPUTS).contains(&request.inputs.len()));
        }),
        b'l' => LoadAdapter::parse(body).map(|request| {
            assert!(!request.name.is_empty() && !request.path.is_empty());
        }),
        b'u' => UnloadAdapter::parse(body).map(|request| assert!(!request.name.is_empty())),
        _ => return false,
    };
    match taken {
        Ok(()) => true,
        Err(error) => {
            refused(&error);
            false
        }
    }
}

fn refused(error: &ApiError) {
    assert!((400..500).contains(&error.status), "{error:?}");
    assert!(!error.message.is_empty() && error.message.len() < 2000);
    assert!(error.param.as_ref().is_none_or(|param| param.len() < 1000));
    assert!(error.body().to_string().len() < 10_000);
}

fn completion(request: Completion) {
    let prompts = match &request.prompt {
        Prompt::Messages(messages) => {
            assert!((1..=MESSAGES).contains(&messages.len()));
            1
        }
        Prompt::Inputs(inputs) => inputs.len(),
    };
    assert!((1..=ANSWERS_OF_ALL).contains(&(prompts * request.n as usize)));
    assert!(request.stop.len() <= STOPS && request.tools.len() <= TOOLS);
    let numbers = &request.sampling;
    assert!((0.0..=2.0).contains(&numbers.temperature));
    assert!(numbers.top_p > 0.0 && numbers.top_p <= 1.0);
    // What a gateway sends on, and its voucher pays for, is what the client asked for.
    let limit = request.max_tokens.unwrap_or(7);
    let written = request.canonical(&request.model, limit);
    let again =
        Completion::parse(request.endpoint, &written).expect("what was read can be written");
    assert_eq!(again.canonical(&again.model, limit), written);
    let expected = Completion {
        max_tokens: Some(limit),
        stream: true,
        include_usage: false,
        // It says nothing where there are no tools.
        tool_choice: again.tool_choice.clone(),
        ..request.clone()
    };
    assert_eq!(again, expected);
    assert!(request.tools.is_empty() || again.tool_choice == request.tool_choice);
}
