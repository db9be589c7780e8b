//! Log-probabilities of tokens, in the shapes of both endpoints.

use serde_json::{json, Map, Value};

/// A token's text and log-probability, natural logarithm.
#[derive(Clone, Debug, PartialEq)]
pub struct Scored {
    /// Its bytes; not always whole characters.
    pub bytes: Vec<u8>,
    /// In the model's own distribution, before temperature and cuts; none where nothing is before it.
    pub logprob: Option<f32>,
}

impl Scored {
    /// Its text; where bytes are no character by themselves, U+FFFD.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

/// A token of an answer, or of an echoed prompt.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenLogprobs {
    /// The token.
    pub token: Scored,
    /// The most probable tokens at its place, most probable first.
    pub top: Vec<Scored>,
    /// Characters of the text before it, echo included.
    pub offset: usize,
}

/// What a log-probability of nothing is written as: JSON has no infinity.
const LEAST: f32 = -9999.0;

fn number(logprob: Option<f32>) -> Value {
    match logprob {
        Some(logprob) => json!(logprob.max(LEAST)),
        None => Value::Null,
    }
}

/// The object `logprobs` of a chat's choice.
pub fn of_chat(tokens: &[TokenLogprobs]) -> Value {
    let entry = |scored: &Scored| json!({"token": scored.text(), "logprob": number(scored.logprob), "bytes": scored.bytes});
    let content: Vec<Value> = tokens
        .iter()
        .map(|token| {
            let mut value = entry(&token.token);
            value["top_logprobs"] = token.top.iter().map(entry).collect();
            value
        })
        .collect();
    json!({"content": content, "refusal": null})
}

/// The object `logprobs` of a text's choice.
pub fn of_text(tokens: &[TokenLogprobs]) -> Value {
    let top = |token: &TokenLogprobs| {
        if token.token.logprob.is_none() {
            return Value::Null;
        }
        let mut map: Map<String, Value> = Map::new();
        // Tokens that are parts of characters may have the same text: the most probable one stays, and
        // the token that is there always.
        for scored in token.top.iter().chain([&token.token]) {
            map.entry(scored.text()).or_insert(number(scored.logprob));
        }
        map.insert(token.token.text(), number(token.token.logprob));
        Value::Object(map)
    };
    json!({
        "tokens": tokens.iter().map(|t| t.token.text()).collect::<Vec<_>>(),
        "token_logprobs": tokens.iter().map(|t| number(t.token.logprob)).collect::<Vec<_>>(),
        "top_logprobs": tokens.iter().map(top).collect::<Vec<_>>(),
        "text_offset": tokens.iter().map(|t| t.offset).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scored(text: &str, logprob: f32) -> Scored {
        Scored {
            bytes: text.into(),
            logprob: Some(logprob),
        }
    }

    #[test]
    fn both_shapes_should_carry_the_same_numbers() {
        let first = TokenLogprobs {
            token: Scored {
                bytes: "A".into(),
                logprob: None,
            },
            top: Vec::new(),
            offset: 0,
        };
        let second = TokenLogprobs {
            token: scored("b", -1.5),
            top: vec![scored("c", -0.25), scored("d", f32::NEG_INFINITY)],
            offset: 1,
        };
        let tokens = [first, second];
        let chat = of_chat(&tokens[1..]);
        assert_eq!(chat["content"][0]["logprob"], -1.5);
        assert_eq!(chat["content"][0]["bytes"], json!([98]));
        assert_eq!(chat["content"][0]["top_logprobs"][0]["token"], "c");
        assert_eq!(chat["content"][0]["top_logprobs"][1]["logprob"], -9999.0);
        let text = of_text(&tokens);
        assert_eq!(text["tokens"], json!(["A", "b"]));
        assert_eq!(text["token_logprobs"], json!([null, -1.5]));
        assert_eq!(text["top_logprobs"][0], Value::Null);
        assert_eq!(
            text["top_logprobs"][1],
            json!({"b": -1.5, "c": -0.25, "d": -9999.0})
        );
        assert_eq!(text["text_offset"], json!([0, 1]));
    }
}
