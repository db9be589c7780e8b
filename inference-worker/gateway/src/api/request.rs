//! What is asked of the gateway, as far as one voucher pays for it.

use crate::GatewayError;
use openledger_openai::{ApiError, CallSyntax, Completion, Endpoint, Prompt, ToolChoice};
use openledger_text::TextModel;

/// Reads a body. Whatever OpenAI's API has and the worker understands is understood here, by the same
/// code; a request has one answer, because each answer has vouchers of its own.
///
/// # Errors
/// [`GatewayError::Request`] that names the field at fault.
pub fn read(endpoint: Endpoint, body: &[u8]) -> Result<Completion, GatewayError> {
    let request = Completion::parse(endpoint, body)?;
    one_answer(&request)?;
    Ok(request)
}

fn one_answer(request: &Completion) -> Result<(), ApiError> {
    let unsupported = |param: &str, message: &str| {
        Err(ApiError::invalid("unsupported_value", message).about(param))
    };
    if request.n != 1 {
        return unsupported("n", "`n` must be 1: each answer has a voucher of its own.");
    }
    if matches!(&request.prompt, Prompt::Inputs(inputs) if inputs.len() != 1) {
        return unsupported(
            "prompt",
            "`prompt` must be one prompt: each answer has a voucher of its own.",
        );
    }
    if request.echo {
        return unsupported(
            "echo",
            "`echo` is not supported: a receipt is for what the model writes.",
        );
    }
    Ok(())
}

/// Refuses calls that the model would not know how to write, before anything is signed for them.
///
/// # Errors
/// [`GatewayError::Request`] when tools are offered to such a model.
pub fn check_tools(request: &Completion, text: &TextModel) -> Result<(), GatewayError> {
    let free = !request.tools.is_empty() && request.tool_choice == ToolChoice::Auto;
    if free && syntax(text) == CallSyntax::Unknown {
        return Err(ApiError::unprocessable(
            "no_tool_format",
            "The chat template of this model says nothing of tools, so it cannot know when to call one. \
             Force a call by `tool_choice`, or leave `tools` out.",
        )
        .about("tools")
        .into());
    }
    Ok(())
}

/// How a model writes calls.
pub fn syntax(text: &TextModel) -> CallSyntax {
    text.template().map_or(CallSyntax::Unknown, |template| {
        CallSyntax::of_template(template.source())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_chat(more: &str) -> Result<Completion, GatewayError> {
        let body =
            format!(r#"{{"model":"m","messages":[{{"role":"user","content":"Hi"}}]{more}}}"#);
        read(Endpoint::Chat, body.as_bytes())
    }

    #[test]
    fn what_changes_the_answer_is_in_what_the_voucher_commits_to() {
        let plain = read_chat("").unwrap();
        for more in [
            r#","stop":"x""#,
            r#","logprobs":true"#,
            r#","frequency_penalty":1"#,
            r#","presence_penalty":1"#,
            r#","repetition_penalty":2"#,
            r#","logit_bias":{"5":1}"#,
            r#","response_format":{"type":"json_object"}"#,
            r#","guided_regex":"a+""#,
            r#","temperature":0.5"#,
            r#","top_p":0.5"#,
            r#","top_k":5"#,
            r#","min_p":0.5"#,
            r#","seed":1"#,
            r#","ignore_eos":true"#,
            r#","chat_template_kwargs":{"enable_thinking":false}"#,
            r#","tools":[{"type":"function","function":{"name":"f"}}]"#,
        ] {
            let request = read_chat(more).unwrap();
            assert_ne!(request.canonical("1", 9), plain.canonical("1", 9), "{more}");
        }
        // And what does not change it is not.
        let same = read_chat(r#","user":"u","stream":true,"n":1,"stop":null"#).unwrap();
        assert_eq!(same.canonical("1", 9), plain.canonical("1", 9));
    }

    #[test]
    fn more_than_one_answer_is_refused_by_name() {
        let error = read_chat(r#","n":2"#).unwrap_err();
        assert_eq!(error.body()["error"]["param"], "n");
        assert_eq!(error.status(), 400);
        for (body, param) in [
            (r#"{"model":"m","prompt":["a","b"]}"#, "prompt"),
            (r#"{"model":"m","prompt":"a","echo":true}"#, "echo"),
        ] {
            let error = read(Endpoint::Text, body.as_bytes()).unwrap_err();
            assert_eq!(error.body()["error"]["param"], param);
        }
    }
}
