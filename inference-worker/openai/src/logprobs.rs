//! Log-probabilities of tokens, in the shapes of both endpoints.

use serde_json::{json, Map, Value};
use std::collections::BTreeMap;

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
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// Its text, or as OpenAI writes tokens that are parts of characters, such as `bytes:\xe4\xb8`: no two of
    /// those are taken for one another.
    fn key(&self) -> String {
        if let Ok(text) = std::str::from_utf8(&self.bytes) {
            return text.to_owned();
        }
        let mut key = "bytes:".to_owned();
        for byte in &self.bytes {
            match byte {
                b' '..=b'~' if *byte != b'\\' => key.push(char::from(*byte)),
                byte => key.push_str(&format!("\\x{byte:02x}")),
            }
        }
        key
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
        // Different tokens may have the same text all the same. The most probable of them stays: who asks
        // whether the token was the likeliest compares it with the largest of these.
        let mut best: BTreeMap<String, f32> = BTreeMap::new();
        for scored in token.top.iter().chain([&token.token]) {
            let logprob = scored.logprob.unwrap_or(f32::NEG_INFINITY);
            let known = best.entry(scored.key()).or_insert(logprob);
            *known = known.max(logprob);
        }
        let best = best.into_iter();
        let map: Map<String, Value> = best.map(|(key, best)| (key, number(Some(best)))).collect();
        Value::Object(map)
    };
    json!({
        "tokens": tokens.iter().map(|t| t.token.key()).collect::<Vec<_>>(),
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
    fn part(bytes: &[u8], logprob: f32) -> Scored {
        Scored {
            bytes: bytes.into(),
            logprob: Some(logprob),
        }
    }

    /// The token's log-probability, and the largest of those beside it.
    fn compared(tokens: &[TokenLogprobs]) -> (Value, Value, Vec<f64>) {
        let text = of_text(tokens);
        let top = text["top_logprobs"][0].as_object().unwrap();
        let values = top.values().map(|value| value.as_f64().unwrap()).collect();
        (
            text["tokens"][0].clone(),
            text["top_logprobs"][0].clone(),
            values,
        )
    }

    #[test]
    fn tokens_that_are_parts_of_characters_should_not_be_taken_for_one_another() {
        let tokens = [TokenLogprobs {
            token: part(b" \xe5\\", -2.5),
            top: vec![part(b"\xe4\xb8", -0.5), part(b"\xe5", -1.5)],
            offset: 0,
        }];
        let (token, top, _) = compared(&tokens);
        assert_eq!(token, r"bytes: \xe5\x5c");
        assert_eq!(
            top,
            json!({r"bytes: \xe5\x5c": -2.5, r"bytes:\xe4\xb8": -0.5, r"bytes:\xe5": -1.5})
        );
        let chat = of_chat(&tokens);
        assert_eq!(chat["content"][0]["bytes"], json!([32, 0xe5, 92]));
        let top = &chat["content"][0]["top_logprobs"];
        assert_eq!(top[0]["bytes"], json!([0xe4, 0xb8]));
        assert_eq!(top[1]["bytes"], json!([0xe5]));
    }

    #[test]
    fn of_tokens_with_the_same_text_the_likeliest_should_be_told_of() {
        for (own, other) in [(-3.0, -0.5), (-0.5, -3.0)] {
            let tokens = [TokenLogprobs {
                token: scored("a", own),
                top: vec![scored("a", other)],
                offset: 0,
            }];
            let (_, _, values) = compared(&tokens);
            assert_eq!(values, [-0.5]);
        }
    }
}
